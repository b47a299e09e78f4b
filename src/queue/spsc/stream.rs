//! Rings of bytes as streams: `std::io::Read` and `std::io::Write`.

use std::io;

use super::{Consumer, Producer};
use crate::queue::error::{RecvError, SendError};
use crate::sys::clock::Deadline;
use crate::Error;

/// Reads the bytes of a ring as a stream.
///
/// Blocks until there is at least one byte. After the producer has closed or died, and everything
/// was read, `read` returns 0. The error of a forked child converts from [`Error`].
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (mut producer, mut consumer) = pagemate::spsc::<u8>(16)?;
/// let writer = std::thread::spawn(move || producer.write_all(b"longer than the ring is"));
/// let mut text = String::new();
/// consumer.read_to_string(&mut text)?;
/// assert_eq!(text, "longer than the ring is");
/// # writer.join().unwrap()
/// # }
/// ```
impl io::Read for Consumer<u8> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.recv_slice(into) {
            Err(RecvError::Closed) => Ok(0),
            done => done.map_err(|error| Error::from(error).into()),
        }
    }
}

/// Writes bytes to a ring as a stream.
///
/// Blocks until there is room for at least one byte, and sends those that there is room for. After
/// the consumer has closed or died, the error is `BrokenPipe`. `flush` has nothing to do, because
/// each write is a publication.
impl io::Write for Producer<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.try_send_batch(bytes) {
                Err(SendError::Full(())) => self.wait_until_writable()?,
                done => return done.map_err(|error| Error::from(error).into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Producer<u8> {
    fn wait_until_writable(&mut self) -> io::Result<()> {
        let waited = self.wait_for_room(Deadline::Never);
        waited.map_err(|blocked| Error::from(blocked.into_send_error(())).into())
    }
}
