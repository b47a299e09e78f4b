//! Lines from any number of senders to any number of receivers, each line to exactly one, through a queue of batches.
//!
//! # How it ends
//!
//! Whoever finds that senders have been there and none is alive any more closes the queue: the last sender when it leaves,
//! or a receiver that has waited in vain for a moment, if that sender was killed. Receivers end when the queue is closed and
//! empty; with an error if a sender has begun and not come to its end. Senders end when receivers have been there and
//! the queue was empty; with an error if all receivers have left before that, or one of them was killed.

use pagemate::{Message, Queue, RecvError, Segment};

use super::roster::Roster;
use super::stdio::{Input, Output, Written};
use super::{join, Mode, DAMAGED, TICK};
use crate::progress::Progress;
use crate::site::Site;
use crate::{interrupt, Failure, Outcome};

/// The names of its objects.
pub(super) const OBJECTS: [&str; 5] =
    ["lines", Roster::SENDERS[0], Roster::SENDERS[1], Roster::RECEIVERS[0], Roster::RECEIVERS[1]];

/// The longest line, with its newline.
const LINE_MAX: usize = 1 << 20;
/// So many bytes make a batch, if there are so many: large enough to cost little each, small enough to spread.
const BATCH: usize = 64 << 10;
/// How many batches may be under way.
const BATCHES: usize = 8;

/// Whole lines.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Batch {
    len: u32,
    bytes: [u8; LINE_MAX],
}

/// A stream as its members see it.
struct Stream {
    lines: Queue<Batch>,
    senders: Roster,
    receivers: Roster,
}

impl Stream {
    fn open(segment: &Segment, name: &str, site: &Site) -> Result<Stream, Failure> {
        let (lines, _) = Queue::open_or_create(segment.at("lines"), BATCHES)?;
        let senders = Roster::senders(segment, name, site)?;
        Ok(Stream { lines, senders, receivers: Roster::receivers(segment, name, site)? })
    }

    /// Joins the stream; the segment is what says that this process is alive.
    fn join(name: &str, site: &Site, side: fn(&Stream) -> &Roster) -> Result<(Stream, Segment), Failure> {
        join(name, site, Mode::Lines, |segment| {
            let stream = Stream::open(segment, name, site)?;
            let alive = side(&stream).begin()?;
            if stream.lines.is_closed() {
                side(&stream).finish()?;
                return Ok(None);
            }
            Ok(Some((stream, alive)))
        })
    }

    /// For senders that wait: fails if nobody will receive any more.
    fn look_for_receivers(&self) -> Result<(), Failure> {
        interrupt::check()?;
        match self.receivers.census()?.is_over() {
            true => Err("all receivers have ended before the end of the stream".into()),
            false => Ok(()),
        }
    }

    /// Sends whole lines.
    fn send(&self, lines: &[u8]) -> Outcome {
        loop {
            match self.lines.loan_timeout(TICK) {
                Ok(mut batch) => {
                    batch.len = lines.len() as u32;
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
            self.look_for_receivers()?;
        }
    }
}

pub(crate) fn send(name: &str, site: &Site, progress: bool) -> Outcome {
    let mut input = Input::open()?;
    let mut progress = Progress::new(progress, input.len());
    let (stream, alive) = Stream::join(name, site, |stream| &stream.senders)?;
    let mut cutter = Cutter::new();
    loop {
        let count = input.read(cutter.room(), || stream.look_for_receivers())?;
        progress.add(count);
        let lines = if count == 0 { cutter.rest() } else { cutter.take(count)? };
        if !lines.is_empty() {
            stream.send(lines)?;
        }
        if count == 0 {
            break;
        }
    }
    // Whoever joins meanwhile joins the same stream: it lives as long as there is something to receive.
    while !stream.lines.is_empty() || stream.receivers.census()?.begun == 0 {
        stream.look_for_receivers()?;
        // Nothing tells when a queue is empty.
        std::thread::sleep(TICK / 20);
    }
    // Before this sender ends: as long as the queue is not closed, receivers that live have not finished.
    let dead = stream.receivers.census()?.dead;
    stream.senders.finish()?;
    drop(alive);
    if stream.senders.census()?.alive == 0 {
        stream.lines.close();
    }
    progress.finish();
    match dead {
        0 => Ok(()),
        _ => Err("a receiver died, or stopped reading: lines that it had taken may be lost".into()),
    }
}

pub(crate) fn receive(name: &str, site: &Site, progress: bool) -> Outcome {
    let mut output = Output::open()?;
    let mut progress = Progress::new(progress, None);
    let (stream, alive) = Stream::join(name, site, |stream| &stream.receivers)?;
    loop {
        interrupt::check()?;
        match stream.lines.recv_ref_timeout(TICK) {
            Ok(batch) => {
                let lines = batch.bytes.get(..batch.len as usize).ok_or(DAMAGED)?;
                if output.write(lines)? == Written::BrokenPipe {
                    return Ok(());
                }
                progress.add(lines.len());
            }
            Err(RecvError::Empty) => {
                if stream.senders.census()?.is_over() {
                    stream.lines.close();
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    stream.receivers.finish()?;
    drop(alive);
    progress.finish();
    match stream.senders.census()?.unfinished {
        0 => Ok(()),
        1 => Err("a sender ended before the end of its lines".into()),
        more => Err(format!("{more} senders ended before the end of their lines").into()),
    }
}

/// Cuts what is read into whole lines.
struct Cutter {
    buffer: Vec<u8>,
    /// How much of the buffer is the beginning of a line.
    begun: usize,
    /// How much of it has been given away.
    taken: usize,
    /// How many lines have been given away.
    lines: usize,
}

impl Cutter {
    fn new() -> Cutter {
        Cutter { buffer: vec![0; LINE_MAX], begun: 0, taken: 0, lines: 0 }
    }

    /// Where to read into.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.taken..self.begun, 0);
        self.begun -= self.taken;
        self.taken = 0;
        let end = LINE_MAX.min(self.begun + BATCH);
        &mut self.buffer[self.begun..end]
    }

    /// The whole lines after `count` more bytes.
    fn take(&mut self, count: usize) -> Result<&[u8], Failure> {
        let read = &self.buffer[self.begun..self.begun + count];
        let newline = read.iter().rposition(|byte| *byte == b'\n');
        self.lines += read.iter().filter(|byte| **byte == b'\n').count();
        self.taken = newline.map_or(0, |newline| self.begun + newline + 1);
        self.begun += count;
        if self.taken == 0 && self.begun == LINE_MAX {
            return Err(format!("line {} of standard input is longer than 1 MiB", self.lines + 1).into());
        }
        Ok(&self.buffer[..self.taken])
    }

    /// The last line, with the newline that it lacks.
    fn rest(&mut self) -> &[u8] {
        match self.begun {
            0 => &[],
            begun => {
                self.buffer[begun] = b'\n'; // a line that has begun is shorter than the buffer, or take() has refused it
                self.begun = 0;
                &self.buffer[..=begun]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the cutter makes of `text` when it is read so many bytes at a time.
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
            let whole = line(LINE_MAX - 1);
            assert_eq!(cut(&whole, step).unwrap(), std::slice::from_ref(&whole));
            assert_eq!(cut(&whole[..LINE_MAX - 1], step).unwrap(), [whole]);
            let text = [b"a\n".to_vec(), line(LINE_MAX)].concat();
            assert!(cut(&text, step).unwrap_err().starts_with("line 2 of standard input is longer"));
        }
    }
}
