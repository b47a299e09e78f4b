//! One end of a pipe in both directions.

use std::time::{Duration, Instant};

use super::reader::Luggage;
use super::{init, shape, Frame, PipeError, PipeReader, PipeWriter, Way, CAPACITY};
use crate::message::Message;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::Place;
use crate::Result;

/// Creates a pipe in both directions that only its two ends lead to, with room for 64 KiB each way. Either
/// end can be given to another thread or to a child process.
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

/// [`pipe`] with room for `capacity` bytes each way, rounded up to a power of two. Longer messages go in
/// parts.
///
/// # Errors
///
/// `InvalidInput` (more than a gigabyte), `OutOfMemory`, `System` (too many open files).
pub fn pipe_with_capacity(capacity: usize) -> Result<(Connection, Connection)> {
    let frame = Frame::new(Place::anonymous(&shape(capacity, true)?, init(capacity, true))?, true)?;
    Ok((Connection::creator(frame.clone())?, Connection::opener(frame)?))
}

/// One end of a pipe in both directions.
///
/// Not `Clone`, and its methods take `&mut self`: an end has one user. [`split`](Connection::split) gives its
/// two halves to two threads. Dropping it is the end of file for the other end, after everything that was
/// sent.
///
/// Messages are taken in the order in which they were sent. [`recv`](Connection::recv) takes what was sent
/// with [`send`](Connection::send) and has the same layout; [`recv_bytes`](Connection::recv_bytes) takes
/// anything.
///
/// # Examples
///
/// Two programs that disagree get an error that shows both layouts, and the message stays:
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

/// Methods of a half, on the whole.
macro_rules! delegate {
    ($half:ident, $($(#[$doc:meta])* fn $name:ident $(<$type:ident>)? ($($arg:ident: $of:ty),*) -> $gives:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name $(<$type: Message>)? (&mut self, $($arg: $of),*) -> Result<$gives, PipeError> {
            self.$half.$name $(::<$type>)? ($($arg),*)
        }
    )*};
}

