//! Feature `raw_sync`: that crate's own examples, on its mutex and event and on pagemate's, and
//! abilities that only pagemate's have.

#[path = "support/forked.rs"]
mod forked;

use std::os::fd::FromRawFd;
use std::sync::mpsc;
use std::time::Duration;

use forked::Forked;
use raw_sync::events::{EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit};
use raw_sync::Timeout;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Runs the example's second half: both threads count to a limit, reading under `rlock` and writing
/// under `lock`.
fn increment(lock: &dyn LockImpl, limit: usize) -> usize {
    let mut own = 0;
    loop {
        {
            let data = lock.rlock().unwrap();
            // SAFETY: the data is a usize, and the lock is held.
            if unsafe { *data.cast::<usize>() } >= limit {
                return own;
            }
        }
        let data = lock.lock().unwrap();
        // SAFETY: as above.
        unsafe { *data.cast::<usize>() += 1 };
        own += 1;
    }
}

/// Follows the example: one thread holds the lock while the other's time runs out, then both count.
fn example<L: LockInit>() {
    const LIMIT: usize = 20_000;
    let (mut memory, mut data) = ([0_u64; 8], 0_usize);
    let (memory, data) = (memory.as_mut_ptr() as usize, &raw mut data as usize);
    assert!(L::size_of(Some(memory as *mut u8)) <= 64);
    // SAFETY: memory and data outlive both threads.
    let (lock, used) = unsafe { L::new(memory as *mut u8, data as *mut u8) }.unwrap();
    assert!(used <= 64);
    let (say, told) = mpsc::channel();
    let (say_late, told_late) = mpsc::channel();
    let child = std::thread::spawn(move || {
        // SAFETY: as above.
        let (lock, _) = unsafe { L::from_existing(memory as *mut u8, data as *mut u8) }.unwrap();
        told.recv().unwrap();
        let late = lock.try_lock(Timeout::Val(Duration::from_millis(20))).is_err();
        say_late.send(late).unwrap();
        increment(&*lock, LIMIT)
    });
    {
        let _guard = lock.try_lock(Timeout::Val(LONG)).unwrap();
        say.send(()).unwrap();
        assert!(told_late.recv_timeout(LONG).unwrap(), "it was held all the time");
    }
    let sum = increment(&*lock, LIMIT) + child.join().unwrap();
    // SAFETY: the other thread has ended.
    let count = unsafe { *(data as *const usize) };
    assert_eq!(sum, count, "each increment once");
    assert!((LIMIT..=LIMIT + 1).contains(&count));
}

#[test]
fn the_example_runs_on_raw_syncs_own_mutex() {
    example::<raw_sync::locks::Mutex>();
}

#[test]
fn the_example_runs_on_pagemates_mutex() {
    example::<pagemate::raw_sync::Mutex>();
}

/// Follows the event example: one thread sets, the other one sees it (once, if it is automatic),
/// sets twice and clears.
fn event_example<E: EventInit>(auto_reset: bool) {
    const BRIEFLY: Timeout = Timeout::Val(Duration::from_millis(20));
    let mut memory = [0_u64; 16];
    let memory = memory.as_mut_ptr() as usize;
    assert!(E::size_of(Some(memory as *mut u8)) <= 128);
    // The number of bytes used is not compared, because raw_sync's own event counts its mutex
    // twice. SAFETY: the memory outlives both threads.
    let (event, _) = unsafe { E::new(memory as *mut u8, auto_reset) }.unwrap();
    let child = std::thread::spawn(move || {
        // SAFETY: as above.
        let (event, _) = unsafe { E::from_existing(memory as *mut u8) }.unwrap();
        event.wait(Timeout::Infinite).unwrap();
        assert_eq!(event.wait(BRIEFLY).is_err(), auto_reset);
        event.set(EventState::Signaled).unwrap();
        event.set(EventState::Signaled).unwrap();
        event.set(EventState::Clear).unwrap();
    });
    event.set(EventState::Signaled).unwrap();
    child.join().unwrap();
    assert!(event.wait(BRIEFLY).is_err(), "it was cleared");
}

#[test]
fn the_event_example_runs_on_raw_syncs_own_event() {
    [true, false].into_iter().for_each(event_example::<raw_sync::events::Event>);
}

#[test]
fn the_event_example_runs_on_pagemates_event() {
    [true, false].into_iter().for_each(event_example::<pagemate::raw_sync::Event>);
}

