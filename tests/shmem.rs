//! Feature `shared_memory`: objects in a region that the program already has, between two
//! processes.

use std::time::Duration;

use pagemate::{Condvar, Event, Lock, Mutex, Process, ReentrantLock, RwLock, Segment, Semaphore};
use shared_memory::ShmemConf;

pagemate::init_tests!();

const EACH: u64 = 20_000;

fn count(id: String) {
    let region = ShmemConf::new().os_id(id).open().unwrap();
    let segment = Segment::in_shmem(&region).unwrap();
    let total = Mutex::<u64>::open(segment.at("total")).unwrap();
    (0..EACH).for_each(|_| *total.lock().unwrap() += 1);
    Event::open(segment.at("done")).unwrap().set();
}

#[test]
fn a_mutex_in_a_region_works_between_processes() {
    let region = ShmemConf::new().size(1 << 20).create().unwrap();
    let segment = Segment::in_shmem(&region).unwrap();
    let total = Mutex::create(segment.at("total"), 0_u64).unwrap();
    let done = Event::create(segment.at("done")).unwrap();
    let child = Process::spawn(count, region.get_os_id().to_string()).unwrap();
    (0..EACH).for_each(|_| *total.lock().unwrap() += 1);
    child.join().unwrap();
    assert!(done.is_set());
    assert_eq!(*total.lock().unwrap(), 2 * EACH);
}

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Takes two permits, waits for a job, and dies holding a lock, permits and a role.
fn works(id: String) {
    let region = ShmemConf::new().os_id(id).open().unwrap();
    let segment = Segment::in_shmem(&region).unwrap();
    let jobs = Mutex::<u32>::open(segment.at("jobs")).unwrap();
    let more = Condvar::open(segment.at("more")).unwrap();
    let permits = Semaphore::open(segment.at("permits")).unwrap();
    let prices = RwLock::<[f64; 2]>::open(segment.at("prices")).unwrap();
    let (lock, reentrant) =
        (Lock::open(segment.at("lock")).unwrap(), ReentrantLock::open(segment.at("reentrant")).unwrap());
    (0..2).for_each(|_| permits.acquire());
    let guard = more.wait_while(jobs.lock().unwrap(), |jobs| *jobs == 0).unwrap();
    lock.acquire().unwrap();
    (0..2).for_each(|_| reentrant.acquire().unwrap());
    let prices = prices.write().unwrap();
    Event::open(segment.at("holds all")).unwrap().set();
    Event::new().unwrap().wait();
    drop((guard, prices));
}

#[test]
fn every_lock_in_a_region_outlives_its_holder() {
    let region = ShmemConf::new().size(1 << 20).create().unwrap();
    let segment = Segment::in_shmem(&region).unwrap();
    let jobs = Mutex::create(segment.at("jobs"), 0_u32).unwrap();
    let more = Condvar::create(segment.at("more")).unwrap();
    let permits = Semaphore::create(segment.at("permits"), 0).unwrap();
    let prices = RwLock::create(segment.at("prices"), [0.5, 1.5]).unwrap();
    let (lock, reentrant) =
        (Lock::create(segment.at("lock")).unwrap(), ReentrantLock::create(segment.at("reentrant")).unwrap());
    let holds_all = Event::create(segment.at("holds all")).unwrap();
    let child = Process::spawn(works, region.get_os_id().to_string()).unwrap();
    permits.release_many(2).unwrap();
    *jobs.lock().unwrap() = 1;
    more.notify_all();
    assert!(holds_all.wait_timeout(LONG));
    assert!(jobs.try_lock().is_err() && prices.try_read().is_err() && reentrant.try_lock().is_err());
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(jobs.lock_timeout(LONG).unwrap_err().is_owner_died());
    assert!(prices.read_timeout(LONG).unwrap_err().is_owner_died());
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
    assert!(reentrant.lock_timeout(LONG).unwrap().owner_died());
    assert_eq!(permits.available(), 0);
}
