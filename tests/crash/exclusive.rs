//! Scenes of every object with one holder at a time: the child is the holder, a waiter, or the
//! process that finds the holder dead. It is alone, or another process sleeps.
//!
//! The lock guards a count in two halves, and a mark that a holder is changing it. If a new holder
//! finds the mark set and got no error that reports a death, there are two holders, or a death was
//! hidden.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::helper::{shared, until, Atomics, Helper, Waker};
use crate::{End, Scene};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long the survivors try to take the lock from a stopped holder: more than one slice.
pub const TEMPTATION: Duration = Duration::from_millis(80);
/// Outcome of a helper that had its turn.
pub const DONE: u64 = 1;

/// How to acquire a lock.
#[derive(Debug, Clone, Copy)]
pub enum How {
    Try,
    Wait,
    For(Duration),
}

/// A lock as the scenes use it.
pub trait Exclusive: Sized + 'static {
    type Guard: 'static;

    fn new() -> Self;
    /// Acquires the lock. Returns the guard, and whether it reported a death.
    fn lock(&'static self, how: How) -> Option<(Self::Guard, bool)>;
    /// Marks the data as consistent after a death.
    fn mark_consistent(guard: &mut Self::Guard);
    fn is_locked(&self) -> bool;
    fn words(&self) -> String;
}

/// The data under the lock, and the counts of the child.
#[derive(Debug)]
pub struct Board {
    at_work: AtomicU64,
    halves: [AtomicU64; 2],
    /// Guards that reported a death.
    told: AtomicU64,
    /// Turns of the child.
    child: AtomicU64,
    /// Turns of the child before its operation, because it found the holder dead then.
    early: AtomicU64,
    /// Not 0 if the lock is held, so that waiters can start.
    is_held: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Atomics for Board {}

impl Board {
    fn begin(&self) {
        assert_eq!(self.at_work.swap(1, SeqCst), 0, "two hold the lock, or a death was hidden");
        self.halves[0].store(self.halves[0].load(Relaxed) + 1, Relaxed);
    }

    fn end(&self) {
        self.halves[1].store(self.halves[1].load(Relaxed) + 1, Relaxed);
        self.at_work.store(0, SeqCst);
    }

    /// Does the work of a holder.
    pub fn turn<L: Exclusive>(&self, (mut guard, is_after_death): (L::Guard, bool)) -> L::Guard {
        if is_after_death {
            self.halves[1].store(self.halves[0].load(Relaxed), Relaxed);
            self.at_work.store(0, SeqCst);
            self.told.fetch_add(1, SeqCst);
            L::mark_consistent(&mut guard);
        }
        self.begin();
        self.end();
        guard
    }

    /// Does the work of a holder, as the child.
    pub fn child_turn<L: Exclusive>(&self, acquired: (L::Guard, bool)) -> L::Guard {
        let guard = self.turn::<L>(acquired);
        self.child.fetch_add(1, SeqCst);
        guard
    }
}

/// Lets a process die whose index in the table of participants is not that of the next two
/// newcomers, because these would reap it when they attach.
pub fn die_behind(attach: impl Fn(), body: impl FnOnce()) {
    let places = [(); 2].map(|_| Waker::holding(&attach, drop));
    Helper::die_after(body);
    drop(places);
}

/// The child's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Locks, works and unlocks.
    Round,
    TryInVain,
    WaitInVain,
    /// Works and unlocks, having locked before the operation.
    Unlock,
}

/// The state of the lock before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Free,
    HeldBySurvivor,
    /// Held by a process that releases it when the child sleeps.
    HeldByWaker,
    HeldByChild,
    /// Its holder has died.
    HolderDead,
}

/// The other waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    Nobody,
    Asleep,
    /// One has waited in vain, and left the waiter bit set.
    GaveUp,
}

pub struct Turns<L: Exclusive> {
    lock: &'static L,
    board: &'static Board,
    op: Op,
    /// The number of deaths before the child's.
    deaths: u64,
    /// The guard of the survivor.
    mine: Option<L::Guard>,
    of_child: Option<L::Guard>,
    helper: Option<Helper>,
    waker: Option<Waker>,
    other: Other,
    /// Turns of all processes other than the child.
    works: u64,
}

impl<L: Exclusive> Turns<L> {
    pub fn boxed(op: Op, before: Before, other: Other) -> Box<dyn Scene> {
        let lock: &'static L = Box::leak(Box::new(L::new()));
        let board = shared::<Board>();
        let mut scene = Turns {
            lock,
            board,
            op,
            deaths: 0,
            mine: None,
            of_child: None,
            helper: None,
            waker: None,
            other: Other::Nobody,
            works: 0,
        };
        match before {
            Before::Free | Before::HeldByChild => {}
            Before::HeldBySurvivor => scene.mine = lock.lock(How::Try).map(|(guard, _)| guard),
            Before::HeldByWaker => scene.waker = Some(Waker::holding(|| lock.lock(How::Try), drop)),
            Before::HolderDead => {
                die_behind(
                    || drop(lock.lock(How::Try)),
                    || {
                        std::mem::forget(lock.lock(How::Try));
                        board.begin();
                    },
                );
                scene.works += 1;
                scene.deaths = 1;
            }
        }
        if before != Before::HeldByChild {
            board.is_held.store(1, SeqCst);
        }
        if other != Other::Nobody {
            let body = || {
                until("the lock is held", || board.is_held.load(SeqCst) == 1).unwrap();
                if other == Other::GaveUp {
                    assert!(lock.lock(How::For(Duration::from_millis(5))).is_none());
                } else {
                    drop(board.turn::<L>(lock.lock(How::Wait).unwrap()));
                }
                DONE
            };
            let helper = Helper::start(body);
            if before != Before::HeldByChild {
                until("the helper sleeps", || helper.is_asleep()).unwrap();
            }
            scene.helper = Some(helper);
            scene.works += u64::from(other == Other::Asleep);
            scene.other = other;
        }
        Box::new(scene)
    }

