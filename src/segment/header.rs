//! The header of a segment, and the offsets of its other parts.
//!
//! ```text
//! 0        ┌──────────────────────────────┐
//!          │ Header                       │ written once, except for eight words
//! 4096     ├──────────────────────────────┤
//!          │ table of participants        │ 1,024 lines of 16 bytes
//! 20480    ├──────────────────────────────┤
//!          │ space: records with objects  │ see `records`
//! size     └──────────────────────────────┘
//! ```
//!
//! Everything is written before the segment can be seen, because its name appears only when the
//! object behind it is complete. An opener reads the header as plain bytes, before it maps
//! anything, and refuses whatever it does not understand.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::loom::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::segment::owner::MAX_PARTICIPANTS;
use crate::{Error, ErrorKind, Result};

/// The first eight bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"pagemate";
/// Changes whenever a byte of the memory format does. CHANGELOG.md then has a line with
/// **Layout:**.
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// The segment's objects outlive its last participant.
pub(crate) const PERSISTENT: u32 = 1;
/// A memfd: there is no name to remove.
pub(crate) const ANONYMOUS: u32 = 2;

/// Number of bytes that an opener reads before it maps anything. All but `remover` and `swept` are
/// written once.
pub(crate) const HEADER_BYTES: usize = 128;
/// Longest path of a segment, in bytes.
const PATH_MAX: usize = 2048;

/// Offset of the table of participants.
pub(crate) const TABLE_START: u64 = 4096;
/// Offset of the space for objects.
pub(crate) const SPACE_START: u64 = TABLE_START + 16 * MAX_PARTICIPANTS as u64;
/// Size of the smallest segment: one page of space.
pub(crate) const SIZE_MIN: u64 = SPACE_START + 4096;
/// Size of the largest segment. The lock bytes lie far above it, and 32-bit lengths in units of 128
/// bytes reach it.
pub(crate) const SIZE_MAX: u64 = 1 << 38;

/// The header. All integers are little-endian.
#[repr(C)]
pub(crate) struct Header {
    magic: [u8; 8],
    layout_version: u32,
    /// `PERSISTENT`, `ANONYMOUS`.
    flags: u32,
    /// Length of the file in bytes: reserved, not necessarily committed.
    size: u64,
    /// Unix time in nanoseconds.
    created: u64,
    /// The registered permit to remove the name; see `removal`. It has this offset in every layout
    /// version.
    pub(crate) remover: AtomicU64,
    _reserved: [u64; 10],
    /// Index of the participant with which the next check for the dead begins.
    pub(crate) swept: AtomicU32,
    _padding: u32,
    /// One more than the highest index that a participant ever had.
    pub(crate) high: AtomicU32,
    /// Not 0: there may be `FREE` records. A hint.
    pub(crate) freed: AtomicU32,
    /// Time of the last check for the dead: nanoseconds on the monotonic clock.
    pub(crate) last_check: AtomicU64,
    /// Offset of the newest record of the directory; 0: none.
    pub(crate) directory: AtomicU64,
    /// Offset of the first byte of space that no record has claimed. It lags; any process may
    /// advance it.
    pub(crate) space_end: AtomicU64,
    /// Everything below this offset is committed. For observers; no participant relies on it.
    pub(crate) committed: AtomicU64,
    /// Length of `path`.
    path_len: u64,
    /// The absolute path that the segment was published under; empty for a memfd.
    path: [u8; PATH_MAX],
}

const _: () =
    assert!(size_of::<Header>() <= TABLE_START as usize && std::mem::offset_of!(Header, high) == 128);
const _: () = assert!(std::mem::offset_of!(Header, remover) == 32);

impl Header {
    /// Stores the path under which the segment is about to be published. Returns false if the path
    /// is too long.
    ///
    /// # Safety
    ///
    /// `base` is the mapping of a segment that no other process sees yet.
    pub(crate) unsafe fn set_path(base: *mut u8, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        let header = base.cast::<Header>();
        if bytes.len() > PATH_MAX {
            return false;
        }
        // SAFETY: by the contract the header is mapped and exclusively ours, and the bytes fit, as
        // was just checked.
        unsafe {
            (&raw mut (*header).path).cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            (&raw mut (*header).path_len).write(bytes.len() as u64);
        }
        true
    }

