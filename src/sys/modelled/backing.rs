//! The files of a model: zeroed memory from the heap, and locks that a death releases. The twin of
//! `sys/backing.rs`.
//!
//! The locks of a file are the bits of a word behind its memory, so that loom sees which process
//! locks and who asks. Names are in a table of the execution. A process of a model cannot lose a
//! descriptor.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::Arc;

use rustix::io::Errno;

use crate::loom::atomic::AtomicU64;
use crate::loom::execution::{self, current};
use crate::{Error, ErrorKind, Result};

/// As a page.
const ALIGN: usize = 4096;
/// Participants of one segment in a model: one bit each.
const LOCKS: usize = 64;

/// Memory that looks like a file.
#[derive(Debug)]
struct File {
    number: u64,
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: an address; loom runs one thread at a time.
unsafe impl Send for File {}
// SAFETY: as above.
unsafe impl Sync for File {}

impl File {
    fn new(size: u64) -> Result<Arc<File>> {
        static LAST: Count = Count::new(0);
        let Some(execution) = current() else {
            let text = "under --cfg loom an object lives inside of a model: see pagemate::model";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let size = (size as usize).next_multiple_of(ALIGN);
        let layout = File::layout(size);
        // SAFETY: the layout has at least the bytes of the word with the locks, so not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        execution.add_region(start.addr().get(), start.addr().get() + layout.size());
        Ok(Arc::new(File { number: LAST.fetch_add(1, Relaxed) + 1, start, size }))
    }

    /// Returns the layout of the memory and of the word with the locks.
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size + size_of::<AtomicU64>(), ALIGN).expect("a size that is possible")
    }

    fn locks(&self) -> &AtomicU64 {
        // SAFETY: the word behind the memory, which is aligned.
        unsafe { self.start.add(self.size).cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(execution) = current() {
            execution.remove_region(self.start.addr().get());
        }
        // SAFETY: allocated by `new`, with this layout; mappings have kept this value alive.
        unsafe { dealloc(self.start.as_ptr(), File::layout(self.size)) };
    }
}

/// An open file description.
#[derive(Debug)]
struct Description {
    file: Arc<File>,
    /// The locks that it holds.
    held: Count,
}

impl Description {
    fn unlock(&self) {
        let held = self.held.swap(0, Relaxed);
        if held != 0 {
            // The kernel unlocks after the last store of a process that has died.
            self.file.locks().fetch_and(!held, Release); // pairs with held_by_others()
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        self.unlock();
    }
}

/// A descriptor.
#[derive(Debug)]
pub(crate) struct OwnedFd(Arc<Description>);

/// A descriptor that another owner closes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BorrowedFd<'a>(&'a Arc<Description>);

pub(crate) trait AsFd {
    fn as_fd(&self) -> BorrowedFd<'_>;
}

pub(crate) trait AsRawFd {
    fn as_raw_fd(&self) -> RawFd;
}

impl AsFd for OwnedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        BorrowedFd(&self.0)
    }
}

impl AsRawFd for BorrowedFd<'_> {
    /// Returns -1, because nothing that is done with a number has a model.
    fn as_raw_fd(&self) -> RawFd {
        -1
    }
}

fn open(file: &Arc<File>) -> OwnedFd {
    OwnedFd(Arc::new(Description { file: file.clone(), held: Count::new(0) }))
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a model starts no programs, and has no descriptors"))
}

pub(crate) fn inherited(_file: OwnedFd) -> Result<std::os::fd::OwnedFd> {
    unsupported()
}

pub(crate) fn received(
    _file: std::os::fd::OwnedFd,
    _held: Option<crate::sys::hold::Hold>,
) -> Result<(OwnedFd, Option<Hold>)> {
    unsupported()
}

/// The identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64);

pub(crate) fn identity(file: BorrowedFd<'_>) -> std::result::Result<Identity, Errno> {
    Ok(Identity(file.0.file.number))
}

/// A descriptor that is open for a long time.
#[derive(Debug)]
pub(crate) struct Kept(OwnedFd);

impl Kept {
    pub(crate) fn new(file: OwnedFd) -> Result<Kept> {
        Ok(Kept(file))
    }

    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity(self.0 .0.file.number)
    }

    pub(crate) fn replace(&self, _file: OwnedFd) -> Result<()> {
        Ok(())
    }
}

/// A lock that ends with its process.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "unlocks when it is dropped")] Arc<Description>);

impl Hold {
    pub(crate) fn take(file: OwnedFd) -> std::io::Result<Hold> {
        if let Some(execution) = current() {
            let description = Arc::downgrade(&file.0);
            execution.process().at_death(move || {
                if let Some(description) = description.upgrade() {
                    description.unlock();
                }
            });
        }
        Ok(Hold(file.0))
    }
}

/// Memory that is mapped.
#[derive(Debug)]
pub(crate) struct Map(Arc<File>);

