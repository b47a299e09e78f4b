//! An attachment: this process on that segment, as one participant, from taking a byte to the last leave.
//!
//! The lock that says "alive" belongs to an open file description of its own, which nothing else keeps open: the mapping
//! was made through another one. So it ends with the process, and a forked child can shed it ([`crate::sys::fork`]).
//!
//! # Leaving and the last one
//!
//! A leaver first unlocks its own byte and then tries to lock the whole range. Whoever gets that is the last one, and
//! removes the name while it holds the range. Two who leave at once cannot both miss: each looks after it has unlocked. An
//! opener that finds the whole range locked waits; one that gets a byte of a file without a name starts again.
//!
//! A segment whose range can be locked whole, but which still has its name, is what a crash left behind: stale. Its opener
//! removes it, unless it is persistent, and finds nothing there.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | before the name is linked | the kernel | the unnamed file goes with its last descriptor | nothing |
//! | attached | a waiter's [`tend`](Attachment::tend), or the next at the same byte | [`reap`](Attachment::reap) | see the objects |
//! | leaving, before the unlink | the next opener, or a sweep | it finds the segment stale | nothing |

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use memmap2::MmapRaw;

use crate::heap::known::Keeper;
use crate::owner::{OwnerId, MAX_PARTICIPANTS};
use crate::participant::{self, Line};
#[cfg(feature = "shared_memory")]
use crate::segment::header::PERSISTENT;
use crate::segment::header::{Facts, Header, ANONYMOUS, HEADER_BYTES, SIZE_MAX, SIZE_MIN, TABLE_START};
use crate::segment::view::View;
use crate::sys::clock::{now, Deadline};
use crate::sys::fork::{self, Tie};
use crate::sys::{barrier, lock, memory};
use crate::{Error, ErrorKind, Result};

/// How often somebody in the whole machine looks for the dead of one segment, at most.
const TEND_NANOS: u64 = 40_000_000;
/// How often a place in the table may turn out to be a dead one's.
const TRIES: usize = 100;
/// How long an opener waits for one who is removing the segment.
const REMOVAL_WAIT: Duration = Duration::from_secs(2);

/// This process on one segment. Shared by all handles that came from it; leaving is its `Drop`.
#[derive(Debug)]
pub(crate) struct Attachment {
    map: MmapRaw,
    facts: Facts,
    /// Up to where this process has seen that what it added to the segment is committed; see `directory`.
    pub(crate) committed: AtomicU64,
    /// Owner id and lock descriptor: what a fork changes.
    tie: Arc<Tie>,
    /// Held while attaching anew after a fork.
    anew: Mutex<()>,
    /// What all handles of this attachment know of the heap.
    heap: Keeper,
}

/// A place among the participants that was taken for a child: a locked description that travels to it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) file: OwnedFd,
    pub(crate) owner: OwnerId,
}

impl Attachment {
    /// A new segment of `size` bytes in a sealed memfd.
    pub(crate) fn anonymous(size: u64) -> Result<Arc<Attachment>> {
        check_size(size)?;
        let file = memory::sealed_memfd("pagemate", size)?;
        Attachment::build(file, size, ANONYMOUS)
    }

    /// A new segment of `size` bytes in a file of `dir` that has no name yet; see [`publish`](Attachment::publish).
    pub(crate) fn unnamed(dir: &Path, size: u64, mode: u32, flags: u32) -> Result<Arc<Attachment>> {
        check_size(size)?;
        let file = memory::unnamed_file(dir, size, mode)?;
        Attachment::build(file, size, flags)
    }

    fn build(file: OwnedFd, size: u64, flags: u32) -> Result<Arc<Attachment>> {
        memory::commit(file.as_fd(), 0, SIZE_MIN)?;
        let facts = Facts { size, flags, created: unix_time().as_nanos() as u64 };
        let map = memory::map(file.as_fd(), size as usize)?;
        // SAFETY: the mapping is new, zeroed, page-aligned, longer than a header, and nobody else has the file.
        unsafe { facts.write(map.as_mut_ptr(), SIZE_MIN) };
        let own = memory::reopen(file.as_fd())?;
        Attachment::settle(map, facts, own, Entry::At(0))
    }

