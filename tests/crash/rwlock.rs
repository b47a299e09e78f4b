//! Scenes of the readers-writer lock: writers as of any lock, and readers with writers and readers.

use std::sync::atomic::{compiler_fence, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pagemate::sync::{LockError, RwLockReadGuard, RwLockWriteGuard};
use pagemate::RwLock;

use crate::exclusive::{die_behind, scenes_of, Exclusive, How, DONE, PATIENCE, TEMPTATION};
use crate::helper::{shared, until, Helper, Waker};
use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    let mut scenes = scenes_of!(RwLock<u64>, "rwlock, writing");
    macro_rules! recipes {
        ($($name:literal: $op:ident $before:ident $($other:ident)*;)*) => {
            [$(Recipe {
                name: concat!("rwlock: ", $name),
                build: || Mixed::boxed(Op::$op, Before::$before, &[$(Other::$other),*]),
            }),*]
        };
    }
    scenes.extend(recipes! {
        "read and leave": Read Free;
        "read and leave, another reads": Read Read;
        "read, timing out": ReadInVain Written;
        "read, asleep until the writer leaves": Read WrittenByWaker;
        "read, the writer dead": Read WriterDead;
        "leave": LeaveReading Free;
        "leave, a writer waits": LeaveReading Free Writer;
        "write, timing out, another reads": WriteInVain Read;
        "write, asleep until the reader leaves": Write ReadByWaker;
        "write, a reader dead": Write ReaderDead;
        "stop writing, a reader and a writer wait": StopWriting Free Reader Writer;
        "downgrade": Downgrade Free;
        "downgrade, a reader waits": Downgrade Free Reader;
    });
    scenes
}

impl Exclusive for RwLock<u64> {
    type Guard = RwLockWriteGuard<'static, u64>;

    fn new() -> RwLock<u64> {
        RwLock::new(0).unwrap()
    }

    fn lock(&'static self, how: How) -> Option<(RwLockWriteGuard<'static, u64>, bool)> {
        let acquired = match how {
            How::Try => self.try_write(),
            How::Wait => self.write(),
            How::For(time) => self.write_timeout(time),
        };
        match acquired {
            Ok(guard) => Some((guard, false)),
            Err(error) => {
                let is_after_death = error.is_owner_died();
                error.into_guard().map(|guard| (guard, is_after_death))
            }
        }
    }

    fn mark_consistent(guard: &mut RwLockWriteGuard<'static, u64>) {
        RwLockWriteGuard::mark_consistent(guard);
    }

    fn is_locked(&self) -> bool {
        self.is_write_locked()
    }

    fn words(&self) -> String {
        format!("{self:?}")
    }
}

/// Two halves, which are equal except while a writer changes them.
type Halves = RwLock<[u64; 2]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Read,
    ReadInVain,
    LeaveReading,
    Write,
    WriteInVain,
    StopWriting,
    Downgrade,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Free,
    Read,
    Written,
    ReadByWaker,
    WrittenByWaker,
    ReaderDead,
    WriterDead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Reader,
    Writer,
}

impl Op {
    fn reads(self) -> bool {
        matches!(self, Op::Read | Op::ReadInVain | Op::LeaveReading)
    }
}

struct Mixed {
    lock: &'static Halves,
    op: Op,
    before: Before,
    /// Not 0 if the child surely holds the lock.
    inside: &'static AtomicU64,
    /// Not 0 if waiters can start.
    is_held: &'static AtomicU64,
    /// The guards of the survivor, and of the child before its operation.
    readers: Vec<RwLockReadGuard<'static, [u64; 2]>>,
    writers: Vec<RwLockWriteGuard<'static, [u64; 2]>>,
    helpers: Vec<Helper>,
    waker: Option<Waker>,
}

fn check_halves(halves: &[u64; 2]) {
    assert_eq!(halves[0], halves[1], "a reader and a writer are in, or a death was hidden");
}

fn change(halves: &mut [u64; 2]) {
    check_halves(halves);
    halves[0] += 1;
    compiler_fence(SeqCst);
    halves[1] += 1;
}

/// Does the work of a writer. Returns the guard, and whether it reported a death.
fn write(
    acquired: Result<RwLockWriteGuard<[u64; 2]>, LockError<RwLockWriteGuard<[u64; 2]>>>,
) -> Option<bool> {
    match acquired {
        Ok(mut guard) => {
            change(&mut guard);
            Some(false)
        }
        Err(error) => {
            let mut guard = error.into_guard()?;
            *guard = [7, 7];
            RwLockWriteGuard::mark_consistent(&mut guard);
            change(&mut guard);
            Some(true)
        }
    }
}

/// Does the work of a reader.
fn read(acquired: Result<RwLockReadGuard<[u64; 2]>, LockError<RwLockReadGuard<[u64; 2]>>>) -> Option<bool> {
    match acquired {
        Ok(guard) => {
            check_halves(&guard);
            Some(false)
        }
        Err(error) => error.into_guard().map(|_| true),
    }
}

