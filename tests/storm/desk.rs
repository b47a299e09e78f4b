//! A desk: the random numbers of one process of the storm, its line on the board, and its clock.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::board::{now, Board, Fault};

/// Numbers from a seed. The same seed gives the same numbers, but not the same schedule.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(mix(seed) | 1)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % bound
    }

    /// Returns true once in `count` calls on average.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Scatters a number over all bits, for the contents of messages and for further seeds.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// See the module.
pub struct Desk<'a> {
    pub board: &'a Board,
    pub random: Random,
    /// The index among the workers. The last one is the storm's own, for verdicts.
    pub slot: usize,
    pub incarnation: u64,
    member: usize,
    name: &'static str,
}

impl<'a> Desk<'a> {
    pub fn new(board: &'a Board, slot: usize, incarnation: u64, random: Random) -> Desk<'a> {
        Desk { board, random, slot, incarnation, member: 0, name: "" }
    }

    /// Turns to this member: the calls that follow are about it.
    pub fn turn_to(&mut self, member: usize, name: &'static str) {
        (self.member, self.name) = (member, name);
        self.board.worker(self.slot).member.store(member as u64, SeqCst);
    }

    /// Returns the index of the present member, for a child that uses the same words.
    pub fn member(&self) -> usize {
        self.member
    }

    /// Returns the member's words on the board.
    pub fn words(&self) -> &'a [AtomicU64] {
        self.board.member(self.member)
    }

    /// Records a fault of the present member.
    pub fn fault(&self, fault: Fault, text: impl AsRef<str>) {
        let (name, slot, incarnation) = (self.name, self.slot, self.incarnation);
        self.board.fault(fault, &format!("{name}: {} (worker {slot}.{incarnation})", text.as_ref()));
    }

    /// Records the next operation, for the report of a process that is stuck.
    pub fn begin(&self, operation: &str) {
        let mut letters = [0; 8];
        letters.iter_mut().zip(operation.bytes()).for_each(|(letter, byte)| *letter = byte);
        self.board.worker(self.slot).operation.store(u64::from_le_bytes(letters), SeqCst);
    }

    /// Counts an operation that has ended.
    fn end(&self) {
        self.board.worker(self.slot).operations.fetch_add(1, SeqCst);
    }

    /// Does an operation that does not block.
    pub fn act<R>(&self, operation: &str, body: impl FnOnce() -> R) -> R {
        self.begin(operation);
        let result = body();
        self.end();
        result
    }

    /// Does an operation with a deadline. `body` gets the timeout. Records how late it was, unless
    /// this process was stopped meanwhile.
    pub fn timed<R>(&mut self, operation: &str, body: impl FnOnce(Duration) -> R) -> R {
        let most = if self.random.one_in(8) { 100_000 } else { 3_000 };
        let timeout = Duration::from_micros(self.random.below(most));
        self.begin(operation);
        let stops = &self.board.worker(self.slot).stops;
        let (before, begin) = (stops.load(SeqCst), Instant::now());
        let result = body(timeout);
        let late = begin.elapsed().saturating_sub(timeout).as_nanos() as u64;
        if stops.load(SeqCst) == before {
            self.board.common().latest.fetch_max(late, SeqCst);
        }
        self.end();
        result
    }

    /// Does an operation without a deadline.
    pub fn patient<R>(&self, operation: &str, body: impl FnOnce() -> R) -> R {
        let patient = &self.board.worker(self.slot).patient;
        self.begin(operation);
        patient.store(1, SeqCst);
        let result = body();
        patient.store(0, SeqCst);
        self.end();
        result
    }

    /// Lets some time pass, usually none, while the caller holds something.
    pub fn dawdle(&mut self) {
        let micros = match self.random.below(64) {
            0 => 5_000,
            1..=8 => 100,
            9..=24 => 5,
            _ => return,
        };
        let end = Instant::now() + Duration::from_micros(self.random.below(micros));
        while Instant::now() < end {
            std::thread::yield_now();
        }
    }

    /// Records that the lock of a worker that was killed at this time was acquired again.
    pub fn recovered(&self, killed_at: u64) {
        self.board.common().recoveries.fetch_add(1, SeqCst);
        self.board.common().slowest_recovery.fetch_max(now().saturating_sub(killed_at), SeqCst);
    }

    /// Returns this process's identity in one word, which is never 0.
    fn tag(&self) -> u64 {
        (self.slot as u64) << 32 | self.incarnation
    }

    /// Records that this process is the only holder. Reports a fault if there is another one,
    /// unless that one has died and `owner_died` says so. The record is written after acquiring and
    /// removed before releasing.
    pub fn hold<'b>(&self, word: &'b AtomicU64, owner_died: bool) -> Sole<'b> {
        let before = word.swap(self.tag(), SeqCst);
        if before != 0 {
            let (slot, incarnation) = ((before >> 32) as usize, before & 0xffff_ffff);
            match self.board.killed_at(slot, incarnation) {
                Some(at) if owner_died => self.recovered(at),
                Some(_) => self.fault(
                    Fault::Broken,
                    format!("{slot}.{incarnation} died holding it, and `OwnerDied` was not reported"),
                ),
                None => self.fault(
                    Fault::Doubled,
                    format!("acquired while {slot}.{incarnation} holds it (`OwnerDied`: {owner_died})"),
                ),
            }
        }
        Sole(word)
    }
}

/// While this lives, the board names this process as the only holder.
pub struct Sole<'a>(&'a AtomicU64);

impl Drop for Sole<'_> {
    fn drop(&mut self) {
        self.0.store(0, SeqCst);
    }
}