impl Connection {
    /// Creates a pipe and becomes the creator's end. The other end is vacant; sends wait for it once the pipe
    /// is full.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Connection> {
        Connection::create_with_capacity(place, CAPACITY)
    }

    /// [`create`](Connection::create) with room for `capacity` bytes each way, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Connection::create), and `InvalidInput` for more than a gigabyte.
    pub fn create_with_capacity(place: impl Into<Place>, capacity: usize) -> Result<Connection> {
        Connection::creator(Frame::create(place.into(), capacity, true)?)
    }

    /// Opens a pipe that another process has created and becomes the other end.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has both ends), `Closed` (it had), `TypeMismatch` (it is something else,
    /// or goes in one direction), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Connection> {
        Connection::opener(Frame::open(place.into(), true)?)
    }

    // The role on the way there decides whose the end is, so it is taken first.

    fn creator(frame: Frame) -> Result<Connection> {
        let writer = PipeWriter::take(frame.clone(), Way::There)?;
        Ok(Connection { reader: PipeReader::take(frame, Way::Back)?, writer })
    }

    fn opener(frame: Frame) -> Result<Connection> {
        let reader = PipeReader::take(frame.clone(), Way::There)?;
        Ok(Connection { reader, writer: PipeWriter::take(frame, Way::Back)? })
    }

    pub(crate) fn reader(&self) -> &PipeReader {
        &self.reader
    }

    /// The two halves, for two threads. Dropping one of them closes its direction only.
    pub fn split(self) -> (PipeReader, PipeWriter) {
        (self.reader, self.writer)
    }

    delegate! { writer,
        /// Sends a message; waits while there is no room.
        ///
        /// # Errors
        ///
        /// `Closed`: nobody will receive it.
        fn send<T>(message: &T) -> ();

        /// Sends a message if there is room now.
        ///
        /// # Errors
        ///
        /// `TimedOut`: there is no room. `TooLarge`: there never is. `Closed`: nobody will receive it.
        fn try_send<T>(message: &T) -> ();

        /// Sends a message; waits while there is no room, for `timeout` at most.
        ///
        /// # Errors
        ///
        /// `TimedOut`: there was no room. The receiver will not see a part of the message. `Closed`: nobody
        /// will receive it.
        fn send_timeout<T>(message: &T, timeout: Duration) -> ();

        /// Sends a message; waits while there is no room, until `deadline` at most.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_deadline<T>(message: &T, deadline: Instant) -> ();

        /// Sends bytes; waits while there is no room. Longer ones than the pipe has room for go in parts.
        ///
        /// # Errors
        ///
        /// `Closed`: nobody will receive them.
        fn send_bytes(bytes: &[u8]) -> ();

        /// Sends bytes if there is room now.
        ///
        /// # Errors
        ///
        /// As [`try_send`](Connection::try_send).
        fn try_send_bytes(bytes: &[u8]) -> ();

        /// Sends bytes; waits while there is no room, for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_bytes_timeout(bytes: &[u8], timeout: Duration) -> ();

        /// Sends bytes; waits while there is no room, until `deadline` at most.
        ///
        /// # Errors
        ///
        /// As [`send_timeout`](Connection::send_timeout).
        fn send_bytes_deadline(bytes: &[u8], deadline: Instant) -> ();
    }

    delegate! { reader,
        /// Receives a message of type `T`; waits for it.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file. `TypeMismatch`: the next message has another layout; it stays and can be
        /// received as what it is.
        fn recv<T>() -> T;

        /// Receives a message of type `T` if one is there now.
        ///
        /// # Errors
        ///
        /// As [`recv`](Connection::recv); `TimedOut`: there is none.
        fn try_recv<T>() -> T;

        /// Receives a message of type `T`; waits for it, for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As [`try_recv`](Connection::try_recv).
        fn recv_timeout<T>(timeout: Duration) -> T;

        /// Receives a message of type `T`; waits for it, until `deadline` at most.
        ///
        /// # Errors
        ///
        /// As [`try_recv`](Connection::try_recv).
        fn recv_deadline<T>(deadline: Instant) -> T;

        /// Receives the bytes of the next message, whatever it was sent as; waits for it.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file.
        fn recv_bytes() -> Vec<u8>;

        /// Receives the bytes of the next message if one is there now.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file. `TimedOut`: there is none.
        fn try_recv_bytes() -> Vec<u8>;

        /// Receives the bytes of the next message; waits for it, for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As [`try_recv_bytes`](Connection::try_recv_bytes).
        fn recv_bytes_timeout(timeout: Duration) -> Vec<u8>;

        /// Receives the bytes of the next message; waits for it, until `deadline` at most.
        ///
        /// # Errors
        ///
        /// As [`try_recv_bytes`](Connection::try_recv_bytes).
        fn recv_bytes_deadline(deadline: Instant) -> Vec<u8>;

        /// Receives the bytes of the next message into `buffer` without allocating; waits for it. Says how
        /// many bytes they are.
        ///
        /// # Errors
        ///
        /// `Closed`: end of file. `BufferTooShort`: the message is longer than the buffer; it has been
        /// received, and the error has all of it.
        fn recv_bytes_into(buffer: &mut [u8]) -> usize;

        /// Whether a receive would not wait: a whole message is there, or the end of file. Waits for that,
        /// for `timeout` at most; not at all if it is zero.
        ///
        /// # Errors
        ///
        /// `Corrupted`, `NotInThisProcess`.
        fn poll(timeout: Duration) -> bool;
    }

    /// Whether the other end has closed or died; there may be messages left. Stays true; false may be wrong
    /// the moment after.
    pub fn is_closed(&self) -> bool {
        self.reader.is_closed() && self.writer.is_closed()
    }

    /// Closes this end: the other one gets the end of file after everything that was sent. The same as
    /// dropping.
    pub fn close(self) {}

    /// Gives the end to the process that `seat` finds a place for, and what was read but not received.
    pub(crate) fn into_child(
        self,
        seat: impl FnOnce(&ObjectRef) -> Result<OwnerId>,
    ) -> Result<(Luggage, Way)> {
        let child = seat(self.reader.object())?;
        // Both halves are of one object; the deciding role goes first, as in taking.
        let (reader, writer) = self.split();
        if reader.way() == Way::There {
            let luggage = reader.into_child(|_| Ok(child))?;
            Ok((luggage, writer.into_child(|_| Ok(child))?))
        } else {
            let way = writer.into_child(|_| Ok(child))?;
            Ok((reader.into_child(|_| Ok(child))?, way))
        }
    }

    /// In a child: the roles that its parent handed over.
    pub(crate) fn from_parent(frame: Frame, luggage: Luggage, way: Way) -> Result<Connection> {
        let writer = PipeWriter::from_parent(frame.clone(), way)?;
        Ok(Connection { reader: PipeReader::from_parent(frame, luggage)?, writer })
    }
}
