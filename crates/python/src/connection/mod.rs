//! Connections: messages through a pair of sockets (`AF_UNIX`, `SOCK_SEQPACKET`).
//!
//! A message is one packet ([`packet`]), so the kernel keeps the boundaries: a process that dies
//! while it writes leaves no half of a message, and several readers or writers of one end tear
//! nothing. There is no lock. What is in the pair is gone with its last descriptor. A message that
//! is too long for a packet is memory of its own ([`large`]), whose descriptor is in the packet.
//!
//! # Death
//!
//! | window | repaired by | lost |
//! |---|---|---|
//! | writing the memory of a long message | the kernel frees it | the message, which is not sent |
//! | sending a packet | the kernel sends all of it or nothing | nothing |
//! | sent, not received | the kernel keeps it, with its memory and descriptors | nothing |
//! | waiting for a receipt | not needed: the message is sent | nothing |
//! | received, not unpickled | the kernel frees its memory | the message, as with any pipe |
//! | received, in use | the kernel frees its memory | nothing |
//!
//! When the last process that has an end is dead, the others are told at once: a reader by the end,
//! a writer by EPIPE.

mod large;
mod packet;
mod receipt;

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use pyo3::exceptions::{PyEOFError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{shutdown, socketpair, AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::buffer::{export, new_bytes, Bytes};
use crate::error::system;
use crate::frame::Frame;
use crate::passing::collect;
use crate::pickle::Pickled;
use crate::views::{self, Views};
use crate::wait::{wait, Timeout};
use large::Mapping;
use packet::{header, try_recv, try_send, Body, Header, Packet, FRAME, MEMORY, RECEIPT, SHORT};
use receipt::Receipt;

/// What the kernel may keep for one direction. It allows at most `net.core.wmem_max`.
const ROOM: usize = 256 << 10;
/// A packet takes at least so much of that if its message is in memory. So a writer that is faster
/// than its reader waits after a few long messages, and does not fill the memory with them.
const LONG_ROOM: usize = 32 << 10;
/// The sender of a longer message waits until it was received.
const VERY_LONG: usize = 1 << 20;

/// Creates a pair of connected sockets. Unless it is `duplex`, the first only reads.
#[pyfunction]
pub(crate) fn pipe_pair(duplex: bool) -> PyResult<(RawFd, RawFd)> {
    let kind = SocketType::SEQPACKET;
    let (first, second) =
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(system)?;
    for socket in [&first, &second] {
        set_socket_send_buffer_size(socket, ROOM).map_err(system)?;
    }
    if !duplex {
        shutdown(&first, Shutdown::Write).map_err(system)?;
    }
    Ok((first.into_raw_fd(), second.into_raw_fd()))
}

/// Sends an object. Blocks while there is no room.
#[pyfunction]
pub(crate) fn pipe_send(handle: RawFd, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let socket = borrow(handle)?;
    let (pickled, descriptors) = collect(true, || Pickled::new(object))?;
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    send(object.py(), socket, &Frame::new(pickled.parts(), pickled.buffers()), &descriptors)
}

/// Sends bytes. Blocks while there is no room.
#[pyfunction]
pub(crate) fn pipe_send_bytes(py: Python<'_>, handle: RawFd, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes = Bytes::of(bytes)?;
    let frame = Frame::new(std::iter::once(bytes.as_slice()), std::iter::empty());
    send(py, borrow(handle)?, &frame, &[])
}

/// Sends a message, with descriptors.
fn send(
    py: Python<'_>,
    socket: BorrowedFd<'_>,
    frame: &Frame<'_>,
    descriptors: &[BorrowedFd<'_>],
) -> PyResult<()> {
    let flags = if frame.has_buffers() { FRAME } else { 0 };
    let len = frame.len();
    if len <= SHORT {
        let is_sent = match frame.only_part() {
            Some(part) => send_packet(py, socket, &header(flags, len), part, descriptors)?,
            None => {
                let mut body = vec![0; len];
                frame.write(&mut body);
                send_packet(py, socket, &header(flags, len), &body, descriptors)?
            }
        };
        if is_sent {
            return Ok(());
        }
    }
    let file = large::create(py, frame.parts())?;
    let receipt = (len > VERY_LONG).then(Receipt::new).transpose().map_err(system)?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    let Some((receipt, token)) = receipt else {
        return send_long(py, socket, &header(flags | MEMORY, len), &all);
    };
    all.push(token.as_fd());
    send_long(py, socket, &header(flags | MEMORY | RECEIPT, len), &all)?;
    drop(all);
    drop(token);
    wait(py, Timeout::new(true, None), |slice| receipt.wait(socket, slice)).map(drop)
}

/// Sends the packet of a message that is in memory.
fn send_long(
    py: Python<'_>,
    socket: BorrowedFd<'_>,
    header: &Header,
    descriptors: &[BorrowedFd<'_>],
) -> PyResult<()> {
    let is_sent = send_packet(py, socket, header, &[0; LONG_ROOM], descriptors)?
        // Without the rest, if the kernel's room is very small.
        || send_packet(py, socket, header, &[], descriptors)?;
    if is_sent {
        Ok(())
    } else {
        Err(system(Errno::MSGSIZE))
    }
}

/// Sends a packet. Returns false if it is too long for this socket.
fn send_packet(
    py: Python<'_>,
    socket: BorrowedFd<'_>,
    header: &Header,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> PyResult<bool> {
    let attempt = |slice: Duration| {
        if !slice.is_zero() {
            wait_until_ready(socket, PollFlags::OUT, slice)?;
        }
        match try_send(socket, header, body, descriptors) {
            Ok(()) => Ok(Some(true)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::MSGSIZE) => Ok(Some(false)),
            // Too many descriptors of this user are in sockets. Some will be received.
            Err(Errno::TOOMANYREFS) => {
                std::thread::sleep(slice / 50);
                Ok(None)
            }
            Err(error) => Err(system(error)),
        }
    };
    wait(py, Timeout::new(true, None), attempt).map(|sent| sent == Some(true))
}

/// A message, the buffers of a pickle, and descriptors.
type Received<'py> = (Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>, Vec<RawFd>);

/// Receives a message. Blocks while there is none. A message without buffers comes as bytes if
/// `copies`, else as something whose bytes can be read. Returns None if it is longer than `most`.
#[pyfunction]
pub(crate) fn pipe_recv(
    py: Python<'_>,
    handle: RawFd,
    copies: bool,
    most: Option<usize>,
) -> PyResult<Option<Received<'_>>> {
    let socket = borrow(handle)?;
    with_buffer(|buffer| {
        let attempt = |slice: Duration| {
            if !slice.is_zero() {
                wait_until_ready(socket, PollFlags::IN, slice)?;
            }
            match try_recv(socket, buffer) {
                Ok(Some(packet)) => Ok(Some(packet)),
                Ok(None) => Err(PyEOFError::new_err(())),
                Err(Errno::AGAIN | Errno::INTR) => Ok(None),
                Err(error) => Err(system(error)),
            }
        };
        let Some(packet) = wait(py, Timeout::new(true, None), attempt)? else { return Ok(None) };
        let Packet { is_frame, body, descriptors } = packet;
        let len = match body {
            Body::Short(len) | Body::Long(_, len) => len,
        };
        if most.is_some_and(|most| len > most) {
            return Ok(None);
        }
        let (message, buffers) = match body {
            Body::Short(len) if is_frame => views::of_copy(py, &buffer[..len])?,
            Body::Short(len) => (PyBytes::new(py, &buffer[..len]).into_any(), Vec::new()),
            Body::Long(file, len) => take_long(py, &file, len, is_frame, copies)?,
        };
        let descriptors = descriptors.into_iter().map(IntoRawFd::into_raw_fd).collect();
        Ok(Some((message, buffers, descriptors)))
    })
}

/// Returns a message that is in memory.
fn take_long<'py>(
    py: Python<'py>,
    file: &OwnedFd,
    len: usize,
    is_frame: bool,
    copies: bool,
) -> PyResult<Views<'py>> {
    large::check(file.as_fd(), len).map_err(system)?;
    if copies && !is_frame {
        let bytes = new_bytes(py, len, |bytes| large::copy(py, file, bytes))?;
        return Ok((bytes.into_any(), Vec::new()));
    }
    let mapping = Mapping::new(file, len).map_err(system)?;
    let bytes = mapping.bytes();
    if is_frame {
        // SAFETY: the mapping keeps the bytes, and nobody writes there.
        return unsafe { views::of_frame(py, bytes, Box::new(mapping)) };
    }
    // SAFETY: as above.
    Ok((unsafe { export(py, bytes, Box::new(mapping)) }?, Vec::new()))
}

/// Returns whether there is something to receive, or the end, within the time.
#[pyfunction]
pub(crate) fn pipe_poll(py: Python<'_>, handle: RawFd, timeout: Option<f64>) -> PyResult<bool> {
    let socket = borrow(handle)?;
    let attempt = |slice| Ok(wait_until_ready(socket, PollFlags::IN, slice)?.then_some(()));
    Ok(wait(py, Timeout::new(true, timeout), attempt)?.is_some())
}

/// Waits for at most `slice`, and less if a signal arrives. Returns whether the socket is ready.
fn wait_until_ready(socket: BorrowedFd<'_>, events: PollFlags, slice: Duration) -> PyResult<bool> {
    poll_for(socket, events, slice).map(|signs| !signs.is_empty())
}

/// Waits like [`wait_until_ready`]. Returns what was reported.
fn poll_for(file: impl AsFd, events: PollFlags, slice: Duration) -> PyResult<PollFlags> {
    let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), events)];
    let slice = Timespec { tv_sec: slice.as_secs() as i64, tv_nsec: slice.subsec_nanos().into() };
    match poll(&mut polled, Some(&slice)) {
        Ok(_) if polled[0].revents().contains(PollFlags::NVAL) => Err(system(Errno::BADF)),
        Ok(_) => Ok(polled[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(system(error)),
    }
}

fn borrow<'a>(handle: RawFd) -> PyResult<BorrowedFd<'a>> {
    if handle < 0 {
        return Err(PyValueError::new_err(format!("{handle} is no descriptor")));
    }
    // SAFETY: it is not -1. The caller has it open; if not, the kernel says so.
    Ok(unsafe { BorrowedFd::borrow_raw(handle) })
}

/// Calls `f` with the thread's room for the body of a packet. A signal handler that receives
/// meanwhile gets another one.
fn with_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local!(static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) });
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SHORT].into());
    let result = f(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
