//! raw_sync's event in a region from the shared_memory crate: what a Rust program would wait with today.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::Timeout;
use shared_memory::{Shmem, ShmemConf};

use crate::link::{Blocking, Result, Wire};
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

// SAFETY: the region is shared memory made for use from anywhere, and stays mapped as long as the end exists.
unsafe impl Send for RawSync {}

const SIZE: usize = 4096;
const THERE: usize = 0;
const BACK: usize = 1024;
const VALUE: usize = 512;

fn direction(region: &Shmem, at: usize, fresh: bool) -> Result<Direction> {
    // SAFETY: both directions are within the region's SIZE bytes, and an event takes less than VALUE.
    let base = unsafe { region.as_ptr().add(at) };
    let event = match fresh {
        // SAFETY: zeroed memory of the region that only this end knows as yet.
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
        // SAFETY: the region is mapped as long as the end exists; it is aligned and any bytes are valid.
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
