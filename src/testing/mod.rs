//! Parts of the library without processes, for tests and fuzz targets.

pub(crate) mod heap;
pub(crate) mod pool;

/// Returns the processor time of this thread. The time of a clock would include that of other
/// threads and processes.
#[cfg(test)]
pub(crate) fn thread_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock of this thread, and a place for its time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
