//! glibc's objects between processes: mutexes, condition variables, read-write locks, barriers, and
//! POSIX's semaphore.
//!
//! All are in rooms of the desk. The near side makes them process-shared before it starts the far
//! one.

use std::mem::MaybeUninit;

use libc::{c_int, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, sem_t};

use crate::desk::Desk;
use crate::link::{Blocking, Result, Wire};
use crate::object::{Locked, Meeting, Permits, Shared, Signals, Twins};
use crate::peer::Setup;

/// Panics on an error, because a bench need not survive one.
#[track_caller]
#[inline]
fn must(code: c_int) {
    assert_eq!(code, 0, "a call of glibc's failed");
}

/// # Safety
///
/// `mutex` is writable and nobody else knows it.
unsafe fn make_mutex(mutex: *mut pthread_mutex_t, robust: bool) {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised by the first call; the mutex is promised by the
    // caller.
    unsafe {
        must(libc::pthread_mutexattr_init(attributes.as_mut_ptr()));
        must(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED));
        if robust {
            must(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST));
        }
        must(libc::pthread_mutex_init(mutex, attributes.as_ptr()));
    }
}

/// A process-shared mutex, robust or not, with its number beside it.
#[derive(Debug)]
pub struct Mutex<const ROBUST: bool>(Desk);

#[repr(C)]
struct Guarded {
    mutex: pthread_mutex_t,
    number: u64,
}

impl<const ROBUST: bool> Mutex<ROBUST> {
    #[inline]
    fn object(&self) -> *mut Guarded {
        self.0.rooms[0].of()
    }
}

impl<const ROBUST: bool> Wire for Mutex<ROBUST> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let end = Mutex(setup.desk_again()?);
        // SAFETY: the far side does not run yet.
        unsafe { make_mutex(&raw mut (*end.object()).mutex, ROBUST) };
        Ok(end)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(Mutex(setup.desk_again()?))
    }
}

impl<const ROBUST: bool> Locked for Mutex<ROBUST> {
    #[inline]
    fn count(&mut self) -> u64 {
        let object = self.object();
        // SAFETY: offer() made the mutex, which guards the number.
        unsafe {
            must(libc::pthread_mutex_lock(&raw mut (*object).mutex));
            let before = (*object).number;
            (*object).number = before + 1;
            must(libc::pthread_mutex_unlock(&raw mut (*object).mutex));
            before
        }
    }

    fn is_exclusive(&mut self) -> bool {
        let object = self.object();
        // SAFETY: offer() made the mutex; a held one refuses, also its holder.
        unsafe {
            must(libc::pthread_mutex_lock(&raw mut (*object).mutex));
            let tried = libc::pthread_mutex_trylock(&raw mut (*object).mutex);
            must(libc::pthread_mutex_unlock(&raw mut (*object).mutex));
            tried == libc::EBUSY
        }
    }
}

/// A process-shared read-write lock.
#[derive(Debug)]
pub struct RwLock(Desk);

#[repr(C)]
struct ReadWrite {
    lock: pthread_rwlock_t,
    twins: Twins,
}

impl RwLock {
    #[inline]
    fn object(&self) -> *mut ReadWrite {
        self.0.rooms[0].of()
    }
}

impl Wire for RwLock {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let end = RwLock(setup.desk_again()?);
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised by the first call, and the far side does not run
        // yet.
        unsafe {
            must(libc::pthread_rwlockattr_init(attributes.as_mut_ptr()));
            must(libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED));
            must(libc::pthread_rwlock_init(&raw mut (*end.object()).lock, attributes.as_ptr()));
        }
        Ok(end)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(RwLock(setup.desk_again()?))
    }
}

impl Shared for RwLock {
    #[inline]
    fn read(&mut self) -> bool {
        let object = self.object();
        // SAFETY: offer() made the lock, which guards the numbers.
        unsafe {
            must(libc::pthread_rwlock_rdlock(&raw mut (*object).lock));
            let agree = (&raw const (*object).twins).read_volatile().agree();
            must(libc::pthread_rwlock_unlock(&raw mut (*object).lock));
            agree
        }
    }

    fn write(&mut self) {
        let object = self.object();
        // SAFETY: as above; the writer is alone.
        unsafe {
            must(libc::pthread_rwlock_wrlock(&raw mut (*object).lock));
            let twins = &mut (*object).twins;
            twins.count();
            must(libc::pthread_rwlock_unlock(&raw mut (*object).lock));
        }
    }
}

/// POSIX's semaphore, process-shared, in one of the desk's rooms.
#[derive(Debug)]
pub struct Semaphore {
    desk: Desk,
    room: usize,
}

impl Semaphore {
    fn new(setup: &Setup, room: usize, permits: u32) -> Result<Semaphore> {
        let semaphore = Semaphore::open(setup, room)?;
        // SAFETY: there is room, and the far side does not run yet.
        must(unsafe { libc::sem_init(semaphore.object(), 1, permits) });
        Ok(semaphore)
    }

