//! A program closes all descriptors, also the library's, and opens files, so that the numbers mean
//! other files.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::exit;

use pagemate::{Event, Process};

use super::{until, LONG};

/// Exit code of a scene that went well. Without its descriptors it cannot report that in another
/// way.
const WELL: i32 = 77;
const TEXT: &[u8] = b"what the program writes into its log";

/// Runs `scene` in a process of its own.
#[track_caller]
fn without_descriptors(scene: fn(())) {
    let error = Process::spawn(scene, ()).unwrap().join().unwrap_err();
    assert_eq!(error.exit_code(), Some(WELL), "{error}");
}

fn close_all() {
    // SAFETY: closes descriptors that this program does not use any more, as code does that
    // daemonizes.
    let code = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    assert_eq!(code, 0);
}

/// Opens files, which get the lowest numbers.
fn open_logs() -> Vec<File> {
    let open = |_| {
        // SAFETY: a new memfd.
        let number = unsafe { libc::memfd_create(c"log".as_ptr(), 0) };
        assert!(number >= 3);
        // SAFETY: open, and nobody else's.
        let mut log: File = unsafe { std::os::fd::FromRawFd::from_raw_fd(number) };
        log.write_all(TEXT).unwrap();
        log.rewind().unwrap();
        log
    };
    (0..16).map(open).collect()
}

/// Returns whether nobody has closed, read or written the files.
fn are_untouched(logs: &mut [File]) -> bool {
    logs.iter_mut().all(|log| {
        let mut text = Vec::new();
        log.stream_position().is_ok_and(|at| at == 0) && log.read_to_end(&mut text).is_ok() && text == TEXT
    })
}

fn wait(go: Event) -> u64 {
    go.wait();
    1
}

#[test]
fn a_child_is_not_taken_for_another() {
    without_descriptors(|()| {
        let go = Event::new().unwrap();
        let mut first = Process::spawn(wait, go.clone()).unwrap();
        close_all();
        let second = Process::spawn(|()| 2_u64, ()).unwrap();
        assert_eq!(second.join().unwrap(), 2);
        assert!(first.is_alive() && first.try_join().unwrap_err().is_timeout());
        go.set();
        // Its result is lost with the descriptor, but not its exit status.
        let error = first.join().unwrap_err();
        assert_eq!(error.exit_code(), Some(0), "{error}");
        exit(WELL);
    });
}

#[test]
fn a_child_can_be_ended_without_its_descriptor() {
    without_descriptors(|()| {
        let go = Event::new().unwrap();
        let mut child = Process::spawn(wait, go.clone()).unwrap();
        close_all();
        let _logs = open_logs();
        assert!(child.join_timeout(std::time::Duration::from_millis(20)).unwrap_err().is_timeout());
        child.kill().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap_err().signal(), Some(libc::SIGKILL));
        exit(WELL);
    });
}

#[test]
fn what_a_dropped_handle_closes_is_its_own() {
    without_descriptors(|()| {
        let go = Event::new().unwrap();
        let child = Process::spawn(wait, go.clone()).unwrap();
        let pid = child.pid() as i32;
        close_all();
        let mut logs = open_logs();
        drop(child);
        go.set();
        // SAFETY: signal 0 is not sent.
        until("the child is waited for", || unsafe { libc::kill(pid, 0) } != 0);
        assert!(are_untouched(&mut logs));
        exit(WELL);
    });
}

#[test]
fn an_answer_is_written_into_nothing_else() {
    let child = Process::spawn(
        |path: String| {
            close_all();
            for _ in 0..16 {
                let mut log = File::options()
                    .append(false)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
                    .unwrap();
                log.write_all(TEXT).unwrap();
                std::mem::forget(log);
            }
            7_u64
        },
        {
            let path = std::env::temp_dir().join(format!("pagemate-answer-{}", std::process::id()));
            path.to_str().unwrap().to_owned()
        },
    );
    let path = std::env::temp_dir().join(format!("pagemate-answer-{}", std::process::id()));
    let result = child.unwrap().join();
    let written = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(result.is_err() && written == TEXT, "{result:?}, {} bytes", written.len());
}
