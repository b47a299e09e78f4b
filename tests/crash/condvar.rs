//! Scenes of the condition variable: waiters of a mutex and of a reentrant lock held twice,
//! notifiers, and processes that find a notified waiter dead.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use pagemate::sync::{MutexGuard, ReentrantLockGuard};
use pagemate::{Condvar, Mutex};

use crate::exclusive::{Exclusive, How, DONE, PATIENCE, TEMPTATION};
use crate::helper::{pause, shared, until, Helper, Waker};
use crate::reentrant_lock::Twice;
use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "condvar: wait, mutex", build: || Tokens::<Mutex<u64>>::boxed(true) },
        Recipe { name: "condvar: wait, timing out, mutex", build: || Tokens::<Mutex<u64>>::boxed(false) },
        Recipe { name: "condvar: wait, reentrant lock held twice", build: || Tokens::<Twice>::boxed(true) },
        Recipe {
            name: "condvar: wait, timing out, reentrant lock held twice",
            build: || Tokens::<Twice>::boxed(false),
        },
        Recipe { name: "condvar: notify_one, nobody waits", build: || Notify::boxed(1, 0) },
        Recipe { name: "condvar: notify_one, one waits", build: || Notify::boxed(1, 1) },
        Recipe { name: "condvar: notify(2), three wait", build: || Notify::boxed(2, 3) },
        Recipe { name: "condvar: notify_all, three wait", build: || Notify::boxed(usize::MAX, 3) },
        Recipe {
            name: "condvar: wait, timing out, a notified waiter dead",
            build: || Box::new(Heirs::new()),
        },
    ]
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A lock that can be waited with.
trait Waited: Exclusive {
    /// Returns the guard, whether it reported a death, and whether the waiter was notified.
    fn wait(
        &'static self,
        condvar: &Condvar,
        guard: Self::Guard,
        time: Option<Duration>,
    ) -> (Self::Guard, bool, bool);
}

impl Waited for Mutex<u64> {
    fn wait(
        &'static self,
        condvar: &Condvar,
        guard: MutexGuard<'static, u64>,
        time: Option<Duration>,
    ) -> (MutexGuard<'static, u64>, bool, bool) {
        let outcome = match time {
            None => condvar
                .wait(guard)
                .map(|guard| (guard, true))
                .map_err(|error| error.map(|guard| (guard, true))),
            Some(time) => condvar.wait_timeout(guard, time),
        };
        match outcome {
            Ok((guard, is_notified)) => (guard, false, is_notified),
            Err(error) => {
                let (guard, is_notified) = error.into_guard().unwrap();
                (guard, true, is_notified)
            }
        }
    }
}

