//! Lines from any number of senders to any number of receivers, each line to exactly one, through a
//! queue of batches.
//!
//! # End
//!
//! A process that finds that there were senders and none is alive ends the stream and closes the
//! queue. That is the last sender when it leaves or, if that one was killed, a receiver that has
//! waited in vain for a moment. Receivers end when the queue is closed and empty; with an error if
//! a sender has begun and not reached its end. A sender ends when receivers have written all of its
//! lines; with an error if all receivers have left before that, or one of them was killed.

use pagemate::queue::RecvError;
use pagemate::{Message, Queue, Segment};

use super::presence::{Census, Presence, Side};
use super::{join, Mode, DAMAGED, TICK};
use crate::location::Location;
use crate::progress::Progress;
use crate::stdio::{Input, Output, Written};
use crate::{interrupt, Failure, Outcome};

/// The names of the stream's objects.
pub(super) const OBJECTS: [&str; 4] =
    ["lines", Presence::OBJECTS[0], Presence::OBJECTS[1], Presence::OBJECTS[2]];

/// The longest line, without its newline.
const LINE_MAX: usize = 1 << 20;
/// The room of a batch: the longest line with its newline, in whole words.
const ROOM: usize = LINE_MAX + 4;
/// The bytes of a batch of shorter lines: enough to make each cheap, few enough to spread them.
const BATCH: usize = 64 << 10;
/// The number of batches in flight.
const BATCHES: usize = 8;

/// Whole lines.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Batch {
    len: u32,
    /// The number of senders that began before this one.
    sender: u32,
    bytes: [u8; ROOM],
}

/// A stream as one of its members sees it.
struct Stream {
    lines: Queue<Batch>,
    presence: Presence,
    /// The number of members of the same side that began before this process.
    me: usize,
}

impl Stream {
    fn join(name: &str, location: &Location, side: Side) -> Result<Stream, Failure> {
        join(name, location, Mode::Lines, |segment: &Segment| {
            let (lines, _) = Queue::open_or_create(segment.at("lines"), BATCHES)?;
            let presence = Presence::open(segment, name)?;
            let me = presence.begin(side)?;
            Ok(me.map(|me| Stream { lines, presence, me }))
        })
    }

    /// Fails if nobody will receive any more, for senders that wait.
    fn check_receivers(&self) -> Result<Census, Failure> {
        interrupt::check()?;
        let receivers = self.presence.census(Side::Receivers)?;
        match receivers.is_over() {
            true => Err("all receivers have ended before the end of the stream".into()),
            false => Ok(receivers),
        }
    }

    /// Sends whole lines.
    fn send(&self, lines: &[u8]) -> Outcome {
        loop {
            match self.lines.loan_timeout(TICK) {
                Ok(mut batch) => {
                    batch.len = lines.len() as u32;
                    batch.sender = self.me as u32;
                    batch.bytes[..lines.len()].copy_from_slice(lines);
                    match batch.send_timeout(TICK) {
                        Ok(()) => return Ok(()),
                        Err(error) if error.is_full() => {}
                        Err(error) => return Err(pagemate::Error::from(error).into()),
                    }
                }
                Err(error) if error.is_full() => {}
                Err(error) => return Err(error.into()),
            }
            self.check_receivers()?;
        }
    }

    /// Waits until there were receivers and they have written everything that this sender has sent,
    /// or until one that died may have lost some of it.
    fn wait_until_written(&self, sent: u64) -> Outcome {
        // In this order, because a receiver leaves after it has written.
        while self.presence.census(Side::Receivers)?.begun == 0 || self.presence.written(self.me)? < sent {
            let receivers = self.check_receivers()?;
            if receivers.dead() > 0 && self.lines.is_empty() {
                break;
            }
            // Nothing signals that a batch is written.
            std::thread::sleep(TICK / 20);
        }
        Ok(())
    }
}

pub(crate) fn send(name: &str, location: &Location, progress: bool) -> Outcome {
    let mut input = Input::open()?;
    let mut progress = Progress::new(progress, input.len());
    let stream = Stream::join(name, location, Side::Senders)?;
    let (mut cutter, mut sent) = (Cutter::new(), 0);
    loop {
        let count = input.read(cutter.room(), || stream.check_receivers().map(drop))?;
        progress.add(count);
        let lines = if count == 0 { cutter.rest() } else { cutter.take(count)? };
        if !lines.is_empty() {
            stream.send(lines)?;
            sent += 1;
        }
        if count == 0 {
            break;
        }
    }
    stream.wait_until_written(sent)?;
    // Before this sender ends, because living receivers do not finish before the stream ends.
    let dead = stream.presence.census(Side::Receivers)?.dead();
    if stream.presence.finish(Side::Senders)? {
        stream.lines.close();
    }
    drop(stream);
    if dead == 0 {
        return progress.finish();
    }
    // The sent bytes are known; the bytes that the dead receiver has written are not.
    progress.finish_at_most()?;
    Err("a receiver died, or stopped reading: lines that it had taken may be lost".into())
}

