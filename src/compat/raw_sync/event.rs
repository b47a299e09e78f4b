//! raw_sync's event traits on pagemate's event. No death can leave it locked, because it has no
//! owner.

use ::raw_sync::events::{EventImpl, EventInit, EventState};
use ::raw_sync::Timeout;

use crate::compat::raw_sync::{deadline, Result};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::event::state::Flag;

/// The memory side of an event. 8 bytes, aligned to 4.
#[repr(C)]
struct Raw {
    flag: Flag,
    /// 0: stays set until it is cleared; 1: a wait that succeeds clears it.
    auto_reset: AtomicU32,
}

/// An event that implements `raw_sync`'s traits.
///
/// Like `raw_sync::events::Event` it is placed at an address that the caller provides, by `new` in
/// one process and by `from_existing` in the others. The memory side is 8 bytes, placed at the next
/// multiple of 4.
///
/// ```
/// use pagemate::raw_sync::Event;
/// use raw_sync::{events::{EventInit, EventState}, Timeout};
///
/// let mut memory = [0u64; 2];
/// let at = memory.as_mut_ptr().cast::<u8>();
/// // SAFETY: the memory is large enough and outlives both handles.
/// let ((event, used), (same, _)) =
///     unsafe { (Event::new(at, true).unwrap(), Event::from_existing(at).unwrap()) };
/// assert!(used <= Event::size_of(None));
/// event.set(EventState::Signaled).unwrap();
/// assert!(same.wait(Timeout::Infinite).is_ok());
/// let again = same.wait(Timeout::Val(std::time::Duration::ZERO));
/// assert!(again.is_err(), "an automatic event is taken by one");
/// ```
pub struct Event {
    raw: *const Raw,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("set", &self.raw().flag.is_set()).finish_non_exhaustive()
    }
}

// SAFETY: the memory side is two atomics, which any thread may use.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
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
}

impl EventInit for Event {
    fn size_of(addr: Option<*mut u8>) -> usize {
        match addr {
            Some(mem) => Event::place(mem).1,
            None => size_of::<Raw>() + align_of::<Raw>() - 1,
        }
    }

    #[allow(clippy::new_ret_no_self)] // The trait's signature.
    unsafe fn new(mem: *mut u8, auto_reset: bool) -> Result<(Box<dyn EventImpl>, usize)> {
        let (raw, used) = Event::place(mem);
        // SAFETY: the caller promises at least size_of(Some(mem)) bytes of memory at `mem`, and
        // `raw` is aligned.
        unsafe { raw.write(Raw { flag: Flag::new(), auto_reset: AtomicU32::new(auto_reset.into()) }) };
        Ok((Box::new(Event { raw }), used))
    }

    unsafe fn from_existing(mem: *mut u8) -> Result<(Box<dyn EventImpl>, usize)> {
        let (raw, used) = Event::place(mem);
        let event = Event { raw };
        if event.raw().auto_reset.load(Relaxed) > 1 {
            return Err("the memory does not hold an event: its mode is neither manual nor automatic".into());
        }
        Ok((Box::new(event), used))
    }
}

impl EventImpl for Event {
    fn wait(&self, timeout: Timeout) -> Result<()> {
        let deadline = deadline(timeout);
        let raw = self.raw();
        let set =
            if raw.auto_reset.load(Relaxed) == 1 { raw.flag.take(deadline) } else { raw.flag.wait(deadline) };
        set.then_some(()).ok_or_else(|| "the event was not set in time".into())
    }

    fn set(&self, state: EventState) -> Result<()> {
        match state {
            EventState::Signaled => self.raw().flag.set(),
            EventState::Clear => self.raw().flag.clear(),
        }
        Ok(())
    }
}
