//! One end of a pipe in both directions.

use std::time::{Duration, Instant};

use super::reader::ReaderState;
use crate::message::Message;
use crate::pipe::state::{Direction, Directions, Rings, CAPACITY};
use crate::pipe::{PipeError, PipeReader, PipeWriter};
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::Place;
use crate::Result;

/// Creates an anonymous pipe in both directions, with room for 64 KiB in each. Either end can be
/// moved to another thread or passed to a child process.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut here, mut there) = pagemate::pipe()?;
/// std::thread::spawn(move || {
///     let n: u64 = there.recv().unwrap();
///     there.send(&(n + 1)).unwrap();
///     there.send_bytes(b"that was all").unwrap();
/// });
/// here.send(&41u64)?;
/// assert_eq!(here.recv::<u64>()?, 42);
/// assert_eq!(here.recv_bytes()?, b"that was all");
/// assert!(here.recv_bytes().unwrap_err().is_closed()); // end of file
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `OutOfMemory`, `System` (too many open files).
pub fn pipe() -> Result<(Connection, Connection)> {
    pipe_with_capacity(CAPACITY)
}

/// Creates a pipe like [`pipe`] with room for `capacity` bytes in each direction, rounded up to a
/// power of two. Longer messages are sent in parts.
///
/// # Errors
///
/// `InvalidInput` (more than a gigabyte), `OutOfMemory`, `System` (too many open files).
pub fn pipe_with_capacity(capacity: usize) -> Result<(Connection, Connection)> {
    let rings = Rings::new(Directions { capacity, is_duplex: true })?;
    Ok((Connection::creator(rings.clone())?, Connection::opener(rings)?))
}

/// One end of a pipe in both directions.
///
/// Not `Clone`, and its methods take `&mut self`, because an end has one user.
/// [`split`](Connection::split) makes two halves for two threads. Dropping an end is the end of
/// file for the other one, after everything that was sent. In a child made by `fork` its calls
/// return `NotInThisProcess`, because it stays with the parent.
///
/// Messages are received in the order in which they were sent. [`recv`](Connection::recv) receives
/// what was sent with [`send`](Connection::send) and has the same layout.
/// [`recv_bytes`](Connection::recv_bytes) receives any message.
///
/// # Examples
///
/// If two programs disagree on the type, the error shows both layouts and the message stays:
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut a, mut b) = pagemate::pipe()?;
/// a.send(&[1.0f32, 2.0])?;
/// let error = b.recv::<[f64; 2]>().unwrap_err().to_string();
/// assert!(error.contains("[f32; 2]") && error.contains("[f64; 2]"));
/// assert_eq!(b.recv::<[f32; 2]>()?, [1.0, 2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    reader: PipeReader,
    writer: PipeWriter,
}