    /// Returns the path under which the segment was published; `None` if it was not. The caller
    /// checks that the path still leads to this file.
    pub(crate) fn path(&self) -> Option<&Path> {
        let len = usize::try_from(self.path_len).ok()?;
        let bytes = self.path.get(..len).filter(|bytes| !bytes.is_empty())?;
        Some(Path::new(OsStr::from_bytes(bytes)))
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header").field("path", &self.path()).field("high", &self.high).finish_non_exhaustive()
    }
}

/// The fields that an opener copies out of the header, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) flags: u32,
    /// Unix time in nanoseconds.
    pub(crate) created: u64,
}

impl Facts {
    pub(crate) fn is_persistent(&self) -> bool {
        self.flags & PERSISTENT != 0
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.flags & ANONYMOUS != 0
    }

    /// Writes the header of a new segment.
    ///
    /// # Safety
    ///
    /// `base` points to at least 4096 zeroed, mapped, aligned bytes that no other process sees.
    pub(crate) unsafe fn write(&self, base: *mut u8, committed: u64) {
        let header = base.cast::<Header>();
        // SAFETY: by the contract the memory is mapped, aligned and exclusively ours; zero is a
        // valid atomic.
        unsafe {
            (&raw mut (*header).layout_version).write(LAYOUT_VERSION);
            (&raw mut (*header).flags).write(self.flags);
            (&raw mut (*header).size).write(self.size);
            (&raw mut (*header).created).write(self.created);
            (*header).space_end.store(SPACE_START, Relaxed);
            (*header).committed.store(committed, Relaxed);
            // Last: without the magic number the rest counts as not written.
            crate::loom::atomic::fence(crate::loom::atomic::Ordering::Release);
            (&raw mut (*header).magic).write(MAGIC);
        }
    }

    /// Reads and checks the header of a file of `length` bytes; `bytes` are the first of them.
    pub(crate) fn read(bytes: &[u8], length: u64, name: &Path) -> Result<Facts> {
        let name = name.display();
        let corrupted = |what: String| Error::new(ErrorKind::Corrupted, format!("{name} {what}"));
        let word =
            |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let long =
            |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(corrupted(
                "is not a pagemate segment: it does not begin with the right bytes; \
                 remove it or use another name"
                    .into(),
            ));
        }
        let version = word(8);
        if version != LAYOUT_VERSION {
            return Err(Error::new(
                ErrorKind::VersionMismatch,
                format!(
                    "{name} has memory layout {version}, but this program understands layout \
                     {LAYOUT_VERSION}: build both programs with the same pagemate, or remove the segment"
                ),
            ));
        }
        let facts = Facts { size: long(16), flags: word(12), created: long(24) };
        if facts.size != length || !(SIZE_MIN..=SIZE_MAX).contains(&length) {
            let says = facts.size;
            return Err(corrupted(format!(
                "is truncated or damaged: its header says {says} bytes, the file has {length}"
            )));
        }
        if facts.flags & !(PERSISTENT | ANONYMOUS) != 0 {
            return Err(corrupted(format!("is damaged: unknown flags {:#x}", facts.flags)));
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_nothing_else() {
        let mut page = vec![0u64; 512];
        let facts = Facts { size: SIZE_MIN, flags: PERSISTENT, created: 7 };
        // SAFETY: 4096 zeroed, aligned bytes of our own.
        unsafe { facts.write(page.as_mut_ptr().cast(), SIZE_MIN) };
        let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = Path::new("x");
        let read = |bytes: &[u8], length| Facts::read(bytes, length, name).map_err(|error| error.kind());
        assert!(read(&bytes, SIZE_MIN).is_ok_and(|facts| facts.is_persistent() && facts.created == 7));
        assert_eq!(read(&bytes[..8], SIZE_MIN).unwrap_err(), ErrorKind::VersionMismatch);
        assert_eq!(read(&[], 0).unwrap_err(), ErrorKind::Corrupted);
        assert_eq!(read(&bytes, SIZE_MIN - 1).unwrap_err(), ErrorKind::Corrupted);
        for (at, kind) in
            [(0, ErrorKind::Corrupted), (8, ErrorKind::VersionMismatch), (15, ErrorKind::Corrupted)]
        {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            assert_eq!(read(&damaged, SIZE_MIN).unwrap_err(), kind, "byte {at}");
        }
    }
}
