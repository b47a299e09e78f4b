//! raw_sync's lock traits on an owner word, in memory of the caller's choice.
//!
//! There are no participants here, so the owner is a process id. [`crate::sync::robust_word`]
//! describes the word. There are these differences from [`crate::Mutex`]:
//!
//! - A waiter notices a death at the end of its slice of 50 ms, when it asks the kernel whether the
//!   holder's pid exists. If the pid belongs to another process by then, the lock stays held until
//!   that one ends too. No live holder loses the lock.
//! - Pids are compared, so all processes must be in one pid namespace. The first one stores it in
//!   the memory, and processes of others are refused.
//! - raw_sync has no way to report that a holder died. The next holder just acquires, and may find
//!   the data half-changed.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use ::raw_sync::locks::{LockGuard, LockImpl, LockInit};
use ::raw_sync::Timeout;

use crate::compat::raw_sync::{deadline, Result};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::OwnerWord;
use crate::sys::clock::Deadline;
use crate::sys::pid;

/// Set in every owner id here, because an id below 1,024 counts as damage. Linux's pids have 22
/// bits.
const MARK: u32 = 1 << 29;

/// The memory side of a mutex. 8 bytes, aligned to 4.
#[repr(C)]
struct Raw {
    word: OwnerWord,
    /// The pid namespace of its users; 0 if it is unknown.
    namespace: AtomicU32,
}

/// A mutex that implements `raw_sync`'s traits.
///
/// Like `raw_sync::locks::Mutex` it is placed at an address that the caller provides, by `new` in
/// one process and by `from_existing` in the others, and guards the data at another address. The
/// memory side is 8 bytes, placed at the next multiple of 4. Not reentrant: locking twice in one
/// thread deadlocks. Unfair: newcomers may overtake waiters.
///
/// If the holder dies, a waiter notices within 50 ms and acquires the lock (raw_sync's own mutex
/// would stay held). This mutex needs no segment, and has two weaknesses instead. If the dead
/// holder's pid belongs to another process by then, the lock stays held until that one ends. And
/// nobody is told of the death, so the data may be half-changed. [`pagemate::Mutex`](crate::Mutex)
/// has neither weakness. All processes must be in the same pid namespace.
///
/// The holder is the process: any of its threads may call `release`, another process may not.
///
/// ```
/// use pagemate::raw_sync::Mutex;
/// use raw_sync::locks::LockInit;
///
/// let (mut memory, mut data) = ([0u64; 2], 5u32);
/// let (at, data) = (memory.as_mut_ptr().cast::<u8>(), (&raw mut data).cast::<u8>());
/// // SAFETY: the memory is large enough, and memory and data outlive both handles.
/// let ((mutex, used), (same, _)) =
///     unsafe { (Mutex::new(at, data).unwrap(), Mutex::from_existing(at, data).unwrap()) };
/// assert!(used <= Mutex::size_of(None));
/// let guard = mutex.lock().unwrap();
/// // SAFETY: the lock is held, and the data is a u32.
/// unsafe { *guard.cast::<u32>() += 1 };
/// assert!(same.try_lock(raw_sync::Timeout::Val(std::time::Duration::ZERO)).is_err());
/// drop(guard);
/// assert!(same.lock().is_ok());
/// ```
pub struct Mutex {
    raw: *const Raw,
    data: UnsafeCell<*mut u8>,
}

impl std::fmt::Debug for Mutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let holder = self.raw().word.holder().map(|id| id.bits() & !MARK);
        f.debug_struct("Mutex").field("holder", &holder).finish_non_exhaustive()
    }
}

// SAFETY: the memory side is two atomics, which any thread may use; only the holder of the lock
// changes the address of the data.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

fn me() -> Result<OwnerId> {
    let id = OwnerId::from_bits(pid::own() | MARK);
    id.ok_or_else(|| "this process has an id that is larger than those of Linux".into())
}

impl Mutex {
    fn raw(&self) -> &Raw {
        // SAFETY: the caller of `new` or `from_existing` promised that the memory is valid while
        // the handle is used.
        unsafe { &*self.raw }
    }

    /// Returns the address of the memory side in `mem`, and the number of bytes used up to its end.
    fn place(mem: *mut u8) -> (*mut Raw, usize) {
        let skip = mem.align_offset(align_of::<Raw>());
        (mem.wrapping_add(skip).cast(), skip + size_of::<Raw>())
    }

    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>> {
        let (me, word) = (me()?, &self.raw().word);
        let reap_dead = |holder: Option<OwnerId>| {
            if let Some(holder) = holder.filter(|holder| pid::is_dead(holder.bits() & !MARK)) {
                word.recover(holder);
            }
        };
        let acquired = word.try_acquire(me).or_else(|| word.acquire_contended(me, deadline, reap_dead));
        let Some(acquired) = acquired else { return Err("another thread or process held the lock".into()) };
        if acquired.after_death {
            word.mark_consistent();
        }
        Ok(guard_of(self))
    }
}

/// Returns raw_sync's guard, which releases `lock` when it is dropped. Its constructor is private,
/// so no other crate's lock could have one without this.
fn guard_of(lock: &dyn LockImpl) -> LockGuard<'_> {
    // SAFETY: in raw_sync 0.1.5, the only version that is allowed, the guard is a struct whose one
    // field is this reference. The compiler compares the sizes here, so the field is at offset 0.
    unsafe { std::mem::transmute::<&dyn LockImpl, LockGuard<'_>>(lock) }
}

impl LockInit for Mutex {
    fn size_of(addr: Option<*mut u8>) -> usize {
        match addr {
            Some(mem) => Mutex::place(mem).1,
            None => size_of::<Raw>() + align_of::<Raw>() - 1,
        }
    }

    #[allow(clippy::new_ret_no_self)] // The trait's signature.
    unsafe fn new(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        let (raw, used) = Mutex::place(mem);
        let namespace = AtomicU32::new(pid::namespace().unwrap_or(0));
        // SAFETY: the caller promises at least size_of(Some(mem)) bytes of memory at `mem`, and
        // `raw` is aligned.
        unsafe { raw.write(Raw { word: OwnerWord::new(), namespace }) };
        Ok((Box::new(Mutex { raw, data: UnsafeCell::new(data) }), used))
    }

    unsafe fn from_existing(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        let (raw, used) = Mutex::place(mem);
        let mutex = Mutex { raw, data: UnsafeCell::new(data) };
        if mutex.raw().namespace.load(Relaxed) != pid::namespace().unwrap_or(0) {
            return Err("the memory holds no mutex, or one that was made in another pid namespace".into());
        }
        Ok((Box::new(mutex), used))
    }
}

impl LockImpl for Mutex {
    fn as_raw(&self) -> *mut c_void {
        self.raw.cast_mut().cast()
    }

    fn lock(&self) -> Result<LockGuard<'_>> {
        self.lock_until(Deadline::Never)
    }

    fn try_lock(&self, timeout: Timeout) -> Result<LockGuard<'_>> {
        self.lock_until(deadline(timeout))
    }

    fn release(&self) -> Result<()> {
        let released = self.raw().word.release(me()?);
        released.then_some(()).ok_or_else(|| "this process does not hold the lock".into())
    }

    unsafe fn get_inner(&self) -> &mut *mut u8 {
        // SAFETY: the caller holds the lock, or promises that nobody else uses the address.
        unsafe { &mut *self.data.get() }
    }
}