    /// Gives a segment that nobody else has seen its name, an absolute path. False: the name is taken.
    pub(crate) fn publish(&self, path: &Path) -> Result<bool> {
        // SAFETY: no other process can have a file without a name, and this one does not read the path meanwhile.
        if !unsafe { Header::set_path(self.base(), path) } {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the path {} is too long", path.display()),
            ));
        }
        memory::link(self.file()?, path)
    }

    /// Attaches to the segment at `path`. What a crash left behind there is removed and counts as not found.
    pub(crate) fn open(path: &Path) -> Result<Arc<Attachment>> {
        let deadline = Deadline::after(REMOVAL_WAIT);
        loop {
            let file = memory::open(path, true)?;
            let facts = read_facts(file.as_fd(), path)?;
            let own = memory::reopen(file.as_fd())?;
            match stake(own.as_fd(), path, &facts)? {
                Stake::Entered(index) => {
                    let map = memory::map(file.as_fd(), facts.size as usize)?;
                    return Attachment::settle(map, facts, own, Entry::At(index));
                }
                Stake::Gone => {}
                Stake::Crowded if deadline.has_passed() => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        format!(
                            "{} is just being removed or taken over by a process that does not finish (stopped?)",
                            path.display()
                        ),
                    ));
                }
                Stake::Full => return Err(table_is_full()),
                // Whoever holds the whole range is two system calls away from closing it.
                Stake::Crowded => std::thread::yield_now(),
            }
        }
    }

    /// Attaches to a region of zeroed shared memory that somebody else created and keeps, after making it a segment if it is
    /// not one yet. It is never removed from here.
    #[cfg(feature = "shared_memory")]
    pub(crate) fn open_foreign(path: &Path) -> Result<Arc<Attachment>> {
        let file = memory::open(path, true)?;
        let own = memory::reopen(file.as_fd())?;
        let size = u64::try_from(memory::stat(own.as_fd())?.st_size).unwrap_or(0);
        check_size(size)?;
        // Under the lock of the whole range nobody else is in it, and who dies here leaves it without its first word.
        if try_lock(own.as_fd(), 0, MAX_PARTICIPANTS)? {
            let mut first = [1; 8];
            memory::read_at(own.as_fd(), &mut first, 0)?;
            if first == [0; 8] {
                memory::commit(own.as_fd(), 0, SIZE_MIN)?;
                let facts = Facts { size, flags: PERSISTENT, created: unix_time().as_nanos() as u64 };
                let map = memory::map(own.as_fd(), SIZE_MIN as usize)?;
                // SAFETY: the mapping is page-aligned and longer than a header, zeroed but for what another such call wrote
                // before it died, and nobody else looks at it while we hold the whole range.
                unsafe { facts.write(map.as_mut_ptr(), SIZE_MIN) };
            }
            lock::unlock(own.as_fd(), 0, MAX_PARTICIPANTS)
                .map_err(|cause| Error::system("cannot share the region with others", cause))?;
        }
        Attachment::open(path)
    }

    /// In a child: takes the seat that its parent took for it.
    pub(crate) fn adopt(file: OwnedFd, owner: OwnerId) -> Result<Arc<Attachment>> {
        let other = memory::reopen(file.as_fd())?;
        let facts = read_facts(other.as_fd(), Path::new("the segment given by the parent"))?;
        let map = memory::map(other.as_fd(), facts.size as usize)?;
        Attachment::settle(map, facts, file, Entry::Seat(owner))
    }

    /// Attaches to the segment that the process `pid`, which has to be attached itself, has open as `file`: by its number, in
    /// /proc. For anonymous segments, which have no other name. `created` tells that it is the one that was meant.
    pub(crate) fn join(pid: u32, file: i32, created: u64) -> Result<Arc<Attachment>> {
        let other = memory::open_of(pid, file)?;
        let facts = read_facts(other.as_fd(), Path::new("the segment of another process"))?;
        if facts.created != created {
            return Err(Error::new(ErrorKind::NotFound, "the other process has closed the segment"));
        }
        let own = memory::reopen(other.as_fd())?;
        let map = memory::map(other.as_fd(), facts.size as usize)?;
        Attachment::settle(map, facts, own, Entry::Anywhere)
    }

    /// Becomes a participant through `own`, which holds no lock but the one that `entry` says.
    fn settle(map: MmapRaw, facts: Facts, own: OwnedFd, entry: Entry) -> Result<Arc<Attachment>> {
        barrier::register();
        let tie = Arc::new(Tie { owner: AtomicU32::new(0), file: AtomicI32::new(own.into_raw_fd()) });
        let attachment = Attachment {
            map,
            facts,
            committed: AtomicU64::new(0),
            tie,
            anew: Mutex::new(()),
            heap: Keeper::default(),
        };
        // From here on `attachment` closes the descriptor, also if what follows fails.
        let owner = match entry {
            Entry::At(index) => attachment.enter_at(index)?,
            Entry::Anywhere => attachment.enter(attachment.file()?, std::process::id())?,
            Entry::Seat(owner) => {
                let line = attachment.view().line(owner.index());
                if line.occupant(owner.index()) != Some(owner) {
                    return Err(Error::new(
                        ErrorKind::Corrupted,
                        "the place that the parent took for this child is gone from the segment",
                    ));
                }
                line.set_pid(std::process::id());
                owner
            }
        };
        attachment.tie.owner.store(owner.bits(), Relaxed);
        fork::watch(attachment.tie.clone());
        // Also those whose places `stake` has gone past. Not before it is known who we are ourselves.
        attachment.reap_all();
        Ok(Arc::new(attachment))
    }

    /// Takes a byte with the description `file`, which has none, and the line that goes with it.
    fn enter(&self, file: BorrowedFd<'_>, pid: u32) -> Result<OwnerId> {
        for index in 0..MAX_PARTICIPANTS {
            // More than once only if somebody dies there just now, or writes into the table.
            for _ in 0..TRIES {
                // Before its byte is taken: a dead one looks alive to others while somebody holds that, stopped perhaps.
                self.reap_if_dead(index);
                if !try_lock(file, index, 1)? {
                    break;
                }
                match self.occupy(index, pid) {
                    Ok(owner) => return Ok(owner),
                    Err(_) => lock::unlock(file, index, 1)
                        .map_err(|cause| Error::system("cannot give back a place in the segment", cause))?,
                }
            }
        }
        Err(table_is_full())
    }

    /// Takes a byte that nobody else can have, since it is ours already or the segment is new, and its line. It keeps the
    /// segment in being, so it is not given back.
    fn enter_at(&self, index: usize) -> Result<OwnerId> {
        if !try_lock(self.file()?, index, 1)? {
            return Err(Error::new(
                ErrorKind::Busy,
                "somebody else has taken this process's place in the segment",
            ));
        }
        for _ in 0..TRIES {
            match self.occupy(index, std::process::id()) {
                Ok(owner) => return Ok(owner),
                Err(dead) => self.reap(dead),
            }
        }
        Err(Error::new(ErrorKind::Corrupted, "the table of participants keeps being overwritten"))
    }

    fn occupy(&self, index: usize, pid: u32) -> std::result::Result<OwnerId, OwnerId> {
        // Before the line says so: whoever looks for the dead must not stop short of it.
        self.view().header().high.fetch_max(index as u32 + 1, AcqRel);
        self.view().line(index).occupy(index, pid, unix_time().as_secs() as u32)
    }

    /// Takes a place for a child that is about to be started.
    pub(crate) fn seat(&self) -> Result<Seat> {
        let file = memory::reopen(self.file()?)?;
        let owner = self.enter(file.as_fd(), 0)?;
        Ok(Seat { file, owner })
    }

    /// Who this process is on this segment. After a `fork` the child becomes a participant of its own here.
    #[inline]
    pub(crate) fn owner(&self) -> Result<OwnerId> {
        match OwnerId::from_bits(self.tie.owner.load(Relaxed)) {
            Some(owner) => Ok(owner),
            None => self.attach_anew(),
        }
    }

    #[cold]
    fn attach_anew(&self) -> Result<OwnerId> {
        let _guard = self.anew.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = OwnerId::from_bits(self.tie.owner.load(Relaxed)) {
            return Ok(owner);
        }
        let owner = self.enter(self.file()?, std::process::id())?;
        self.tie.owner.store(owner.bits(), Relaxed);
        Ok(owner)
    }

    /// Whether `id` is attached and its process exists. A system call.
    pub(crate) fn is_alive(&self, id: OwnerId) -> bool {
        let occupant = self.view().line(id.index()).occupant(id.index());
        if occupant != Some(id) {
            return false;
        }
        // In doubt alive: who is wrongly called dead gets robbed.
        id.bits() == self.tie.owner.load(Relaxed)
            || self
                .file()
                .is_ok_and(|file| lock::held_by_others(file, id.index(), 1).map_or(true, |width| width > 0))
    }

    /// Looks for the dead and reaps them, unless somebody did so in the last 40 ms. Every waiter calls this now and then.
    pub(crate) fn tend(&self) {
        let tended = &self.view().header().tended;
        let (last, now) = (tended.load(Relaxed), now());
        // A time ahead of ours is of another boot or of damaged bytes.
        if last <= now && now - last < TEND_NANOS {
            return;
        }
        if tended.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            self.reap_all();
        }
    }

    /// Reaps everybody who is dead, now.
    pub(crate) fn reap_all(&self) {
        (0..self.view().high()).for_each(|index| self.reap_if_dead(index));
    }

    fn reap_if_dead(&self, index: usize) {
        // Read before the lock is looked at: see the module doc of `participant`.
        if let Some(id) = self.view().line(index).occupant(index) {
            if !self.is_alive(id) {
                self.reap(id);
            }
        }
    }

    /// Clears every word that names `dead`, which must be dead or leaving. Any number of processes may do it at once.
    pub(crate) fn reap(&self, dead: OwnerId) {
        self.recover_records(dead);
        self.view().line(dead.index()).retire(dead);
    }

    /// The description that holds the lock.
    pub(crate) fn file(&self) -> Result<BorrowedFd<'_>> {
        match self.tie.file.load(Relaxed) {
            file if file >= 0 => {
                // SAFETY: the descriptor is this attachment's own and closed only by its Drop, which outlives the borrow.
                Ok(unsafe { BorrowedFd::borrow_raw(file) })
            }
            _ => Err(Error::new(
                ErrorKind::NotInThisProcess,
                "this process was forked and could not attach to the segment anew: /proc was not there at the fork",
            )),
        }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn heap(&self) -> &Keeper {
        &self.heap
    }

    /// First byte of the mapping.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The segment as it can be read.
    pub(crate) fn view(&self) -> View<'_> {
        // SAFETY: the mapping is page-aligned, at least as long as the smallest segment, and lives as long as `self`.
        unsafe { View::new(self.base(), self.facts.size) }
    }

    /// The file that the segment is called by, if it (still) has its name.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let file = self.file().ok()?;
        let path = self.view().header().path()?.to_path_buf();
        memory::is_called(file, &path).then_some(path)
    }

    fn leave(&self, file: BorrowedFd<'_>, owner: OwnerId) -> Result<()> {
        lock::unlock(file, owner.index(), 1)
            .map_err(|cause| Error::system("cannot leave the segment", cause))?;
        let last = try_lock(file, 0, MAX_PARTICIPANTS)?;
        if !last || self.facts.is_persistent() {
            self.reap(owner);
            return Ok(());
        }
        if self.facts.is_anonymous() {
            return Ok(());
        }
        match self.path() {
            Some(path) => memory::unlink(&path),
            None => Ok(()),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let descriptor = self.tie.file.load(Relaxed);
        let owner = OwnerId::from_bits(self.tie.owner.load(Relaxed));
        // No fork in between: the child would inherit a descriptor that nobody watches.
        let _guard = fork::forget(&self.tie);
        if let (Ok(file), Some(owner)) = (self.file(), owner) {
            // What fails here a survivor or the next opener repairs: it is the same as dying here.
            let _ = self.leave(file, owner);
        }
        if descriptor >= 0 {
            // SAFETY: the descriptor is ours alone, and nobody can use it after this.
            drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(descriptor) });
        }
    }
}