    /// Checks that a stopped child keeps the lock if it holds it, and blocks nobody otherwise.
    fn tempt(&mut self) -> Result<(), String> {
        let acquired = match self.lock.lock(How::For(TEMPTATION)) {
            None if self.may_hold() && self.lock.is_locked() => None,
            None => Some(self.lock.lock(How::For(PATIENCE)).ok_or("a stopped process blocks the others")?),
            acquired => acquired,
        };
        if let Some(acquired) = acquired {
            self.works += 1;
            drop(self.board.turn::<L>(acquired));
            self.join_helper()?;
        }
        match self.board.told.load(SeqCst) > self.deaths {
            true => Err("a stopped process was taken for dead".into()),
            false => Ok(()),
        }
    }

    /// Returns whether the child can hold the lock, given that the survivor does not.
    fn may_hold(&self) -> bool {
        matches!(self.op, Op::Round | Op::Unlock) || self.op == Op::TryInVain && self.deaths > 0
    }

    /// Waits until the helper, if there is one, has had its turn.
    fn join_helper(&mut self) -> Result<(), String> {
        self.helper.take().map_or(Ok(DONE), Helper::outcome).map(drop)
    }
}

impl<L: Exclusive> Scene for Turns<L> {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        let acquired = self.lock.lock(How::Try);
        if self.op != Op::Unlock {
            if let Some(acquired @ (_, true)) = acquired {
                // The attempt may notice the death at once.
                drop(self.board.turn::<L>(acquired));
                self.board.early.fetch_add(1, SeqCst);
            }
        } else {
            self.of_child = acquired.map(|(guard, _)| guard);
            self.board.is_held.store(1, SeqCst);
            let other = self.other;
            let is_ready = |helper: &Helper| match other {
                Other::GaveUp => helper.is_done(),
                _ => helper.is_asleep(),
            };
            until("the other one is ready", || self.helper.as_ref().is_none_or(is_ready)).unwrap();
        }
        if let Some(waker) = &self.waker {
            waker.watch_me();
        }
    }

    fn act(&mut self) {
        match self.op {
            Op::Round => drop(self.board.child_turn::<L>(self.lock.lock(How::Wait).unwrap())),
            // Some attempts notice the death of the holder.
            Op::TryInVain => {
                drop(self.lock.lock(How::Try).map(|acquired| self.board.child_turn::<L>(acquired)));
            }
            Op::WaitInVain => drop(self.lock.lock(How::For(Duration::from_micros(20)))),
            Op::Unlock => drop(self.of_child.take().map(|guard| self.board.child_turn::<L>((guard, false)))),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.mine = None;
        self.waker.as_mut().map_or(Ok(false), Waker::finish)?;
        if end == End::Stopped {
            return self.tempt();
        }
        self.join_helper()?;
        let acquired = self.lock.lock(How::For(PATIENCE)).ok_or("the lock is stuck")?;
        self.works += 1;
        drop(self.board.turn::<L>(acquired));
        let (guard, again) = self.lock.lock(How::Try).ok_or("the lock cannot be acquired again")?;
        drop(guard);
        if again || self.lock.is_locked() {
            return Err("after mark_consistent and release, the lock is not fresh".into());
        }
        let [count, half, child, told] =
            [&self.board.halves[0], &self.board.halves[1], &self.board.child, &self.board.told]
                .map(|word| word.load(SeqCst));
        let works = self.works + self.board.early.load(SeqCst);
        let (most, must) = match end {
            End::Finished => (child, matches!(self.op, Op::Round | Op::Unlock)),
            _ => (1, false),
        };
        if count != half || count < works + child || count > works + most || must && child != 1 {
            return Err(format!("{count} and {half} turns, {works} of the others, {child} of the child"));
        }
        let deaths = self.deaths..=self.deaths + u64::from(end == End::Killed);
        if !deaths.contains(&told) {
            return Err(format!("{told} deaths reported, there were {deaths:?}"));
        }
        Ok(())
    }

    fn words(&self) -> String {
        format!("{} {:?}", self.lock.words(), self.board)
    }
}

/// The scenes of one lock.
macro_rules! scenes_of {
    ($lock:ty, $name:literal: $($what:literal $op:ident $before:ident $other:ident;)*) => {
        vec![$($crate::Recipe {
            name: concat!($name, ": ", $what),
            build: || {
                use $crate::exclusive::{Before, Op, Other, Turns};
                Turns::<$lock>::boxed(Op::$op, Before::$before, Other::$other)
            },
        }),*]
    };
    ($lock:ty, $name:literal) => {
        $crate::exclusive::scenes_of! { $lock, $name:
            "lock and unlock" Round Free Nobody;
            "try_lock, held" TryInVain HeldBySurvivor Nobody;
            "try_lock, its holder dead" TryInVain HolderDead Nobody;
            "lock, timing out" WaitInVain HeldBySurvivor Nobody;
            "lock, timing out, another waits" WaitInVain HeldBySurvivor Asleep;
            "lock, asleep until it is free" Round HeldByWaker Nobody;
            "lock, asleep, another waits" Round HeldByWaker Asleep;
            "lock, its holder dead" Round HolderDead Nobody;
            "unlock" Unlock HeldByChild Nobody;
            "unlock, another waits" Unlock HeldByChild Asleep;
            "unlock, another has given up" Unlock HeldByChild GaveUp;
        }
    };
}
pub(crate) use scenes_of;
