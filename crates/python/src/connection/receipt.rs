//! Receipts: the sender of a very long message waits until it was received, as it would with a pipe
//! that has no room for so much. So there is one such message of each sender at a time.
//!
//! The receipt is a byte through a pair of sockets, one of which goes with the message.
//!
//! | the sender sees | it means |
//! |---|---|
//! | the byte | received |
//! | the end, while the connection is open | received by a process that has died since |
//! | the end, or nothing, while the connection is broken | nobody will receive it |
//! | nothing, but nothing is under way in the connection | as the second; a fork has copied that socket |

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use pyo3::PyResult;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::ioctl::{ioctl, Getter};
use rustix::net::{recv, send, socketpair, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{poll_for, system};

/// `SIOCOUTQ`: bytes that were sent and not received.
const OUTQ: rustix::ioctl::Opcode = 0x5411;

/// A receipt that is waited for.
pub(super) struct Receipt(OwnedFd);

impl Receipt {
    /// Creates a receipt. The second descriptor goes with the message.
    pub(super) fn new() -> Result<(Receipt, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok((Receipt(ours), theirs))
    }

    /// Waits for the receipt of the message that was sent through this socket, for at most `slice`.
    pub(super) fn wait(&self, socket: BorrowedFd<'_>, slice: Duration) -> PyResult<Option<()>> {
        let has_come = !poll_for(&self.0, PollFlags::IN, slice)?.is_empty();
        if has_come && recv(&self.0, &mut [0], RecvFlags::empty()).is_ok_and(|(_, len)| len == 1) {
            return Ok(Some(()));
        }
        if poll_for(socket, PollFlags::empty(), Duration::ZERO)?.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(system(Errno::PIPE));
        }
        // SAFETY: this request stores an int.
        let unread = unsafe { ioctl(socket, Getter::<OUTQ, i32>::new()) }.map_err(system)?;
        Ok((has_come || unread == 0).then_some(()))
    }
}

/// Writes a receipt. It does not matter if nobody waits for it any more.
pub(super) fn write(receipt: OwnedFd) {
    let _ = send(&receipt, &[1], SendFlags::NOSIGNAL);
}
