//! raw_sync's event in a region from the shared_memory crate, which a Rust program would wait with
//! today; its mutex and its event by themselves, in a room of the desk.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};
use raw_sync::Timeout;
use shared_memory::{Shmem, ShmemConf};

use crate::desk::Desk;
use crate::link::{Blocking, Result, Wire};
use crate::object::{Flag, Locked};
use crate::peer::Setup;

/// For each direction an event that resets itself, and a value.
pub struct RawSync {
    tx: Direction,
    rx: Direction,
    #[allow(dead_code)]
    region: Shmem,
}

impl std::fmt::Debug for RawSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSync").finish_non_exhaustive()
    }
}

struct Direction {
    event: Box<dyn EventImpl>,
    value: *const AtomicU64,
}

// SAFETY: the region is shared memory made for use from anywhere, and stays mapped as long as the
// end exists.
unsafe impl Send for RawSync {}

const SIZE: usize = 4096;
const THERE: usize = 0;
const BACK: usize = 1024;
const VALUE: usize = 512;

fn direction(region: &Shmem, at: usize, fresh: bool) -> Result<Direction> {
    // SAFETY: both directions are within the region's SIZE bytes, and an event takes less than
    // VALUE.
    let base = unsafe { region.as_ptr().add(at) };
    let event = match fresh {
        // SAFETY: zeroed memory of the region that only this end knows so far.
        true => unsafe { Event::new(base, true) },
        // SAFETY: the near end made an event here before it started this process.
        false => unsafe { Event::from_existing(base) },
    };
    let (event, used) = event.map_err(|error| error.to_string())?;
    assert!(used <= VALUE, "raw_sync's event has grown");
    // SAFETY: within the region, and aligned, as the mapping is.
    Ok(Direction { event, value: unsafe { base.add(VALUE).cast() } })
}

impl Direction {
    fn value(&self) -> &AtomicU64 {
        // SAFETY: the region is mapped as long as the end exists; it is aligned and any bytes are
        // valid.
        unsafe { &*self.value }
    }
}

impl Blocking for RawSync {
    fn send(&mut self, value: u64) {
        self.tx.value().store(value, Release); // pairs with recv()
        self.tx.event.set(EventState::Signaled).expect("the mutex inside is never poisoned");
    }

    fn recv(&mut self) -> u64 {
        self.rx.event.wait(Timeout::Infinite).expect("the mutex inside is never poisoned");
        self.rx.value().load(Acquire) // pairs with send()
    }
}

impl Wire for RawSync {
    type End = RawSync;
    type Offer = RawSync;

    fn offer(setup: &mut Setup) -> Result<RawSync> {
        let region = ShmemConf::new().size(SIZE).os_id(&setup.name).create()?;
        let tx = direction(&region, THERE, true)?;
        let rx = direction(&region, BACK, true)?;
        Ok(RawSync { tx, rx, region })
    }

    fn near(offer: RawSync, _: &Setup) -> Result<RawSync> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<RawSync> {
        let region = ShmemConf::new().os_id(&setup.name).open()?;
        let tx = direction(&region, BACK, false)?;
        let rx = direction(&region, THERE, false)?;
        Ok(RawSync { tx, rx, region })
    }
}

/// raw_sync's mutex, around a number.
pub struct RawSyncMutex {
    lock: Box<dyn LockImpl>,
    #[allow(dead_code)]
    desk: Desk,
}

impl std::fmt::Debug for RawSyncMutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSyncMutex").finish_non_exhaustive()
    }
}

// SAFETY: made for use from anywhere, in shared memory that stays mapped as long as the end exists.
unsafe impl Send for RawSyncMutex {}

/// Offset of the number in the room: beside the mutex, in the same line.
const NUMBER: usize = 56;

type Made = (Box<dyn LockImpl>, usize);
type Make = unsafe fn(*mut u8, *mut u8) -> Result<Made, Box<dyn std::error::Error>>;

fn mutex(setup: &Setup, make: Make) -> Result<RawSyncMutex> {
    let desk = setup.desk_again()?;
    let base: *mut u8 = desk.rooms[0].of();
    // SAFETY: the room is larger than the mutex and the number; the far side opens what the near
    // side has made.
    let (lock, used) = unsafe { make(base, base.add(NUMBER)) }.map_err(|error| error.to_string())?;
    assert!(used <= NUMBER, "raw_sync's mutex has grown");
    Ok(RawSyncMutex { lock, desk })
}

impl Wire for RawSyncMutex {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        mutex(setup, Mutex::new)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        mutex(setup, Mutex::from_existing)
    }
}

impl Locked for RawSyncMutex {
    #[inline]
    fn count(&mut self) -> u64 {
        let guard = self.lock.lock().expect("its holder lives");
        let number = guard.cast::<u64>();
        // SAFETY: the number is in the room, aligned, and guarded by the lock.
        unsafe {
            *number += 1;
            *number - 1
        }
    }

    fn is_exclusive(&mut self) -> bool {
        let _held = self.lock.lock();
        self.lock.try_lock(Timeout::Val(Duration::ZERO)).is_err()
    }
}

/// raw_sync's event, which stays set until it is cleared.
pub struct RawSyncEvent {
    event: Box<dyn EventImpl>,
    #[allow(dead_code)]
    desk: Desk,
}

impl std::fmt::Debug for RawSyncEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSyncEvent").finish_non_exhaustive()
    }
}

// SAFETY: as for RawSyncMutex.
unsafe impl Send for RawSyncEvent {}

impl Wire for RawSyncEvent {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let desk = setup.desk_again()?;
        // SAFETY: an event is smaller than a room, which nobody else knows so far.
        let (event, _) =
            unsafe { Event::new(desk.rooms[0].of(), false) }.map_err(|error| error.to_string())?;
        Ok(RawSyncEvent { event, desk })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(_: &mut Setup) -> Result<Self> {
        Err("this event is for one side".into())
    }
}

impl Flag for RawSyncEvent {
    #[inline]
    fn set(&mut self) {
        self.event.set(EventState::Signaled).expect("the mutex inside is never poisoned");
    }

    #[inline]
    fn clear(&mut self) {
        self.event.set(EventState::Clear).expect("the mutex inside is never poisoned");
    }

    fn is_set(&mut self) -> bool {
        self.event.wait(Timeout::Val(Duration::ZERO)).is_ok()
    }
}