/// How a description comes to its place in the table.
enum Entry {
    /// It holds this byte, or nobody else can: the line is still to be written.
    At(usize),
    /// Somebody else keeps the segment in being: any byte that is free.
    Anywhere,
    /// It holds the byte already, and the line is written.
    Seat(OwnerId),
}

/// What came of trying to enter an existing segment.
enum Stake {
    /// Somebody is in it, or it is persistent: go on with this byte, which is locked.
    Entered(usize),
    /// It has lost its name, or was stale and has been removed: look again.
    Gone,
    /// Somebody holds all of it: removes it, or takes it over.
    Crowded,
    /// Each of its places is taken by somebody else.
    Full,
}

/// Enters through `own` far enough that nobody can remove the segment any more, or removes it if it is stale.
fn stake(own: BorrowedFd<'_>, path: &Path, facts: &Facts) -> Result<Stake> {
    let mut table = Table { first: usize::MAX, bytes: [0; Table::BYTES] };
    if try_lock(own, 0, MAX_PARTICIPANTS)? {
        if memory::stat(own)?.st_nlink == 0 {
            return Ok(Stake::Gone);
        }
        if !facts.is_persistent() {
            if memory::is_called(own, path) {
                memory::unlink(path)?;
            }
            return Ok(Stake::Gone);
        }
        // One byte is kept, so that nobody can remove it from here on.
        let kept = (0..MAX_PARTICIPANTS).find(|index| !table.is_attached(own, *index)).unwrap_or(0);
        for (first, count) in [(0, kept), (kept + 1, MAX_PARTICIPANTS - kept - 1)] {
            if count > 0 {
                lock::unlock(own, first, count)
                    .map_err(|cause| Error::system("cannot share the segment with others", cause))?;
            }
        }
        return Ok(Stake::Entered(kept));
    }
    // Not the byte of one that is dead, if there is another: it would look alive.
    for with_attached in [false, true] {
        for index in 0..MAX_PARTICIPANTS {
            if table.is_attached(own, index) == with_attached && try_lock(own, index, 1)? {
                let gone = memory::stat(own)?.st_nlink == 0;
                return Ok(if gone { Stake::Gone } else { Stake::Entered(index) });
            }
        }
    }
    // One lock over all bytes is that of a leaver or of another opener; locks of single bytes are participants'.
    let width = lock::held_by_others(own, 0, MAX_PARTICIPANTS)
        .map_err(|cause| Error::system("cannot see who holds the segment", cause))?;
    Ok(if width == 1 { Stake::Full } else { Stake::Crowded })
}

