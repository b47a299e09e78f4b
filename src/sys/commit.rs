//! Committing pages, so that touching them cannot fail, and refusing commits that would get a
//! process killed.
//!
//! A full file system refuses a commit. Memory that runs out does not: the kernel grants the pages,
//! and then kills a process of the machine, or of the memory cgroup (a container). So each commit
//! is first compared with what is left of both. Asking costs about 50 us, so an answer is used
//! again, for at most 50 ms and at most a part of what was left.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{self, FallocateFlags};
use rustix::io::Errno;

use super::memory::without_size_signal;
use crate::{Error, ErrorKind, Result};

/// The fraction of what was left (one in `PART`) that may be committed before asking again.
const PART: u64 = 16;
/// The lifetime of an answer.
const FRESH: Duration = Duration::from_millis(50);
/// The smallest piece, about 30 us of work. An interrupted commit continues in pieces, halved at
/// each further interruption.
const PIECE_MIN: u64 = 128 << 10;

/// Makes sure that the pages of `start..start + len` exist, so that touching them cannot fail.
pub(crate) fn commit(file: BorrowedFd<'_>, start: u64, len: u64) -> Result<()> {
    let no_room = || {
        Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "no room for {len} more bytes of shared memory: the shared-memory file system (see `df`), \
                 the memory limit (of the container, or memory cgroup) or the machine's memory is full"
            ),
        )
    };
    if is_memory(file) && !is_left(len) {
        return Err(no_room());
    }
    let (mut done, mut piece) = (0, len);
    while done < len {
        let next = piece.min(len - done);
        match without_size_signal(|| fs::fallocate(file, FallocateFlags::KEEP_SIZE, start + done, next)) {
            Ok(()) => done += next,
            // Under a timer of a few milliseconds a long commit would never end, because the kernel
            // starts over each time.
            Err(Errno::INTR) => piece = (piece / 2).max(PIECE_MIN),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM) => return Err(no_room()),
            Err(cause @ (Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "this file system, or the sandbox, has no fallocate, without which memory that runs \
                         out is a signal: use a directory on tmpfs, ext4 or xfs: {cause}"
                    ),
                ));
            }
            Err(cause) => {
                return Err(Error::system(format!("cannot commit {len} bytes of shared memory"), cause));
            }
        }
    }
    Ok(())
}

/// Returns whether the file's pages are memory. If such a file takes more than what is left, the
/// kernel does not refuse; it kills a process.
fn is_memory(file: BorrowedFd<'_>) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    fs::fstatfs(file).is_ok_and(|found| i128::from(found.f_type) == TMPFS)
}

/// The number of bytes that may be committed without asking again, and until when.
static GRANTED: Mutex<Option<(u64, Instant)>> = Mutex::new(None);

/// Returns whether `len` more bytes fit into memory. True if that is unknown: then the file system
/// decides.
fn is_left(len: u64) -> bool {
    // In a forked child the lock may be held for ever, so nobody waits for it.
    let Ok(mut granted) = GRANTED.try_lock() else { return available().is_none_or(|left| len <= left) };
    if let Some((left, until)) = &mut *granted {
        if len <= *left && Instant::now() < *until {
            *left -= len;
            return true;
        }
    }
    let Some(left) = available() else { return true };
    *granted = Some(((left / PART).saturating_sub(len), Instant::now() + FRESH));
    len <= left
}

/// Returns the number of bytes that can be used before the machine, or the cgroup, runs out.
fn available() -> Option<u64> {
    let machine = machine();
    [machine, cgroups(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))]
        .into_iter()
        .flatten()
        .min()
}

/// Returns the bytes that the machine has left, by the kernel's estimate.
fn machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files of a memory cgroup: limit, usage, and the lines of memory.stat with the memory that
/// the kernel can reclaim.
struct Files {
    limit: &'static str,
    usage: &'static str,
    cache: [&'static str; 2],
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file ", "total_active_file "],
};
const V2: Files =
    Files { limit: "memory.max", usage: "memory.current", cache: ["inactive_file ", "active_file "] };

/// Returns the bytes that the tightest memory cgroup of this process has left.
fn cgroups(membership: &Path, mounted: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(membership).ok()?;
    let mut least = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (files, root) = match controllers {
            "" => (V2, mounted.to_path_buf()),
            _ if controllers.split(',').any(|name| name == "memory") => (V1, mounted.join("memory")),
            _ => continue,
        };
        // A limit holds for all groups below. In a container the upper levels may be invisible, or
        // the path may be that of the host.
        for level in Path::new(group.trim_start_matches('/')).ancestors() {
            least = [least, left_of(&root.join(level), &files)].into_iter().flatten().min();
        }
    }
    least
}