impl Map {
    #[inline]
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.start.as_ptr()
    }

    pub(crate) fn cover_holes(&self, _file: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn map(file: BorrowedFd<'_>, _len: usize) -> Result<Map> {
    Ok(Map(file.0.file.clone()))
}

pub(crate) use map as map_read_only;

pub(crate) fn commit(_file: BorrowedFd<'_>, _start: u64, _len: u64) -> Result<()> {
    Ok(())
}

/// The locks of single bytes. A death releases those of the process.
pub(crate) mod ofd_lock {
    use super::{BorrowedFd, LOCKS};
    use std::io;
    use std::sync::atomic::Ordering::{Acquire, Relaxed};

    fn bits(index: usize, count: usize) -> u64 {
        (index..(index + count).min(LOCKS)).fold(0, |bits, index| bits | 1 << index)
    }

    /// Locks the bytes, if nobody else holds any of them.
    pub(crate) fn try_lock(file: BorrowedFd<'_>, index: usize, count: usize) -> io::Result<bool> {
        let (wanted, own) = (bits(index, count), file.0.held.load(Relaxed));
        let lock = |locks: u64| (wanted != 0 && locks & wanted & !own == 0).then_some(locks | wanted);
        let locked = file.0.file.locks().fetch_update(Relaxed, Relaxed, lock).is_ok();
        if locked {
            file.0.held.store(own | wanted, Relaxed);
        }
        Ok(locked)
    }

    pub(crate) fn unlock(file: BorrowedFd<'_>, _index: usize, _count: usize) -> io::Result<()> {
        file.0.unlock();
        Ok(())
    }

    /// Returns what is true at this moment, as the kernel does.
    pub(crate) fn held_by_others(file: BorrowedFd<'_>, index: usize, count: usize) -> io::Result<usize> {
        // A change reads the latest value, a load any. Pairs with unlock().
        let locks = file.0.file.locks().fetch_or(0, Acquire) & !file.0.held.load(Relaxed);
        Ok(usize::from(locks & bits(index, count) != 0 || index >= LOCKS))
    }
}

/// The names of an execution.
#[derive(Debug, Default)]
struct Names {
    execution: u64,
    files: BTreeMap<PathBuf, Arc<File>>,
    permits: Vec<u64>,
    last_permit: u64,
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

fn names<R>(body: impl FnOnce(&mut Names) -> R) -> R {
    NAMES.with_borrow_mut(|names| {
        let execution = execution::number();
        if names.execution != execution {
            let earlier = std::mem::take(&mut *names);
            names.execution = execution;
            drop(earlier);
        }
        body(names)
    })
}

/// Files by name.
pub(crate) mod memory {
    use super::*;

    use rustix::fs::Stat;

    pub(crate) fn sealed_memfd(_name: &str, size: u64) -> Result<OwnedFd> {
        File::new(size).map(|file| super::open(&file))
    }

    pub(crate) fn unnamed_file(_dir: &Path, size: u64, _mode: u32) -> Result<OwnedFd> {
        File::new(size).map(|file| super::open(&file))
    }

    pub(crate) fn canonical(dir: &Path) -> Result<PathBuf> {
        Ok(dir.to_path_buf())
    }

    pub(crate) fn link(file: BorrowedFd<'_>, path: &Path) -> Result<bool> {
        Ok(names(|names| {
            let is_free = !names.files.contains_key(path);
            if is_free {
                names.files.insert(path.to_path_buf(), file.0.file.clone());
            }
            is_free
        }))
    }

    pub(crate) fn open(path: &Path, _write: bool) -> Result<OwnedFd> {
        let file = names(|names| names.files.get(path).map(super::open));
        file.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no {}", path.display())))
    }

    pub(crate) fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd> {
        Ok(super::open(&file.0.file))
    }

    pub(crate) fn open_of(_pid: u32, _file: i32) -> Result<OwnedFd> {
        unsupported()
    }

    pub(crate) fn open_mapped(_start: usize) -> Result<OwnedFd> {
        unsupported()
    }

    /// Returns what the kernel says about a file of this user's, all of which is memory.
    pub(crate) fn stat(file: BorrowedFd<'_>) -> Result<Stat> {
        // SAFETY: numbers, for which zero is a value.
        let mut stat: Stat = unsafe { std::mem::zeroed() };
        stat.st_ino = file.0.file.number;
        stat.st_mode = libc::S_IFREG | 0o600;
        stat.st_uid = rustix::process::geteuid().as_raw();
        stat.st_size = file.0.file.size as _;
        stat.st_blocks = (file.0.file.size / 512) as _;
        Ok(stat)
    }

    pub(crate) fn is_called(file: BorrowedFd<'_>, path: &Path) -> bool {
        names(|names| names.files.get(path).is_some_and(|found| Arc::ptr_eq(found, &file.0.file)))
    }

    pub(crate) fn path_of(_file: BorrowedFd<'_>) -> Option<PathBuf> {
        None
    }

    pub(crate) fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let file = &file.0.file;
        let offset = (offset as usize).min(file.size);
        let count = buffer.len().min(file.size - offset);
        // SAFETY: inside of the memory; no other thread runs.
        unsafe { file.start.add(offset).as_ptr().copy_to_nonoverlapping(buffer.as_mut_ptr(), count) };
        Ok(count)
    }
}

/// A name, and the file that it is to mean.
#[derive(Debug)]
pub(crate) struct Named {
    path: PathBuf,
    file: Arc<File>,
}

impl Named {
    pub(crate) fn new(path: &Path, file: BorrowedFd<'_>) -> Named {
        Named { path: path.to_path_buf(), file: file.0.file.clone() }
    }

    pub(crate) fn is_ours(&self) -> bool {
        names(|names| names.files.get(&self.path).is_some_and(|found| Arc::ptr_eq(found, &self.file)))
    }

    /// Takes the name away. Returns false if it refers to another file, or to none.
    pub(crate) fn unlink(&self) -> bool {
        self.is_ours() && names(|names| names.files.remove(&self.path)).is_some()
    }
}

/// Makes a permit; returns its number.
pub(crate) fn permit() -> u64 {
    names(|names| {
        names.last_permit += 1;
        names.permits.push(names.last_permit);
        names.last_permit
    })
}

/// Revokes a permit.
pub(crate) fn revoke(number: u64) {
    names(|names| names.permits.retain(|&other| other != number));
}

/// Returns whether the permit was not revoked.
pub(crate) fn is_valid(number: u64) -> bool {
    names(|names| names.permits.contains(&number))
}