/// The table of participants in a file that is not mapped, read in pieces.
struct Table {
    /// Index of the first line in `bytes`.
    first: usize,
    bytes: [u8; Table::BYTES],
}

impl Table {
    const LINES: usize = 64;
    const BYTES: usize = Table::LINES * size_of::<Line>();

    /// Whether words in the segment may name a participant of this index. In doubt not.
    fn is_attached(&mut self, file: BorrowedFd<'_>, index: usize) -> bool {
        let first = index - index % Table::LINES;
        if first != self.first {
            self.bytes = [0; Table::BYTES];
            let _ = memory::read_at(file, &mut self.bytes, TABLE_START + (first * size_of::<Line>()) as u64);
            self.first = first;
        }
        let line = &self.bytes[(index - first) * size_of::<Line>()..];
        line.first_chunk().is_some_and(|word| participant::is_attached(u32::from_le_bytes(*word)))
    }
}

#[cold]
fn table_is_full() -> Error {
    let text = format!("all {MAX_PARTICIPANTS} places for participants of this segment are taken");
    Error::new(ErrorKind::OutOfMemory, text)
}

fn try_lock(file: BorrowedFd<'_>, index: usize, count: usize) -> Result<bool> {
    lock::try_lock(file, index, count).map_err(|cause| {
        Error::system(
            "this file system has no open-file-description locks (see fcntl(2)); use tmpfs or a local disk",
            cause,
        )
    })
}

/// Reads and checks the header of an open file, before anything is mapped.
pub(crate) fn read_facts(file: BorrowedFd<'_>, path: &Path) -> Result<Facts> {
    let mut bytes = [0; HEADER_BYTES];
    let count = memory::read_at(file, &mut bytes, 0)?;
    let length = u64::try_from(memory::stat(file)?.st_size).unwrap_or(0);
    Facts::read(&bytes[..count], length, path)
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn check_size(size: u64) -> Result<()> {
    if (SIZE_MIN..=SIZE_MAX).contains(&size) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("a segment of {size} bytes is not possible: {SIZE_MIN} to {SIZE_MAX} are"),
    ))
}