/// Returns the bytes that one cgroup has left; `None` without a limit.
fn left_of(group: &Path, files: &Files) -> Option<u64> {
    let read =
        |name: &str| -> Option<String> { std::fs::read_to_string(PathBuf::from(group).join(name)).ok() };
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let limit = number(files.limit).filter(|limit| *limit < 1 << 60)?;
    let usage = number(files.usage)?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached =
        |name: &&str| stat.lines().find_map(|line| line.strip_prefix(*name)?.trim().parse::<u64>().ok());
    let cache: u64 = files.cache.iter().filter_map(cached).sum();
    // A margin for the program itself, and for what the kernel charges late.
    let margin = limit / 64 + (1 << 20);
    Some(limit.saturating_sub(usage.saturating_sub(cache)).saturating_sub(margin))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_tightest_cgroup_counts() {
        let dir = std::env::temp_dir().join(format!("cgroups-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let left = |text: &str| {
            put("self", text);
            cgroups(&dir.join("self"), &dir.join("fs"))
        };
        put("fs/a/memory.max", "1073741824\n");
        put("fs/a/memory.current", "1073741824\n");
        put("fs/a/memory.stat", "anon 5\ninactive_file 536870912\nactive_file 0\n");
        put("fs/a/b/memory.max", "max\n");
        put("fs/a/b/memory.current", "1\n");
        let expected = (512 << 20) - (16 << 20) - (1 << 20);
        assert_eq!(left("0::/a/b\n"), Some(expected), "an upper limit, of which cache can be taken back");
        put("fs/a/b/memory.max", "67108864\n");
        assert_eq!(left("0::/a/b\n"), Some((64 << 20) - 1 - (1 << 20) - (1 << 20)), "a tighter one below");
        assert_eq!(left("0::/elsewhere\n"), None);
        put("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
        put("fs/memory/memory.usage_in_bytes", "1\n");
        put("fs/memory/c/memory.limit_in_bytes", "67108864\n");
        put("fs/memory/c/memory.usage_in_bytes", "67108864\n");
        assert_eq!(left("4:cpu,memory:/c\n1:name=systemd:/a\n"), Some(0));
        assert_eq!(left("4:memory:/not/seen/here\n"), None, "no limit at the root");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    extern "C" fn ignore(_: libc::c_int) {}

    /// The kernel takes back what an interrupted call has committed, and here it is interrupted long
    /// before it could commit all.
    #[test]
    fn a_commit_under_a_timer_ends() {
        const LEN: u64 = 256 << 20;
        let file = crate::sys::memory::memfd("pagemate-test-commit", fs::MemfdFlags::empty()).unwrap();
        fs::ftruncate(&file, LEN).unwrap();
        // SAFETY: the child makes system calls, and allocates only for an error.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a handler and a timer of the child. The handler is not to restart calls.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = ignore as *const () as usize;
                libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
                let often = libc::timeval { tv_sec: 0, tv_usec: 2000 };
                let timer = libc::itimerval { it_interval: often, it_value: often };
                libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
            }
            let is_done = commit(file.as_fd(), 0, LEN).is_ok();
            // SAFETY: ends the child.
            unsafe { libc::_exit(if is_done { 7 } else { 8 }) };
        }
        let begin = Instant::now();
        let mut status = 0;
        // SAFETY: the child is ours, and the status is written to this variable.
        while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
            if begin.elapsed() > Duration::from_secs(60) {
                // SAFETY: as above; it has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(libc::WIFEXITED(status), "it goes on for ever");
        assert_eq!(libc::WEXITSTATUS(status), 7);
    }
}
