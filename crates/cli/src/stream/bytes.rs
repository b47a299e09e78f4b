//! Bytes from one sender to one receiver, through a ring of chunks: read(2) puts them there, write(2) takes them out.
//!
//! # How it ends
//!
//! The sender marks the last chunk. The receiver writes everything up to there and acknowledges it, and the sender waits for
//! that: either both end well, or both know that they have not. Whoever dies or gives up has a role in the rings, which the
//! other sees ending. The roles cannot be taken a second time, so nobody continues in the middle of a stream.

use pagemate::{
    inspect, Consumer, ErrorKind, Message, Origin, Producer, RecvError, RecvSlot, SendError, SendSlot,
};

use super::stdio::{Input, Output, Written};
use super::{join, Mode, DAMAGED, TICK};
use crate::progress::Progress;
use crate::site::Site;
use crate::{interrupt, Failure, Outcome};

const DATA: &str = "bytes";
const RECEIPT: &str = "receipt";
/// The names of its objects.
pub(super) const OBJECTS: [&str; 2] = [DATA, RECEIPT];

/// Bytes in a chunk, and chunks in the ring: together they fit into the second-level caches of two cores, where both sides
/// find them again; larger chunks gain nothing, smaller ones cost system calls.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 8;

/// What is known of the length of the stream when that is not known.
const UNKNOWN: u64 = u64::MAX;

/// A part of the stream.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Chunk {
    /// Where in the stream it stands.
    offset: u64,
    /// How long the stream will be, as far as its sender knows.
    total: u64,
    /// How many of the bytes count.
    len: u32,
    /// 1: this is the end of the stream.
    last: u32,
    _pad: [u8; 40],
    bytes: [u8; CHUNK],
}

const SENDER_GONE: &str =
    "the sender died or gave up before the end of the stream: what has come is not all of it";
const RECEIVER_GONE: &str = "the receiver died or gave up before the end of the stream";

pub(crate) fn send(name: &str, site: &Site, progress: bool) -> Outcome {
    let mut input = Input::open()?;
    let total = input.len();
    let mut progress = Progress::new(progress, total);
    let (mut data, mut receipt) = join(name, site, Mode::Bytes, |segment| {
        let data = role(name, "sender", Producer::open_or_create(segment.at(DATA), CHUNKS))?;
        let receipt = role(name, "sender", Consumer::open_or_create(segment.at(RECEIPT), 1))?;
        Ok(data.zip(receipt))
    })?;
    let mut offset = 0;
    loop {
        let mut chunk = next_free(&mut data, &receipt)?;
        let count = input.read(&mut chunk.bytes, || look_for_receiver(&mut receipt, name, site))?;
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
    // Whoever comes now finds a stream that has ended, and waits until it is gone.
    drop(data);
    wait_for_receipt(&mut receipt, offset)?;
    progress.finish();
    Ok(())
}

pub(crate) fn receive(name: &str, site: &Site, progress: bool) -> Outcome {
    let mut output = Output::open()?;
    let mut progress = Progress::new(progress, None);
    let (mut data, mut receipt) = join(name, site, Mode::Bytes, |segment| {
        // In this order: a sender that sees no receiver any more looks at the receipt.
        let receipt = role(name, "receiver", Producer::open_or_create(segment.at(RECEIPT), 1))?;
        let data = role(name, "receiver", Consumer::open_or_create(segment.at(DATA), CHUNKS))?;
        Ok(data.zip(receipt))
    })?;
    let mut offset = 0;
    loop {
        interrupt::check()?;
        let chunk: RecvSlot<'_, Chunk> = match data.recv_ref_timeout(TICK) {
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
    // All is there; whether the sender is still there to hear of it is its business.
    let _ = receipt.try_send(offset);
    progress.finish();
    Ok(())
}

/// A role in a ring of the stream; `None`: the role is over, and the stream with it.
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
) -> Result<SendSlot<'a, Chunk>, Failure> {
    // Once there is room it stays, since there is no other producer.
    while data.is_full() {
        interrupt::check()?;
        match data.loan_timeout(TICK) {
            Err(error) if !error.is_full() => return Err(refused(error)),
            // It may have died on its way in.
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

/// For a sender that waits for its standard input.
fn look_for_receiver(receipt: &mut Consumer<u64>, name: &str, site: &Site) -> Outcome {
    if receipt.is_closed() {
        return Err(RECEIVER_GONE.into());
    }
    // A wait is what finds the dead; but it would keep input waiting, if there are none.
    let stream = inspect::segment(site.place(name));
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
