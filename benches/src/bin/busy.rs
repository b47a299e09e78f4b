//! The cost of blocking beside other work: a ping-pong of two sides that share a processor, with
//! each other or with processes that compute.
//!
//! Each state is measured in a process of its own. Contenders take turns, in batches. A figure is
//! the median time of a round trip, and the ratio is to pipe(2). A state that cannot be set up here
//! is named, with the reason.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml --bin busy           # all, 12 seconds
//! cargo run --release --manifest-path benches/Cargo.toml --bin busy -- quota  # names with "quota"
//! ```

use std::fs;
use std::io::{self, pipe, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use pagemate::pipe::Connection;
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::{spsc, Event, Process, Queue, Semaphore};

/// Length of the measurement of a state.
const LENGTH: Duration = Duration::from_millis(1500);
/// Round trips between two readings of the clock.
const BATCH: u32 = 50;
/// The project's goal, relative to pipe(2).
const BAR: f64 = 1.3;

/// The processors of the two sides, and what else runs there.
#[derive(Debug, Clone, Copy)]
struct State {
    name: &'static str,
    processors: usize,
    busy: usize,
    /// Whether the near side has a real-time priority. The far side has none.
    fifo: bool,
    /// Whether both sides share half a processor's time.
    quota: bool,
}

const ONE: State = State { name: "one core", processors: 1, busy: 0, fifo: false, quota: false };
const STATES: &[State] = &[
    ONE,
    State { name: "one core, one busy", busy: 1, ..ONE },
    State { name: "one core, two busy", busy: 2, ..ONE },
    State { name: "two cores, one busy", processors: 2, busy: 1, ..ONE },
    State { name: "two cores, two busy", processors: 2, busy: 2, ..ONE },
    State { name: "FIFO beside normal", fifo: true, ..ONE },
    State { name: "quota of half a core", processors: 2, quota: true, ..ONE },
];

type Contender = (&'static str, Box<dyn FnMut()>);

fn main() {
    pagemate::init();
    let filter = std::env::args().nth(1).unwrap_or_default();
    let chosen = STATES.iter().enumerate().filter(|(_, state)| state.name.contains(&filter));
    for (index, state) in chosen {
        println!("{}", state.name);
        let measured = Process::spawn(measure, index).expect("the state's process starts");
        match measured.join() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => println!("    NOT MEASURED: {reason}"),
            Err(error) => println!("    NOT MEASURED: {error}"),
        }
    }
}

/// Measures a state and prints its table.
fn measure(index: usize) -> Result<(), String> {
    let state = STATES[index];
    pin(state.processors).map_err(|error| format!("{} cores are needed: {error}", state.processors))?;
    let group = state.quota.then(Quota::new).transpose().map_err(|error| {
        format!(
            "a cgroup with a quota of its own is needed, which takes root and the cpu controller: {error}"
        )
    })?;
    let mut forked = Vec::new();
    let mut contenders = unix(&mut forked);
    let _far_sides = pagemate(&mut contenders);
    let busy = || Process::builder().daemon(true).spawn(compute, ()).expect("a busy process starts");
    let _busy: Vec<_> = (0..state.busy).map(|_| busy()).collect();
    let table = schedule(state.fifo)
        .map_err(|error| format!("SCHED_FIFO is needed, which takes root or CAP_SYS_NICE: {error}"))
        .map(|()| take_turns(&mut contenders));
    for pid in forked {
        // SAFETY: a child of this process that nobody has waited for, so the number is its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    drop(group);
    let table = table?;
    for (name, nanos) in &table {
        let ratio = nanos / table[0].1;
        let missed = if name.starts_with("pagemate") && ratio > BAR { "  above the bar" } else { "" };
        println!("    {name:20} {:10.2} us {ratio:8.2}{missed}", nanos / 1000.0);
    }
    Ok(())
}

/// Returns the median time of each contender's round trip.
fn take_turns(contenders: &mut [Contender]) -> Vec<(&'static str, f64)> {
    let mut times = vec![Vec::new(); contenders.len()];
    let began = Instant::now();
    while began.elapsed() < LENGTH || times[0].len() < 5 {
        for ((_, round_trip), times) in contenders.iter_mut().zip(&mut times) {
            let began = Instant::now();
            (0..BATCH).for_each(|_| round_trip());
            times.push(began.elapsed().as_nanos() as f64 / f64::from(BATCH));
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    contenders.iter().zip(times).map(|((name, _), times)| (*name, median(times))).collect()
}

/// Returns the contenders of the kernel and of other crates.
fn unix(forked: &mut Vec<i32>) -> Vec<Contender> {
    let ((mut far_reads, mut near_writes), (mut near_reads, mut far_writes)) =
        (pipe().unwrap(), pipe().unwrap());
    forked.push(fork(|| loop {
        let mut bytes = [0; 8];
        far_reads.read_exact(&mut bytes).unwrap();
        far_writes.write_all(&bytes).unwrap();
    }));
    let (mut near, mut far) = UnixStream::pair().unwrap();
    forked.push(fork(|| loop {
        let mut bytes = [0; 8];
        far.read_exact(&mut bytes).unwrap();
        far.write_all(&bytes).unwrap();
    }));
    let [there, back] = flags();
    forked.push(fork(|| loop {
        lower(there);
        raise(back);
    }));
    let (to_far, from_near) = crossbeam_channel::bounded(1);
    let (to_near, from_far) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || from_near.into_iter().all(|n: u64| to_near.send(n).is_ok()));
    vec![
        (
            "pipe(2)",
            Box::new(move || {
                near_writes.write_all(&[7; 8]).unwrap();
                near_reads.read_exact(&mut [0; 8]).unwrap();
            }),
        ),
        (
            "socket pair",
            Box::new(move || {
                near.write_all(&[7; 8]).unwrap();
                near.read_exact(&mut [0; 8]).unwrap();
            }),
        ),
        (
            "raw futex",
            Box::new(move || {
                raise(there);
                lower(back);
            }),
        ),
        (
            "channel, threads",
            Box::new(move || {
                to_far.send(7).unwrap();
                from_far.recv().unwrap();
            }),
        ),
    ]
}

/// Adds pagemate's contenders, between processes. The far sides end when the returned value is
/// dropped.
fn pagemate(contenders: &mut Vec<Contender>) -> Vec<Process<()>> {
    let daemon = || Process::builder().daemon(true);
    let (there, back) = (Queue::<u64>::new(1).unwrap(), Queue::<u64>::new(1).unwrap());
    let queue = daemon().spawn(answer_queue, (there.clone(), back.clone())).unwrap();
    contenders.push((
        "pagemate Queue",
        Box::new(move || {
            there.send(7).unwrap();
            back.recv().unwrap();
        }),
    ));
    let ((mut producer, far_consumer), (far_producer, mut consumer)) =
        (spsc::<u64>(4).unwrap(), spsc::<u64>(4).unwrap());
    let ring = daemon().spawn(answer_ring, (far_consumer, far_producer)).unwrap();
    contenders.push((
        "pagemate spsc",
        Box::new(move || {
            producer.send(7).unwrap();
            consumer.recv().unwrap();
        }),
    ));
    let (mut near, far) = pagemate::pipe().unwrap();
    let connection = daemon().spawn(answer_connection, far).unwrap();
    contenders.push((
        "pagemate pipe()",
        Box::new(move || {
            near.send(&7u64).unwrap();
            near.recv::<u64>().unwrap();
        }),
    ));
    let (there, back) = (Event::new().unwrap(), Event::new().unwrap());
    let event = daemon().spawn(answer_event, (there.clone(), back.clone())).unwrap();
    contenders.push((
        "pagemate Event",
        Box::new(move || {
            there.set();
            back.wait();
            back.clear();
        }),
    ));
    let (there, back) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let semaphore = daemon().spawn(answer_semaphore, (there.clone(), back.clone())).unwrap();
    contenders.push((
        "pagemate Semaphore",
        Box::new(move || {
            there.release().unwrap();
            back.acquire();
        }),
    ));
    vec![queue, ring, connection, event, semaphore]
}

fn answer_queue((there, back): (Queue<u64>, Queue<u64>)) {
    while there.recv().is_ok_and(|n| back.send(n).is_ok()) {}
}

fn answer_ring((mut there, mut back): (Consumer<u64>, Producer<u64>)) {
    while there.recv().is_ok_and(|n| back.send(n).is_ok()) {}
}

fn answer_connection(mut far: Connection) {
    while far.recv::<u64>().is_ok_and(|n| far.send(&n).is_ok()) {}
}

fn answer_event((there, back): (Event, Event)) {
    loop {
        there.wait();
        there.clear();
        back.set();
    }
}

fn answer_semaphore((there, back): (Semaphore, Semaphore)) {
    loop {
        there.acquire();
        back.release().unwrap();
    }
}

fn compute((): ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// Returns two words that processes share, a cache line and more apart.
fn flags() -> [&'static AtomicU32; 2] {
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory at an address that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, kind, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED, "a page of memory");
    // SAFETY: within the page, which is zeroed and never unmapped.
    [0, 256].map(|offset| unsafe { &*page.cast::<u8>().add(offset).cast::<AtomicU32>() })
}

fn raise(flag: &AtomicU32) {
    flag.store(1, Release); // pairs with lower()
                            // SAFETY: a live word.
    unsafe { libc::syscall(libc::SYS_futex, flag.as_ptr(), libc::FUTEX_WAKE, 1) };
}

fn lower(flag: &AtomicU32) {
    while flag.load(Acquire) == 0 {
        let forever = std::ptr::null::<libc::timespec>();
        // SAFETY: a live word, and no deadline.
        unsafe { libc::syscall(libc::SYS_futex, flag.as_ptr(), libc::FUTEX_WAIT, 0, forever) };
    }
    flag.store(0, Release); // the other side raises it only after an answer
}

/// Starts a child that runs `body` until it is killed, or this process ends.
fn fork(body: impl FnOnce()) -> i32 {
    // SAFETY: no other thread has been started yet.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: plain system calls; the exit runs no handlers of the parent.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            body();
            libc::_exit(0);
        }
    }
    pid
}

/// Keeps this process, and those that it starts, on the first `count` processors that it may use.
fn pin(count: usize) -> io::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut few = rustix::thread::CpuSet::new();
    let all = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    all.take(count).for_each(|cpu| few.set(cpu));
    if (few.count() as usize) < count {
        return Err(io::Error::other(format!("there are {}", few.count())));
    }
    Ok(rustix::thread::sched_setaffinity(None, &few)?)
}