impl Mixed {
    fn boxed(op: Op, before: Before, others: &[Other]) -> Box<dyn Scene> {
        let lock: &'static Halves = Box::leak(Box::new(RwLock::new([0, 0]).unwrap()));
        let [inside, is_held] = [(); 2].map(|_| shared::<AtomicU64>());
        let (mut readers, mut writers, mut waker) = (Vec::new(), Vec::new(), None);
        match before {
            Before::Free => {}
            Before::Read => readers.push(lock.read().unwrap()),
            Before::Written => writers.push(lock.write().unwrap()),
            Before::ReadByWaker => waker = Some(Waker::holding(|| lock.read().unwrap(), drop)),
            Before::WrittenByWaker => waker = Some(Waker::holding(|| lock.write().unwrap(), drop)),
            Before::ReaderDead => {
                die_behind(|| drop(lock.try_read()), || std::mem::forget(lock.read().unwrap()));
            }
            Before::WriterDead => die_behind(
                || drop(lock.try_read()),
                || {
                    let mut guard = lock.write().unwrap();
                    guard[0] += 1;
                    std::mem::forget(guard);
                },
            ),
        }
        let helpers = others.iter().map(|other| {
            Helper::start(|| {
                until("the child is in", || is_held.load(SeqCst) == 1).unwrap();
                match other {
                    Other::Reader => read(lock.read()),
                    Other::Writer => write(lock.write()),
                };
                DONE
            })
        });
        let helpers = helpers.collect();
        Box::new(Mixed { lock, op, before, inside, is_held, readers, writers, helpers, waker })
    }

    /// Checks the survivors while the child is stopped. It holds the lock, or waits for it, or
    /// neither.
    fn tempt(&mut self) -> Result<(), String> {
        let lock = self.lock;
        let is_in = || self.inside.load(SeqCst) == 1;
        if self.op.reads() {
            // Other readers are not affected, unless a writer waits.
            if self.helpers.is_empty() {
                read(lock.read_timeout(PATIENCE)).ok_or("a stopped reader blocks readers")?;
            }
            match write(lock.write_timeout(TEMPTATION)) {
                Some(_) if is_in() => return Err("a stopped reader lost the lock".into()),
                Some(_) => {}
                None if lock.reader_count() > 0 || lock.is_write_locked() => return Ok(()),
                None => _ = write(lock.write_timeout(PATIENCE)).ok_or("stuck")?,
            }
        } else {
            match read(lock.read_timeout(TEMPTATION)) {
                Some(_) if is_in() => return Err("a stopped writer lost the lock".into()),
                Some(_) => {}
                None if lock.is_write_locked() => return Ok(()),
                None => _ = read(lock.read_timeout(PATIENCE)).ok_or("stuck")?,
            }
        }
        // The child blocks nobody any more.
        self.helpers.drain(..).try_for_each(|helper| helper.outcome().map(drop))
    }
}

impl Scene for Mixed {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        drop(self.lock.try_read());
        match self.op {
            Op::LeaveReading => self.readers.push(self.lock.read().unwrap()),
            Op::StopWriting | Op::Downgrade => self.writers.push(self.lock.write().unwrap()),
            _ => {}
        }
        if matches!(self.op, Op::LeaveReading | Op::StopWriting | Op::Downgrade) {
            self.inside.store(1, SeqCst);
        }
        self.is_held.store(1, SeqCst);
        until("the helpers sleep", || self.helpers.iter().all(Helper::is_asleep)).unwrap();
        if let Some(waker) = &self.waker {
            waker.watch_me();
        }
    }

    fn act(&mut self) {
        let in_vain = Duration::from_micros(20);
        match self.op {
            Op::Read => {
                let acquired = self.lock.read();
                self.inside.store(1, SeqCst);
                let is_after_death = acquired.is_err();
                assert!(!is_after_death || self.before == Before::WriterDead);
                // The guard releases the lock at the end.
                match acquired {
                    Ok(guard) => {
                        check_halves(&guard);
                        self.inside.store(0, SeqCst);
                    }
                    Err(error) => {
                        let guard = error.into_guard();
                        self.inside.store(0, SeqCst);
                        drop(guard);
                    }
                }
            }
            Op::ReadInVain => drop(self.lock.read_timeout(in_vain)),
            Op::LeaveReading => {
                self.inside.store(0, SeqCst);
                self.readers.clear();
            }
            Op::Write => {
                let mut guard = self.lock.write().unwrap();
                self.inside.store(1, SeqCst);
                change(&mut guard);
                self.inside.store(0, SeqCst);
                drop(guard);
            }
            Op::WriteInVain => drop(self.lock.write_timeout(in_vain)),
            Op::StopWriting => {
                change(&mut self.writers[0]);
                self.inside.store(0, SeqCst);
                self.writers.clear();
            }
            Op::Downgrade => {
                let mut writer = self.writers.remove(0);
                change(&mut writer);
                self.inside.store(0, SeqCst);
                check_halves(&RwLockWriteGuard::downgrade(writer));
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.readers.clear();
        self.writers.clear();
        self.waker.as_mut().map_or(Ok(false), Waker::finish)?;
        if end == End::Stopped {
            return self.tempt();
        }
        let lock = self.lock;
        let may_be_told = self.before == Before::WriterDead || end == End::Killed && !self.op.reads();
        let has_helped = self.helpers.is_empty();
        self.helpers.drain(..).try_for_each(|helper| helper.outcome().map(drop))?;
        read(lock.read_timeout(PATIENCE)).ok_or("no reader gets in any more")?;
        let is_after_death = write(lock.write_timeout(PATIENCE)).ok_or("no writer gets in any more")?;
        if is_after_death && !may_be_told {
            return Err("a death that broke nothing was reported".into());
        }
        let must_be_told = end == End::Killed && !self.op.reads() && self.inside.load(SeqCst) == 1;
        if must_be_told && has_helped && !is_after_death {
            return Err("the writer's death was not reported".into());
        }
        let as_new = write(lock.try_write()) == Some(false) && read(lock.try_read()) == Some(false);
        let is_empty = lock.reader_count() == 0 && !lock.is_write_locked();
        (as_new && is_empty).then_some(()).ok_or("after mark_consistent, the lock is not fresh".into())
    }

    fn words(&self) -> String {
        format!("{:?}", self.lock)
    }
}
