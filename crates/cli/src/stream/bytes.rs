//! Bytes from one sender to one receiver, through a ring of chunks: read(2) writes into the ring,
//! write(2) reads from it.
//!
//! # End
//!
//! The sender marks the last chunk. The receiver writes everything up to it and acknowledges it,
//! and the sender waits for that. So either both succeed, or both know that they failed. A process
//! that dies or gives up has a role in the rings, and the other side sees that role end. A role
//! cannot be taken a second time, so no other process continues in the middle of a stream.

use pagemate::queue::spsc::{self, Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::{inspect, ErrorKind, Message, Origin};

use super::{join, Mode, DAMAGED, TICK};
use crate::location::Location;
use crate::progress::Progress;
use crate::stdio::{Input, Output, Written};
use crate::{interrupt, Failure, Outcome};

const DATA: &str = "bytes";
const RECEIPT: &str = "receipt";
/// The names of the stream's objects.
pub(super) const OBJECTS: [&str; 2] = [DATA, RECEIPT];

/// The number of bytes of a chunk, and of chunks of the ring. Together they fit into the
/// second-level caches of two cores, where both sides find them again. Larger chunks gain nothing,
/// smaller ones cost system calls.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 8;

/// The total length while it is unknown.
const UNKNOWN: u64 = u64::MAX;

/// A part of the stream.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Chunk {
    /// The offset of this part in the stream.
    offset: u64,
    /// The length of the stream, if its sender knows it.
    total: u64,
    /// The number of bytes in use.
    len: u32,
    /// 1: the end of the stream.
    last: u32,
    _pad: [u8; 40],
    bytes: [u8; CHUNK],
}

const SENDER_GONE: &str =
    "the sender died or gave up before the end of the stream: not all bytes were received";
const RECEIVER_GONE: &str = "the receiver died or gave up before the end of the stream";

pub(crate) fn send(name: &str, location: &Location, progress: bool) -> Outcome {
    let mut input = Input::open()?;
    let total = input.len();
    let mut progress = Progress::new(progress, total);
    let (mut data, mut receipt) = join(name, location, Mode::Bytes, |segment| {
        let data = role(name, "sender", Producer::open_or_create(segment.at(DATA), CHUNKS))?;
        let receipt = role(name, "sender", Consumer::open_or_create(segment.at(RECEIPT), 1))?;
        Ok(data.zip(receipt))
    })?;
    let mut offset = 0;
    loop {
        let mut chunk = next_free(&mut data, &receipt)?;
        let count = input.read(&mut chunk.bytes, || check_receiver(&mut receipt, name, location))?;
        chunk.offset = offset;
        chunk.total = total.unwrap_or(UNKNOWN);
        chunk.len = count as u32;
        chunk.last = u32::from(count == 0);
        chunk.send();
        progress.add(count);
        offset += count as u64;
        if count == 0 {
            break;
        }
    }
    // A process that arrives now finds a stream that has ended, and waits until it is gone.
    drop(data);
    wait_for_receipt(&mut receipt, offset)?;
    progress.finish()
}

pub(crate) fn receive(name: &str, location: &Location, progress: bool) -> Outcome {
    let mut output = Output::open()?;
    let mut progress = Progress::new(progress, None);
    let (mut data, mut receipt) = join(name, location, Mode::Bytes, |segment| {
        // In this order, because a sender that sees no receiver any more checks the receipt.
        let receipt = role(name, "receiver", Producer::open_or_create(segment.at(RECEIPT), 1))?;
        let data = role(name, "receiver", Consumer::open_or_create(segment.at(DATA), CHUNKS))?;
        Ok(data.zip(receipt))
    })?;
    let mut offset = 0;
    loop {
        interrupt::check()?;
        let chunk: spsc::Received<'_, Chunk> = match data.recv_ref_timeout(TICK) {
            Ok(chunk) => chunk,
            Err(RecvError::Empty) => continue,
            Err(RecvError::Closed) => return Err(SENDER_GONE.into()),
            Err(error) => return Err(error.into()),
        };
        let bytes = chunk.bytes.get(..chunk.len as usize).ok_or(DAMAGED)?;
        if chunk.offset != offset {
            return Err(DAMAGED.into());
        }
        if offset == 0 && chunk.total != UNKNOWN {
            progress.set_total(chunk.total);
        }
        if output.write(bytes)? == Written::BrokenPipe {
            return Ok(());
        }
        progress.add(bytes.len());
        offset += bytes.len() as u64;
        if chunk.last != 0 {
            break;
        }
    }
    drop(data);
    output.finish()?;
    // Everything is written, whether or not the sender still reads the receipt.
    let _ = receipt.try_send(offset);
    progress.finish()
}

/// Takes a role in a ring of the stream. `None` if the role is over, and so is the stream.
fn role<R>(name: &str, role: &str, taken: pagemate::Result<(R, Origin)>) -> Result<Option<R>, Failure> {
    match taken {
        Ok((ring, _)) => Ok(Some(ring)),
        Err(error) if error.kind() == ErrorKind::Closed => Ok(None),
        Err(error) if error.kind() == ErrorKind::RoleTaken => {
            Err(format!("{name:?} has a {role} already; for several use --lines on all sides").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn next_free<'a>(
    data: &'a mut Producer<Chunk>,
    receipt: &Consumer<u64>,
) -> Result<spsc::Loan<'a, Chunk>, Failure> {
    // Once there is room it stays, because there is no other producer.
    while data.is_full() {
        interrupt::check()?;
        match data.loan_timeout(TICK) {
            Err(error) if !error.is_full() => return Err(refused(error)),
            // The receiver may have died while it joined.
            Err(_) if receipt.is_closed() => return Err(RECEIVER_GONE.into()),
            _ => {}
        }
    }
    data.try_loan().map_err(refused)
}

fn refused(error: SendError<()>) -> Failure {
    match error.is_closed() {
        true => RECEIVER_GONE.into(),
        false => error.into(),
    }
}

/// Checks, for a sender that waits for its input, that the receiver is alive.
fn check_receiver(receipt: &mut Consumer<u64>, name: &str, location: &Location) -> Outcome {
    if receipt.is_closed() {
        return Err(RECEIVER_GONE.into());
    }
    // Only a wait reaps the dead, but it would delay the input if nobody has died.
    let stream = inspect::segment(location.place(name));
    let is_death_possible = stream.map_or(true, |stream| stream.participants.iter().any(|seen| !seen.alive));
    if is_death_possible && receipt.recv_timeout(TICK) == Err(RecvError::Closed) {
        return Err(RECEIVER_GONE.into());
    }
    Ok(())
}

fn wait_for_receipt(receipt: &mut Consumer<u64>, sent: u64) -> Outcome {
    loop {
        interrupt::check()?;
        match receipt.recv_timeout(TICK) {
            Ok(received) if received == sent => return Ok(()),
            Ok(_) => return Err(DAMAGED.into()),
            Err(RecvError::Empty) => {}
            Err(RecvError::Closed) => return Err(RECEIVER_GONE.into()),
            Err(error) => return Err(error.into()),
        }
    }
}
