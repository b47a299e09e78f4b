//! Tasks on slices of arrays while the pool ends.

use std::sync::mpsc::channel;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pagemate::{Array, Event, Pool, Segment};

const LONG: Duration = Duration::from_secs(30);

/// No call waits for a process that only has the pool's segment open.
#[test]
fn a_slice_does_not_wait_for_other_participants() {
    let name = format!("pool-slices-{}", std::process::id());
    let pool = Pool::builder().workers(2).name(&name).build().unwrap();
    let participant = Segment::open(&name).unwrap();
    let (input, output) = (Array::new(100, 0_u8).unwrap(), Array::new(100, 0_u8).unwrap());
    pool.map_slice(|_: &[u8], to: &mut [u8]| to.fill(1), &input, &output).unwrap();
    pool.terminate();
    let (sender, results) = channel();
    let thread = std::thread::spawn(move || {
        let result = pool.map_slice(|_: &[u8], _: &mut [u8]| (), &input, &output);
        sender.send(result.is_err()).unwrap();
    });
    assert_eq!(results.recv_timeout(LONG), Ok(true));
    drop(participant);
    thread.join().unwrap(); // it drops the pool
}

/// If a tracer keeps a killed worker, no call blocks for ever, and the output array is poisoned.
#[test]
fn a_slice_does_not_wait_for_ever_for_a_worker_that_stays() {
    static RUNS: OnceLock<Event> = OnceLock::new();
    fn stay(_: &[u8], _: &mut [u8]) {
        // SAFETY: lets a process that is no relative trace this one.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
        RUNS.get().unwrap().set();
        std::thread::sleep(4 * LONG);
    }
    let runs = Event::new().unwrap();
    let initialize = |runs: Event| RUNS.set(runs).unwrap();
    let pool = Pool::builder().workers(1).initializer(initialize, runs.clone()).build().unwrap();
    let (input, output) = (Array::new(1, 0_u8).unwrap(), Array::new(1, 0_u8).unwrap());
    let worker = pool.pids()[0] as i32;
    std::thread::scope(|scope| {
        let slice = scope.spawn(|| pool.map_slice(stay, &input, &output).unwrap_err());
        runs.wait();
        let mut traced = [0; 2];
        // SAFETY: two descriptors are written to this variable.
        assert_eq!(unsafe { libc::pipe2(traced.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the child makes system calls only.
        let tracer = unsafe { libc::fork() };
        if tracer == 0 {
            // SAFETY: as above; it never waits for its tracee.
            unsafe {
                let seized = libc::ptrace(libc::PTRACE_SEIZE, worker, 0, 0) == 0;
                libc::write(traced[1], [u8::from(seized)].as_ptr().cast(), 1);
                libc::sleep(120);
                libc::_exit(0);
            }
        }
        let mut seized = [0u8];
        // SAFETY: one byte is written to this variable.
        assert_eq!(unsafe { libc::read(traced[0], seized.as_mut_ptr().cast(), 1) }, 1);
        let begin = Instant::now();
        pool.terminate();
        let error = slice.join().unwrap();
        let took = begin.elapsed();
        // SAFETY: the tracer is a child of ours; the descriptors are, too.
        unsafe {
            libc::kill(tracer, libc::SIGKILL);
            libc::waitpid(tracer, std::ptr::null_mut(), 0);
            traced.iter().for_each(|&file| _ = libc::close(file));
        }
        if seized == [0] {
            println!("SKIPPED: no process may be traced here");
        } else {
            assert!(took < LONG && error.to_string().contains("has not ended"), "after {took:?}: {error}");
            assert!(output.is_poisoned());
        }
    });
}
