//! A packet: a header and a body, or a header and the descriptor of the memory that is the body.
//!
//! | bytes of the header | meaning |
//! |---|---|
//! | 0..4 | `MAGIC`, which tells it from what others write to the socket |
//! | 4..8 | flags: [`FRAME`], [`MEMORY`], [`RECEIPT`] |
//! | 8..16 | length of the body |
//!
//! So no packet is empty, and one of no bytes is the end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::receipt;

/// The longest body of a packet. Longer messages are in memory.
pub(super) const SHORT: usize = 64 << 10;
/// The most descriptors of a packet: `SCM_MAX_FD` of the kernel.
const DESCRIPTORS: usize = 253;
const CONTROL: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS));

const MAGIC: u32 = u32::from_le_bytes(*b"pgm1");
/// The body is a frame: see [`crate::frame`].
pub(super) const FRAME: u32 = 1;
/// The body is in the memory of the first descriptor.
pub(super) const MEMORY: u32 = 2;
/// The last descriptor is for a byte that the receiver writes: see [`super::receipt`].
pub(super) const RECEIPT: u32 = 4;
const HEADER: usize = 16;

pub(super) type Header = [u8; HEADER];

/// A received packet.
pub(super) struct Packet {
    pub(super) is_frame: bool,
    pub(super) body: Body,
    pub(super) descriptors: Vec<OwnedFd>,
}

pub(super) enum Body {
    /// So many bytes of the buffer.
    Short(usize),
    /// Memory of that length.
    Long(OwnedFd, usize),
}

/// Returns the header of a packet whose body has `len` bytes.
pub(super) fn header(flags: u32, len: usize) -> Header {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&flags.to_le_bytes());
    header[8..].copy_from_slice(&(len as u64).to_le_bytes());
    header
}

/// Sends a packet without blocking.
pub(super) fn try_send(
    socket: BorrowedFd<'_>,
    header: &Header,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let parts = [IoSlice::new(header), IoSlice::new(body)];
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOMANYREFS);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(socket, &parts, &mut control, flags) {
        // The peer was closed with something unread, which is reported once.
        Err(Errno::CONNRESET) => sendmsg(socket, &parts, &mut control, flags),
        sent => sent,
    }
    .map(drop)
}

/// Receives a packet without blocking. `None` if it is the end.
///
/// # Errors
///
/// Those of the socket. `BADMSG`: this was no packet. `MFILE`: there was no room for its
/// descriptors, and it is lost.
pub(super) fn try_recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Packet>, Errno> {
    let mut header = [0; HEADER];
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut recv =
        || recvmsg(socket, &mut [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)], &mut control, flags);
    let received = match recv() {
        // The peer was closed with something unread. What it has sent is still there.
        Err(Errno::CONNRESET) => recv(),
        received => received,
    }?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    let (flags, len) = decode(&header, received.bytes).ok_or(Errno::BADMSG)?;
    if flags & RECEIPT != 0 {
        receipt::write(descriptors.pop().ok_or(Errno::BADMSG)?);
    }
    let body = if flags & MEMORY != 0 {
        if descriptors.is_empty() {
            return Err(Errno::BADMSG);
        }
        Body::Long(descriptors.remove(0), len)
    } else if received.bytes == HEADER + len && len <= buffer.len() {
        Body::Short(len)
    } else {
        return Err(Errno::BADMSG);
    };
    Ok(Some(Packet { is_frame: flags & FRAME != 0, body, descriptors }))
}

/// Returns what a header of `received` bytes says: the flags, and the length of the body.
fn decode(header: &Header, received: usize) -> Option<(u32, usize)> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let len = usize::try_from(u64::from(word(12)) << 32 | u64::from(word(8))).ok()?;
    (received >= HEADER && word(0) == MAGIC).then_some((word(4), len))
}