impl Waited for Twice {
    fn wait(
        &'static self,
        condvar: &Condvar,
        [outer, inner]: [ReentrantLockGuard<'static>; 2],
        time: Option<Duration>,
    ) -> ([ReentrantLockGuard<'static>; 2], bool, bool) {
        let (inner, is_notified) = match time {
            None => (condvar.wait(inner).unwrap(), true),
            Some(time) => condvar.wait_timeout(inner, time).unwrap(),
        };
        let is_after_death = inner.owner_died();
        // The lock is held twice, as before.
        self.0.release().unwrap();
        assert!(self.0.is_held(), "it has come back less deep");
        self.0.acquire().unwrap();
        ([outer, inner], is_after_death, is_notified)
    }
}

/// The child waits for a token that a lock guards, and another process waits behind it. Or the
/// child waits in vain.
struct Tokens<L: Waited> {
    lock: &'static L,
    condvar: Condvar,
    /// The tokens, which the lock guards.
    tokens: &'static AtomicU64,
    /// Whether the child waits until it has a token.
    is_patient: bool,
    /// Not 0 if the child has its token.
    has_taken: &'static AtomicU64,
    /// Tells the process behind the child to start waiting, or that it is not needed.
    signal: &'static AtomicU64,
    late: Option<Helper>,
    waker: Waker,
    putter: Option<Helper>,
    /// Whether the process behind the child waits. The next two count the tokens that processes
    /// other than the child have put and taken.
    is_crowded: bool,
    put: u64,
    taken: u64,
}

const COME: u64 = 1;
const NEEDLESS: u64 = 2;

/// Returns the lock, repaired. The dead holder may have been notified and have died before it took
/// its token, so this notifies the other waiters.
fn locked<L: Waited>(lock: &'static L, condvar: &Condvar, how: How) -> Option<L::Guard> {
    let (mut guard, is_after_death) = lock.lock(how)?;
    if is_after_death {
        L::mark_consistent(&mut guard);
        condvar.notify_all();
    }
    Some(guard)
}

fn take<L: Waited>(lock: &'static L, condvar: &Condvar, tokens: &AtomicU64) -> L::Guard {
    let mut guard = locked(lock, condvar, How::Wait).unwrap();
    while tokens.load(Relaxed) == 0 {
        let (again, is_after_death, is_notified) = lock.wait(condvar, guard, None);
        assert!(is_notified);
        guard = again;
        if is_after_death {
            L::mark_consistent(&mut guard);
            condvar.notify_all();
        }
    }
    tokens.store(tokens.load(Relaxed) - 1, Relaxed);
    guard
}

fn put<L: Waited>(lock: &'static L, condvar: &Condvar, tokens: &AtomicU64) {
    let guard = locked(lock, condvar, How::Wait).unwrap();
    tokens.store(tokens.load(Relaxed) + 1, Relaxed);
    condvar.notify_one();
    drop(guard);
}

impl<L: Waited> Tokens<L> {
    fn boxed(is_patient: bool) -> Box<dyn Scene> {
        let (lock, condvar) = (leaked(L::new()), Condvar::new().unwrap());
        let [tokens, has_taken, signal] = [(); 3].map(|_| shared::<AtomicU64>());
        let behind = || {
            // Without a timeout, because a single-stepped child is slow.
            while signal.load(SeqCst) == 0 {
                pause();
            }
            if signal.load(SeqCst) == COME {
                drop(take(lock, &condvar, tokens));
            }
            DONE
        };
        let late = Helper::start(behind);
        let wake = || {
            signal.store(COME, SeqCst);
            until("the other one sleeps", || late.is_asleep() || late.is_done()).unwrap();
            put(lock, &condvar, tokens);
        };
        let waker = Waker::new(wake);
        Box::new(Tokens {
            lock,
            condvar: condvar.clone(),
            tokens,
            is_patient,
            has_taken,
            signal,
            late: Some(late),
            waker,
            putter: None,
            is_crowded: false,
            put: 0,
            taken: 0,
        })
    }

    fn put_one(&mut self) -> Helper {
        let (lock, condvar, tokens) = (self.lock, &self.condvar, self.tokens);
        self.put += 1;
        Helper::start(|| {
            put(lock, condvar, tokens);
            DONE
        })
    }

    /// Waits until the waker has done its part or has ended without it.
    fn await_waker(&mut self) -> Result<(), String> {
        if self.waker.finish()? {
            self.is_crowded = true;
            self.put += 1;
        } else if !self.is_crowded {
            self.signal.store(NEEDLESS, SeqCst);
        }
        Ok(())
    }

    fn left(&self) -> Result<u64, String> {
        let _guard = locked(self.lock, &self.condvar, How::For(PATIENCE)).ok_or("the lock is stuck")?;
        Ok(self.tokens.load(Relaxed))
    }

    /// Checks the survivors while the child is stopped. It may have the lock, or may have been
    /// notified. Then its token waits for it.
    fn tempt(&mut self) -> Result<(), String> {
        let putter = self.put_one();
        match locked(self.lock, &self.condvar, How::For(TEMPTATION)) {
            None if self.lock.is_locked() => {
                self.putter = Some(putter);
                return Ok(());
            }
            None => {}
            guard => drop(guard),
        }
        putter.outcome()?;
        // The child was notified before, so this notification was for the process behind it.
        self.join_helper()
    }

    fn join_helper(&mut self) -> Result<(), String> {
        self.taken += u64::from(self.is_crowded && self.late.is_some());
        self.late.take().map_or(Ok(DONE), Helper::outcome).map(drop)
    }

    /// Checks that waiters of now are notified, whichever process died waiting.
    fn works_for_others(&mut self) -> Result<(), String> {
        let (lock, condvar, tokens) = (self.lock, &self.condvar, self.tokens);
        let body = || {
            drop(take(lock, condvar, tokens));
            DONE
        };
        let waiter = Helper::start_blocked(body);
        self.put_one().outcome()?;
        self.taken += 1;
        waiter.outcome().map(drop)
    }
}

impl<L: Waited> Scene for Tokens<L> {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        let guard = self.lock.lock(How::Try).unwrap().0;
        drop(self.lock.wait(&self.condvar, guard, Some(Duration::ZERO)));
        if self.is_patient {
            self.waker.watch_me();
        }
    }

    fn act(&mut self) {
        if self.is_patient {
            let guard = take(self.lock, &self.condvar, self.tokens);
            self.has_taken.store(1, SeqCst);
            drop(guard);
        } else {
            let guard = locked(self.lock, &self.condvar, How::Wait).unwrap();
            drop(self.lock.wait(&self.condvar, guard, Some(Duration::from_micros(20))));
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.await_waker()?;
        if end == End::Stopped {
            return if self.is_patient { self.tempt() } else { self.works_for_stopped() };
        }
        self.putter.take().map_or(Ok(DONE), Helper::outcome)?;
        if self.is_crowded && self.late.is_some() {
            // A notification that the child did not live to use goes to the other process.
            until("the token is taken", || self.left() == Ok(0))?;
            self.put_one().outcome()?;
        }
        self.join_helper()?;
        // The token for the process behind is left if that one has inherited the child's.
        let mut left = self.left()?;
        let child = self.has_taken.load(SeqCst);
        let (least, most) = match end {
            End::Finished => (child, child),
            _ => (child, u64::from(self.is_patient)),
        };
        let fits = (least..=most).any(|child| self.put == self.taken + child + left);
        if !fits || end == End::Finished && self.is_patient && child != 1 {
            return Err(format!("{} put, {} taken, {child} by the child, {left} left", self.put, self.taken));
        }
        while left > 0 {
            drop(take(self.lock, &self.condvar, self.tokens));
            self.taken += 1;
            left -= 1;
        }
        self.works_for_others()?;
        until("nobody waits", || self.condvar.waiting() == 0)?;
        match self.lock.is_locked() {
            true => Err("the lock is still held".into()),
            false => Ok(()),
        }
    }

    fn words(&self) -> String {
        format!("{:?} {} tokens {:?}", self.condvar, self.lock.words(), self.tokens)
    }
}

impl<L: Waited> Tokens<L> {
    /// Checks the survivors while the child, which waits in vain, is stopped. It may consume one
    /// notification, and no more.
    fn works_for_stopped(&mut self) -> Result<(), String> {
        let guard = match locked(self.lock, &self.condvar, How::For(TEMPTATION)) {
            None if self.lock.is_locked() => return Ok(()),
            None => locked(self.lock, &self.condvar, How::For(PATIENCE))
                .ok_or("a stopped process blocks the others")?,
            Some(guard) => guard,
        };
        drop(guard);
        let (lock, condvar, tokens) = (self.lock, &self.condvar, self.tokens);
        let body = || {
            drop(take(lock, condvar, tokens));
            DONE
        };
        let waiter = Helper::start_blocked(body);
        self.put_one().outcome()?;
        self.condvar.notify_one();
        self.taken += 1;
        waiter.outcome().map(drop)
    }
}

/// Waits once. Returns [`DONE`].
fn wait_once(lock: &'static Mutex<u64>, condvar: &Condvar) -> u64 {
    let guard = lock.lock().unwrap();
    drop(condvar.wait(guard));
    DONE
}

/// The child notifies some of the waiters.
struct Notify {
    condvar: Condvar,
    lock: &'static Mutex<u64>,
    count: usize,
    waiters: Vec<Helper>,
}

impl Notify {
    fn boxed(count: usize, waiters: usize) -> Box<dyn Scene> {
        let (lock, condvar) = (leaked(Mutex::new(0).unwrap()), Condvar::new().unwrap());
        let waiters = (0..waiters).map(|_| Helper::start_blocked(|| wait_once(lock, &condvar))).collect();
        Box::new(Notify { condvar: condvar.clone(), lock, count, waiters })
    }

    fn ended(&mut self) -> usize {
        self.waiters.iter_mut().map(Helper::has_ended).filter(|ended| *ended).count()
    }
}

impl Scene for Notify {
    fn act(&mut self) {
        let notified = match self.count {
            1 => usize::from(self.condvar.notify_one()),
            usize::MAX => self.condvar.notify_all(),
            count => self.condvar.notify(count),
        };
        // Fewer, if others have notified some while the child was stopped.
        assert!(notified <= self.count.min(self.waiters.len()));
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let most = self.count.min(self.waiters.len());
        if end == End::Finished {
            until("as many have ended as were notified", || self.ended() >= most)?;
        }
        // A dead child may have notified fewer waiters than it should, and never more.
        let (ended, waiting) = (self.waiters.len() - self.condvar.waiting(), self.condvar.waiting());
        if ended > most || end == End::Finished && waiting != self.waiters.len() - most {
            return Err(format!("{ended} were notified, {waiting} wait, notify({})", self.count));
        }
        self.condvar.notify_all();
        self.waiters.drain(..).try_for_each(|waiter| waiter.outcome().map(drop))?;
        // No notification is stored for later waiters.
        let guard = self.lock.lock_timeout(PATIENCE).map_err(|error| error.to_string())?;
        match self.condvar.wait_timeout(guard, Duration::from_millis(1)) {
            Ok((_, false)) => Ok(()),
            other => Err(format!("after all notifications, a wait returns {other:?}")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.condvar)
    }
}

/// A notified waiter died before it had its lock again. Two more wait, and the child waits in vain.
struct Heirs {
    condvar: Condvar,
    lock: &'static Mutex<u64>,
    dies: Option<Helper>,
    heirs: Vec<Helper>,
}

impl Heirs {
    fn new() -> Heirs {
        let (lock, condvar) = (leaked(Mutex::new(0).unwrap()), Condvar::new().unwrap());
        // Keeps an index of the table of participants free for the child. If the child took the
        // index of the dead waiter, it would reap it when it attaches.
        let attach = || drop(condvar.wait_timeout(lock.lock().unwrap(), Duration::ZERO));
        let place = Waker::holding(attach, drop);
        let dies = Helper::start_blocked(|| wait_once(lock, &condvar));
        let heirs = (0..2).map(|_| Helper::start_blocked(|| wait_once(lock, &condvar))).collect();
        // The waiter is notified, and cannot continue while this process has the lock.
        let guard = lock.lock().unwrap();
        condvar.notify_one();
        until("it is notified", || condvar.waiting() == 2).unwrap();
        dies.kill();
        drop(guard);
        drop(place);
        Heirs { condvar: condvar.clone(), lock, dies: Some(dies), heirs }
    }
}

impl Scene for Heirs {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        drop(self.condvar.wait_timeout(self.lock.lock().unwrap(), Duration::ZERO));
    }

    fn act(&mut self) {
        let guard = self.lock.lock().unwrap();
        drop(self.condvar.wait_timeout(guard, Duration::from_millis(5)));
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        drop(self.dies.take());
        // The stopped child may hold the lock, which the heir needs.
        let is_free = end != End::Stopped || self.lock.lock_timeout(TEMPTATION).is_ok();
        if !is_free {
            return Ok(());
        }
        if !self.heirs.is_empty() {
            let heirs = &mut self.heirs;
            until("the notification comes to an heir", || heirs.iter_mut().any(Helper::has_ended))?;
        }
        self.condvar.notify_all();
        self.heirs.drain(..).try_for_each(|heir| heir.outcome().map(drop))?;
        self.lock.lock_timeout(PATIENCE).map(drop).or_else(|error| match error.is_owner_died() {
            true if end == End::Killed => Ok(()),
            _ => Err(error.to_string()),
        })
    }

    fn words(&self) -> String {
        format!("{:?}", self.condvar)
    }
}