/// Sets a real-time priority for the calling thread, if `fifo`.
fn schedule(fifo: bool) -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 50 };
    // SAFETY: a live structure.
    if fifo && unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A control group with this process in it, which has half a processor's time.
struct Quota {
    path: String,
    /// The group that processes return to.
    parent: &'static str,
}

impl Quota {
    fn new() -> io::Result<Quota> {
        let (parent, limits): (_, &[_]) = if fs::exists("/sys/fs/cgroup/cgroup.controllers")? {
            ("/sys/fs/cgroup", &[("cpu.max", "50000 100000")])
        } else {
            ("/sys/fs/cgroup/cpu", &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")])
        };
        let quota = Quota { path: format!("{parent}/pagemate-busy-{}", std::process::id()), parent };
        fs::create_dir(&quota.path)?;
        for (file, limit) in limits {
            fs::write(format!("{}/{file}", quota.path), limit)?;
        }
        fs::write(format!("{}/cgroup.procs", quota.path), std::process::id().to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let members = fs::read_to_string(format!("{}/cgroup.procs", self.path)).unwrap_or_default();
        for pid in members.lines() {
            // A process that has ended meanwhile has left the group, too.
            let _ = fs::write(format!("{}/cgroup.procs", self.parent), pid);
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            println!("    {} stays: {error}", self.path);
        }
    }
}
