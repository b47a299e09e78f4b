//! pagemate's locks, semaphores, conditions and barriers, each under a name of its own.

use pagemate::sync::MutexGuard;
use pagemate::{Barrier, BoundedSemaphore, Condvar, Mutex, RwLock, Semaphore};

use crate::link::{Blocking, Result, Wire};
use crate::object::{Locked, Meeting, Permits, Shared, Signals, Twins};
use crate::peer::Setup;

/// An object that the near side creates and the far one opens.
trait Named: Sized {
    fn create(name: String) -> pagemate::Result<Self>;
    fn open(name: String) -> pagemate::Result<Self>;
}

macro_rules! wire {
    ($type:ty, $create:expr, $open:expr) => {
        impl Named for $type {
            fn create(name: String) -> pagemate::Result<$type> {
                $create(name)
            }

            fn open(name: String) -> pagemate::Result<$type> {
                $open(name)
            }
        }

        impl Wire for $type {
            type End = $type;
            type Offer = $type;

            fn offer(setup: &mut Setup) -> Result<$type> {
                Ok(<$type as Named>::create(setup.name.clone())?)
            }

            fn near(offer: $type, _: &Setup) -> Result<$type> {
                Ok(offer)
            }

            fn far(setup: &mut Setup) -> Result<$type> {
                Ok(<$type as Named>::open(setup.name.clone())?)
            }
        }
    };
}

wire!(Mutex<u64>, |name| Mutex::create(name, 0), Mutex::open);
wire!(RwLock<[u64; 2]>, |name| RwLock::create(name, [0; 2]), RwLock::open);
wire!(Semaphore, |name| Semaphore::create(name, 1), Semaphore::open);
wire!(BoundedSemaphore, |name| BoundedSemaphore::create(name, 1), BoundedSemaphore::open);
wire!(Barrier, |name| Barrier::create(name, 2), Barrier::open);

impl Locked for Mutex<u64> {
    #[inline]
    fn count(&mut self) -> u64 {
        let mut number = self.lock().expect("nobody dies here");
        *number += 1;
        *number - 1
    }

    fn is_exclusive(&mut self) -> bool {
        let _held = self.lock();
        self.try_lock().is_err()
    }
}

impl Shared for RwLock<[u64; 2]> {
    #[inline]
    fn read(&mut self) -> bool {
        let [one, other] = *RwLock::read(self).expect("nobody dies here");
        Twins(one, other).agree()
    }

    fn write(&mut self) {
        let mut guard = RwLock::write(self).expect("nobody dies here");
        let [one, other] = *guard;
        let mut twins = Twins(one, other);
        twins.count();
        *guard = [twins.0, twins.1];
    }
}

impl Permits for Semaphore {
    #[inline]
    fn acquire(&self) {
        Semaphore::acquire(self);
    }

    fn try_acquire(&self) -> bool {
        Semaphore::try_acquire(self)
    }

    #[inline]
    fn release(&self) {
        Semaphore::release(self).expect("there are few permits");
    }
}

/// Each permit has an owner, and returns if that owner dies.
impl Permits for BoundedSemaphore {
    #[inline]
    fn acquire(&self) {
        BoundedSemaphore::acquire(self).expect("this process has not forked").keep();
    }

    fn try_acquire(&self) -> bool {
        BoundedSemaphore::try_acquire(self).map(|permit| permit.keep()).is_ok()
    }

    #[inline]
    fn release(&self) {
        BoundedSemaphore::release(self).expect("a permit was kept");
    }
}

impl Meeting for Barrier {
    #[inline]
    fn meet(&mut self) -> bool {
        self.wait().expect("nobody breaks it") == 0
    }
}

/// Returns the names of the objects of both directions.
fn names(setup: &Setup) -> [String; 2] {
    ["there", "back"].map(|way| format!("{}-{way}", setup.name))
}

/// One semaphore for each direction.
impl Wire for Signals<Semaphore> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let [there, back] = names(setup);
        let (tx, rx) = (Semaphore::create(there, 0)?, Semaphore::create(back, 0)?);
        Ok(Signals { tx, rx, desk: setup.desk_again()?, mine: 0, theirs: 1 })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let [there, back] = names(setup);
        let (rx, tx) = (Semaphore::open(there)?, Semaphore::open(back)?);
        Ok(Signals { tx, rx, desk: setup.desk_again()?, mine: 1, theirs: 0 })
    }
}

/// A mutex around an optional value, and a condition for its arrival.
#[derive(Debug)]
struct Mailbox {
    /// Whether there is a value, and the value.
    slot: Mutex<[u64; 2]>,
    filled: Condvar,
}

/// One for each direction.
#[derive(Debug)]
pub struct Mailboxes {
    mine: Mailbox,
    theirs: Mailbox,
}

impl Mailbox {
    fn create(name: String) -> pagemate::Result<Mailbox> {
        let filled = Condvar::create(format!("{name}-filled"))?;
        Ok(Mailbox { slot: Mutex::create(name, [0; 2])?, filled })
    }

    fn open(name: String) -> pagemate::Result<Mailbox> {
        let filled = Condvar::open(format!("{name}-filled"))?;
        Ok(Mailbox { slot: Mutex::open(name)?, filled })
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, [u64; 2]> {
        self.slot.lock().expect("nobody dies here")
    }
}

impl Blocking for Mailboxes {
    #[inline]
    fn send(&mut self, value: u64) {
        *self.mine.lock() = [1, value];
        self.mine.filled.notify_one();
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        let mut slot = self.theirs.lock();
        while slot[0] == 0 {
            slot = self.theirs.filled.wait(slot).expect("nobody dies here");
        }
        slot[0] = 0;
        slot[1]
    }
}

impl Wire for Mailboxes {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let [there, back] = names(setup);
        Ok(Mailboxes { mine: Mailbox::create(there)?, theirs: Mailbox::create(back)? })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let [there, back] = names(setup);
        Ok(Mailboxes { theirs: Mailbox::open(there)?, mine: Mailbox::open(back)? })
    }
}