/// Forwards the methods of one half.
macro_rules! delegate {
    (
        $half:ident,
        $($(#[$doc:meta])* fn $name:ident $(<$type:ident>)? ($($arg:ident: $of:ty),*) -> $result:ty;)*
    ) => {$(
        $(#[$doc])*
        pub fn $name $(<$type: Message>)? (&mut self, $($arg: $of),*) -> Result<$result, PipeError> {
            self.$half.$name $(::<$type>)? ($($arg),*)
        }
    )*};
}

impl Connection {
    /// Creates a pipe and becomes the creator's end. The other end is vacant. Once the pipe is
    /// full, sends wait for an opener.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Connection> {
        Connection::create_with_capacity(place, CAPACITY)
    }

    /// Creates a pipe like [`create`](Connection::create) with room for `capacity` bytes in each
    /// direction, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Connection::create), and `InvalidInput` for more than a gigabyte.
    pub fn create_with_capacity(place: impl Into<Place>, capacity: usize) -> Result<Connection> {
        Connection::creator(Rings::create(place, Directions { capacity, is_duplex: true })?)
    }

    /// Opens a pipe that another process has created, and becomes the other end.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has both ends), `Closed` (it had), `TypeMismatch` (it is
    /// something else, or goes in one direction), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Connection> {
        Connection::opener(Rings::open(place)?.checked(true)?)
    }

    // The role in direction `There` decides which process has the end, so it is taken first.

    fn creator(rings: Rings) -> Result<Connection> {
        let writer = PipeWriter::take(rings.clone(), Direction::There)?;
        Ok(Connection { reader: PipeReader::take(rings, Direction::Back)?, writer })
    }

    fn opener(rings: Rings) -> Result<Connection> {
        let reader = PipeReader::take(rings.clone(), Direction::There)?;
        Ok(Connection { reader, writer: PipeWriter::take(rings, Direction::Back)? })
    }

    pub(crate) fn reader(&self) -> &PipeReader {
        &self.reader
    }

    /// Splits the end into two halves, for two threads. Dropping one half closes its direction
    /// only.
    pub fn split(self) -> (PipeReader, PipeWriter) {
        (self.reader, self.writer)
    }

    delegate! { writer,
        /// Sends a message. Blocks while there is no room.
        ///
        /// # Errors
        ///
        /// `Closed`: nobody will receive it. `Corrupted`, `NotInThisProcess`.
        fn send<T>(message: &T) -> ();

        /// Sends a message if there is room now.
        ///
        /// # Errors
        ///
        /// Those of [`send`](Connection::send); `TimedOut`: there is no room; `TooLarge`: there
        /// never is.
        fn try_send<T>(message: &T) -> ();

        /// Sends a message. Blocks while there is no room, for at most `timeout`.
        ///
        /// # Errors
        ///
        /// Those of [`send`](Connection::send), and `TimedOut`: there was no room. The receiver
        /// will not see a part of the message.
        fn send_timeout<T>(message: &T, timeout: Duration) -> ();

        /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_deadline<T>(message: &T, deadline: Instant) -> ();

        /// Sends bytes. Blocks while there is no room. Bytes that exceed the pipe's capacity are
        /// sent in parts.
        ///
        /// # Errors
        ///
        /// `Closed`: nobody will receive them. `Corrupted`, `NotInThisProcess`.
        fn send_bytes(bytes: &[u8]) -> ();

        /// Sends bytes if there is room now.
        ///
        /// # Errors
        ///
        /// As [`try_send`](Connection::try_send).
        fn try_send_bytes(bytes: &[u8]) -> ();

        /// Sends bytes. Blocks while there is no room, for at most `timeout`.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_bytes_timeout(bytes: &[u8], timeout: Duration) -> ();

        /// Sends bytes. Blocks while there is no room, until `deadline` at the latest.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_bytes_deadline(bytes: &[u8], deadline: Instant) -> ();
    }

    delegate! { reader,
        /// Receives a message of type `T`. Blocks until there is one.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file. `TypeMismatch`: the next message has another layout. It stays and
        /// can be received as the type that it has. `Corrupted`, `NotInThisProcess`.
        fn recv<T>() -> T;

        /// Receives a message of type `T` if one is there now.
        ///
        /// # Errors
        ///
        /// Those of [`recv`](Connection::recv), and `TimedOut`: there is no message.
        fn try_recv<T>() -> T;

        /// Receives a message of type `T`. Blocks until there is one, for at most `timeout`.
        ///
        /// # Errors
        ///
        /// As [`try_recv`](Connection::try_recv).
        fn recv_timeout<T>(timeout: Duration) -> T;

        /// Receives a message of type `T`. Blocks until there is one, until `deadline` at the
        /// latest.
        ///
        /// # Errors
        ///
        /// As [`try_recv`](Connection::try_recv).
        fn recv_deadline<T>(deadline: Instant) -> T;

        /// Receives the bytes of the next message, of whatever type. Blocks until there is one.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file. `Corrupted`, `NotInThisProcess`.
        fn recv_bytes() -> Vec<u8>;

        /// Receives the bytes of the next message if one is there now.
        ///
        /// # Errors
        ///
        /// Those of [`recv_bytes`](Connection::recv_bytes), and `TimedOut`: there is no message.
        fn try_recv_bytes() -> Vec<u8>;

        /// Receives the bytes of the next message. Blocks until there is one, for at most
        /// `timeout`.
        ///
        /// # Errors
        ///
        /// As [`try_recv_bytes`](Connection::try_recv_bytes).
        fn recv_bytes_timeout(timeout: Duration) -> Vec<u8>;

        /// Receives the bytes of the next message. Blocks until there is one, until `deadline` at
        /// the latest.
        ///
        /// # Errors
        ///
        /// As [`try_recv_bytes`](Connection::try_recv_bytes).
        fn recv_bytes_deadline(deadline: Instant) -> Vec<u8>;

        /// Receives the bytes of the next message into `buffer`. Blocks until there is one. Returns
        /// the number of bytes. Allocates nothing if the buffer is long enough, even for a message
        /// that arrives in parts.
        ///
        /// # Errors
        ///
        /// Those of [`recv_bytes`](Connection::recv_bytes), and `BufferTooShort`: the message is
        /// longer than the buffer. It has been received, and the error contains it.
        fn recv_bytes_into(buffer: &mut [u8]) -> usize;

        /// Blocks until a receive would not block, for at most `timeout`, and returns whether that
        /// is so: a complete message or the end of file has arrived. Does not block if `timeout` is
        /// zero.
        ///
        /// # Errors
        ///
        /// `Corrupted`, `NotInThisProcess`.
        fn wait_readable(timeout: Duration) -> bool;
    }

    /// Returns whether the other end has closed or died. There may still be messages. True stays
    /// true. False can turn true immediately.
    pub fn is_closed(&self) -> bool {
        self.reader.is_closed() && self.writer.is_closed()
    }

    /// Closes this end: the other one gets the end of file after everything that was sent. The same
    /// as dropping.
    ///
    /// Returns true if this call closed it. False in a forked child, where the handle is a copy and
    /// closes nothing.
    pub fn close(self) -> bool {
        let (reader, writer) = self.split();
        // Both, whatever the first returns.
        reader.close() & writer.close()
    }

    /// Hands the end to the child process that `register` adds, and returns what was read but not
    /// received.
    pub(crate) fn into_child(
        self,
        register: impl FnOnce(&ObjectRef) -> Result<OwnerId>,
    ) -> Result<(ReaderState, Direction)> {
        let child = register(self.reader.object())?;
        // Both halves are of one object. The deciding role goes first, as in taking.
        let (reader, writer) = self.split();
        if reader.direction() == Direction::There {
            let state = reader.into_child(|_| Ok(child))?;
            Ok((state, writer.into_child(|_| Ok(child))?))
        } else {
            let direction = writer.into_child(|_| Ok(child))?;
            Ok((reader.into_child(|_| Ok(child))?, direction))
        }
    }

    /// Creates, in a child, the handle of the roles that its parent handed over.
    pub(crate) fn from_parent(rings: Rings, state: ReaderState, direction: Direction) -> Result<Connection> {
        let writer = PipeWriter::from_parent(rings.clone(), direction)?;
        Ok(Connection { reader: PipeReader::from_parent(rings, state)?, writer })
    }
}