#[test]
fn an_automatic_event_goes_to_one_process_at_a_time() {
    const EACH: usize = 2_000;
    let pages = shared();
    let at = pages.as_mut_ptr();
    // SAFETY: the pages outlive the handles, here and in the child; the events do not overlap.
    let [there, back] =
        [0, 64].map(|offset| unsafe { pagemate::raw_sync::Event::new(at.add(offset), true) }.unwrap().0);
    let child = Forked::run(|| {
        for _ in 0..EACH {
            there.wait(Timeout::Infinite).unwrap();
            back.set(EventState::Signaled).unwrap();
        }
        0
    });
    for _ in 0..EACH {
        there.set(EventState::Signaled).unwrap();
        back.wait(Timeout::Val(LONG)).unwrap();
    }
    assert_eq!(child.wait(), 0);
    assert!(
        there.wait(Timeout::Val(Duration::ZERO)).is_err() && back.wait(Timeout::Val(Duration::ZERO)).is_err()
    );
}

#[test]
fn only_the_holder_releases() {
    let (mut memory, mut data) = ([0_u64; 2], 0_u64);
    let (at, data) = (memory.as_mut_ptr().cast::<u8>(), (&raw mut data).cast::<u8>());
    // SAFETY: memory and data outlive the handles.
    let (lock, _) = unsafe { pagemate::raw_sync::Mutex::new(at, data) }.unwrap();
    assert!(lock.release().is_err());
    std::mem::forget(lock.lock().unwrap());
    assert!(lock.try_lock(Timeout::Val(Duration::ZERO)).is_err());
    lock.release().unwrap();
    assert!(lock.release().is_err() && lock.lock().is_ok());
    // SAFETY: as above.
    unsafe { at.add(4).write(at.add(4).read() ^ 1) };
    // SAFETY: as above.
    assert!(unsafe { pagemate::raw_sync::Mutex::from_existing(at, data) }.is_err(), "another namespace");
}

/// Maps two pages that a forked child shares.
fn shared() -> memmap2::MmapRaw {
    // SAFETY: the name ends with a zero; the call returns a new descriptor, or -1.
    let file = unsafe { libc::memfd_create(c"pagemate-test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(file >= 0);
    // SAFETY: as above, and nobody else has it.
    let file = unsafe { std::fs::File::from_raw_fd(file) };
    file.set_len(8192).unwrap();
    memmap2::MmapRaw::map_raw(&file).unwrap()
}

#[test]
fn two_processes_count_and_a_death_frees() {
    const EACH: usize = 20_000;
    let pages = shared();
    let (at, data) = (pages.as_mut_ptr(), pages.as_mut_ptr().wrapping_add(4096));
    // SAFETY: the pages outlive the handle, here and in the child.
    let (lock, _) = unsafe { pagemate::raw_sync::Mutex::new(at, data) }.unwrap();
    let count = |times: usize| {
        for _ in 0..times {
            let data = lock.lock().unwrap();
            // SAFETY: the data is a usize, and the lock is held.
            unsafe { *data.cast::<usize>() += 1 };
        }
    };
    let child = Forked::run(|| {
        count(EACH);
        0
    });
    count(EACH);
    assert_eq!(child.wait(), 0);
    // SAFETY: nobody else is there.
    assert_eq!(unsafe { *data.cast::<usize>() }, 2 * EACH);

    let dies = Forked::run(|| {
        std::mem::forget(lock.lock().unwrap());
        0
    });
    // The child is dead although nobody has waited for it.
    let guard = lock.try_lock(Timeout::Val(LONG)).unwrap();
    drop(guard);
    dies.wait();

    let stops = Forked::run(|| {
        std::mem::forget(lock.lock().unwrap());
        // SAFETY: writes the word behind the count, which nobody else does.
        unsafe { data.cast::<usize>().add(1).write_volatile(1) };
        loop {
            std::thread::park();
        }
    });
    let begin = std::time::Instant::now();
    let has_locked = || {
        // SAFETY: as above.
        unsafe { data.cast::<usize>().add(1).read_volatile() != 0 }
    };
    while !has_locked() {
        assert!(begin.elapsed() < LONG);
        std::thread::yield_now();
    }
    stops.signal(libc::SIGSTOP);
    let is_taken = lock.try_lock(Timeout::Val(Duration::from_millis(300))).is_ok();
    stops.kill();
    stops.wait();
    assert!(!is_taken, "a stopped holder keeps it");
    assert!(lock.try_lock(Timeout::Val(LONG)).is_ok());
}
