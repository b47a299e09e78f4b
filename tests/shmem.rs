//! Feature `shared_memory`: objects in a region that the program already has, between two processes.

use pagemate::{Event, Mutex, Process, Segment};
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