    fn open(setup: &Setup, room: usize) -> Result<Semaphore> {
        Ok(Semaphore { desk: setup.desk_again()?, room })
    }

    #[inline]
    fn object(&self) -> *mut sem_t {
        self.desk.rooms[self.room].of()
    }
}

impl Permits for Semaphore {
    #[inline]
    fn acquire(&self) {
        // SAFETY: new() made the semaphore.
        must(unsafe { libc::sem_wait(self.object()) });
    }

    fn try_acquire(&self) -> bool {
        // SAFETY: new() made the semaphore.
        unsafe { libc::sem_trywait(self.object()) == 0 }
    }

    #[inline]
    fn release(&self) {
        // SAFETY: new() made the semaphore.
        must(unsafe { libc::sem_post(self.object()) });
    }
}

/// One semaphore with one permit.
impl Wire for Semaphore {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        Semaphore::new(setup, 0, 1)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Semaphore::open(setup, 0)
    }
}

/// One semaphore for each direction.
impl Wire for Signals<Semaphore> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let (tx, rx) = (Semaphore::new(setup, 0, 0)?, Semaphore::new(setup, 1, 0)?);
        Ok(Signals { tx, rx, desk: setup.desk_again()?, mine: 0, theirs: 1 })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let (rx, tx) = (Semaphore::open(setup, 0)?, Semaphore::open(setup, 1)?);
        Ok(Signals { tx, rx, desk: setup.desk_again()?, mine: 1, theirs: 0 })
    }
}

/// For each direction a mutex, a condition variable, and the optional value that they guard.
#[derive(Debug)]
pub struct Mailboxes {
    desk: Desk,
    mine: usize,
    theirs: usize,
}

#[repr(C)]
struct Mailbox {
    mutex: pthread_mutex_t,
    filled: pthread_cond_t,
    value: Option<u64>,
}

impl Mailboxes {
    #[inline]
    fn object(&self, room: usize) -> *mut Mailbox {
        self.desk.rooms[room].of()
    }
}

impl Blocking for Mailboxes {
    #[inline]
    fn send(&mut self, value: u64) {
        let object = self.object(self.mine);
        // SAFETY: offer() made both objects; the mutex guards the value.
        unsafe {
            must(libc::pthread_mutex_lock(&raw mut (*object).mutex));
            (*object).value = Some(value);
            must(libc::pthread_mutex_unlock(&raw mut (*object).mutex));
            must(libc::pthread_cond_signal(&raw mut (*object).filled));
        }
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        let object = self.object(self.theirs);
        // SAFETY: as in send().
        unsafe {
            must(libc::pthread_mutex_lock(&raw mut (*object).mutex));
            let value = loop {
                let slot = &mut (*object).value;
                if let Some(value) = slot.take() {
                    break value;
                }
                must(libc::pthread_cond_wait(&raw mut (*object).filled, &raw mut (*object).mutex));
            };
            must(libc::pthread_mutex_unlock(&raw mut (*object).mutex));
            value
        }
    }
}

impl Wire for Mailboxes {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let ends = Mailboxes { desk: setup.desk_again()?, mine: 0, theirs: 1 };
        for room in [0, 1] {
            let object = ends.object(room);
            let mut attributes = MaybeUninit::uninit();
            // SAFETY: there is room, the far side does not run yet, and the first call initialises
            // the attributes.
            unsafe {
                make_mutex(&raw mut (*object).mutex, false);
                must(libc::pthread_condattr_init(attributes.as_mut_ptr()));
                must(libc::pthread_condattr_setpshared(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_PROCESS_SHARED,
                ));
                must(libc::pthread_cond_init(&raw mut (*object).filled, attributes.as_ptr()));
                (&raw mut (*object).value).write(None);
            }
        }
        Ok(ends)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(Mailboxes { desk: setup.desk_again()?, mine: 1, theirs: 0 })
    }
}

/// A process-shared barrier of two.
#[derive(Debug)]
pub struct Barrier(Desk);

impl Meeting for Barrier {
    #[inline]
    fn meet(&mut self) -> bool {
        let barrier: *mut pthread_barrier_t = self.0.rooms[0].of();
        // SAFETY: offer() made the barrier.
        match unsafe { libc::pthread_barrier_wait(barrier) } {
            libc::PTHREAD_BARRIER_SERIAL_THREAD => true,
            code => {
                must(code);
                false
            }
        }
    }
}

impl Wire for Barrier {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let end = Barrier(setup.desk_again()?);
        let barrier: *mut pthread_barrier_t = end.0.rooms[0].of();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: there is room, the far side does not run yet, and the first call initialises the
        // attributes.
        unsafe {
            must(libc::pthread_barrierattr_init(attributes.as_mut_ptr()));
            must(libc::pthread_barrierattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED));
            must(libc::pthread_barrier_init(barrier, attributes.as_ptr(), 2));
        }
        Ok(end)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(Barrier(setup.desk_again()?))
    }
}