pub(crate) fn receive(name: &str, location: &Location, progress: bool) -> Outcome {
    let mut output = Output::open()?;
    let mut progress = Progress::new(progress, None);
    let stream = Stream::join(name, location, Side::Receivers)?;
    loop {
        interrupt::check()?;
        match stream.lines.recv_ref_timeout(TICK) {
            Ok(batch) => {
                let lines = batch.bytes.get(..batch.len as usize).ok_or(DAMAGED)?;
                if output.write(lines)? == Written::BrokenPipe {
                    return Ok(());
                }
                stream.presence.note_written(batch.sender as usize)?;
                progress.add(lines.len());
            }
            Err(RecvError::Empty) => {
                if stream.presence.end()? {
                    stream.lines.close();
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    output.finish()?;
    stream.presence.finish(Side::Receivers)?;
    let unfinished = stream.presence.census(Side::Senders)?.unfinished;
    drop(stream);
    progress.finish()?;
    match unfinished {
        0 => Ok(()),
        1 => Err("a sender ended before the end of its lines".into()),
        more => Err(format!("{more} senders ended before the end of their lines").into()),
    }
}

/// Splits the input into whole lines.
struct Cutter {
    buffer: Vec<u8>,
    /// The number of bytes in the buffer that begin an incomplete line.
    begun: usize,
    /// The number of bytes that were returned.
    taken: usize,
    /// The number of lines that were returned.
    lines: usize,
}

impl Cutter {
    fn new() -> Cutter {
        Cutter { buffer: vec![0; LINE_MAX + 1], begun: 0, taken: 0, lines: 0 }
    }

    /// Returns the part of the buffer to read into.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.taken..self.begun, 0);
        self.begun -= self.taken;
        self.taken = 0;
        let end = self.buffer.len().min(self.begun + BATCH);
        &mut self.buffer[self.begun..end]
    }

    /// Returns the whole lines after `count` more bytes.
    fn take(&mut self, count: usize) -> Result<&[u8], Failure> {
        let read = &self.buffer[self.begun..self.begun + count];
        let newline = read.iter().rposition(|byte| *byte == b'\n');
        self.lines += read.iter().filter(|byte| **byte == b'\n').count();
        self.taken = newline.map_or(0, |newline| self.begun + newline + 1);
        self.begun += count;
        if self.taken == 0 && self.begun > LINE_MAX {
            return Err(format!("line {} of standard input is longer than 1 MiB", self.lines + 1).into());
        }
        Ok(&self.buffer[..self.taken])
    }

    /// Returns the last line, with the newline that it lacks.
    fn rest(&mut self) -> &[u8] {
        match self.begun {
            0 => &[],
            begun => {
                // An incomplete line is shorter than the buffer, or take() has refused it.
                self.buffer[begun] = b'\n';
                self.begun = 0;
                &self.buffer[..=begun]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the output of the cutter for `text`, read in steps of `step` bytes.
    fn cut(text: &[u8], step: usize) -> Result<Vec<Vec<u8>>, String> {
        let (mut cutter, mut rest, mut batches) = (Cutter::new(), text, Vec::new());
        loop {
            let room = cutter.room();
            let count = rest.len().min(step).min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            let lines = match count {
                0 => cutter.rest(),
                _ => cutter.take(count).map_err(|error| error.to_string())?,
            };
            batches.extend((!lines.is_empty()).then(|| lines.to_vec()));
            if count == 0 {
                return Ok(batches);
            }
        }
    }

    #[test]
    fn whole_lines() {
        let batches = |batches: &[&str]| Ok(batches.iter().map(|batch| batch.as_bytes().to_vec()).collect());
        assert_eq!(cut(b"", 4), batches(&[]));
        assert_eq!(cut(b"a\nbc\n\nd", 100), batches(&["a\nbc\n\n", "d\n"]));
        assert_eq!(cut(b"a\nbc\n\nd", 1), batches(&["a\n", "bc\n", "\n", "d\n"]));
        assert_eq!(cut(b"a\nbc\n\nd\n", 4), batches(&["a\n", "bc\n\nd\n"]));
    }

    #[test]
    fn the_longest_line() {
        let line = |len: usize| [vec![b'x'; len], vec![b'\n']].concat();
        for step in [1000, BATCH, usize::MAX] {
            let whole = line(LINE_MAX);
            assert_eq!(cut(&whole, step).unwrap(), std::slice::from_ref(&whole));
            assert_eq!(cut(&whole[..LINE_MAX], step).unwrap(), [whole]);
            let text = [b"a\n".to_vec(), line(LINE_MAX + 1)].concat();
            assert!(cut(&text, step).unwrap_err().starts_with("line 2 of standard input is longer"));
        }
    }
}
