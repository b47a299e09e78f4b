//! Where the bytes of a message are: in its slot, or in a block of the store.
//!
//! Nothing that is read from a header is relied on: a name leads to a LIVE block of the store or to
//! none, and a length must fit into the slot or the block. So damaged bytes are `None` here, which
//! becomes `Corrupted`, and nothing beyond the object is read.

use super::header::{Header, Name};
use crate::failpoint::{is_planted, Fault};
use crate::heap::{Block, Class, Shortage, Store};
use crate::queue::error::Excess;
use crate::segment::owner::OwnerId;

/// The alignment of every block.
const BLOCK_ALIGN: usize = 16;

/// The room for messages of one type.
#[derive(Debug)]
pub(crate) struct Area {
    /// `None` if the quota is 0.
    store: Option<Store>,
    /// The number of bytes for a message in its slot.
    inline: usize,
    /// The size and the alignment of an element.
    size: usize,
    align: usize,
}

/// Where a new message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    Slot,
    Block(Class),
}

impl Area {
    pub(crate) fn new(store: Option<Store>, inline: usize, size: usize, align: usize) -> Area {
        debug_assert!(align.is_power_of_two());
        Area { store, inline, size, align }
    }

    #[inline]
    pub(crate) fn inline(&self) -> usize {
        self.inline
    }

    pub(crate) fn quota(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::quota)
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::in_use)
    }

    /// Returns where a message of `len` elements goes.
    #[inline]
    pub(crate) fn need(&self, len: usize) -> Result<Need, Excess> {
        let excess = |needed| Excess::new(needed, self.quota());
        let bytes = len.checked_mul(self.size).ok_or_else(|| excess(u64::MAX))?;
        if bytes <= self.inline {
            return Ok(Need::Slot);
        }
        let Some(store) = &self.store else { return Err(excess(bytes as u64)) };
        let whole = (bytes as u64).saturating_add(self.align.saturating_sub(BLOCK_ALIGN) as u64);
        store.class_for(whole).map(Need::Block).map_err(excess)
    }

    /// Allocates a block.
    #[inline]
    pub(crate) fn alloc(&self, class: Class, me: OwnerId) -> Result<Block, Shortage> {
        self.store.as_ref().ok_or(Shortage::Used)?.alloc(class, me)
    }

    /// Allocates a block like [`alloc`](Area::alloc), but only where one of this class was freed.
    pub(crate) fn alloc_freed(&self, class: Class, me: OwnerId) -> Option<Block> {
        self.store.as_ref()?.alloc_freed(class, me)
    }

    /// Frees a block that was allocated and for which there is no slot.
    pub(crate) fn free_unused(&self, block: Block, me: OwnerId) {
        if let Some(store) = &self.store {
            store.free(block.at, Some(me), |generation| generation == block.generation);
        }
    }

    /// Enters a new message of `len` elements in the header of a slot that `me` holds. From here on
    /// its block belongs to the slot.
    #[inline]
    pub(crate) fn enter(&self, header: &Header, len: usize, block: Option<Block>, me: OwnerId) {
        let is_late = is_planted(Fault::BlockUnnamed);
        if !is_late {
            header.set(len, block.map(Name::of));
        }
        if let (Some(store), Some(block)) = (&self.store, block) {
            store.publish(block, me); // if it fails, the block is damaged, and is not found
        }
        if is_late {
            header.set(len, block.map(Name::of));
        }
    }

    /// Moves the message from the header of one held slot to that of another. Both name the block
    /// for a moment, so that it is never without a name.
    pub(crate) fn move_on(from: &Header, to: &Header) {
        to.set(from.length() as usize, from.block());
        from.clear();
    }

    /// Returns the elements of a message: their address and their number. `short` is the address of
    /// the slot's bytes. `None` if the header is damaged.
    pub(crate) fn find(&self, header: &Header, short: *mut u8) -> Option<(*mut u8, usize)> {
        find(Some(self), header, short, self.size, self.inline)
    }

    /// Returns the address of the elements of a new message in this block.
    #[inline]
    pub(crate) fn address(&self, block: Block) -> Option<*mut u8> {
        let at = self.store.as_ref()?.address(block);
        Some(at.wrapping_add(at.align_offset(self.align)))
    }

    /// Returns the address of the elements in the block with this name. `None` if it is not LIVE,
    /// or has no room for `bytes` bytes.
    #[inline]
    fn find_block(&self, name: Name, bytes: usize) -> Option<*mut u8> {
        let (at, room) = self.store.as_ref()?.bytes(name.at(), |generation| name.is_of(generation))?;
        let skipped = at.align_offset(self.align);
        (bytes.checked_add(skipped)? as u64 <= room).then(|| at.wrapping_add(skipped))
    }

    /// Ends a message that was received, before its slot is freed.
    #[inline]
    pub(crate) fn finish(&self, header: &Header) {
        if let Some(name) = header.block() {
            header.set_done();
            self.free(name);
            header.clear();
        }
    }

    /// Ends a message that is not sent, before its slot is freed.
    pub(crate) fn abandon(&self, header: &Header) {
        if let Some(name) = header.block() {
            self.free(name);
            header.clear();
        }
    }

    /// Ends a message that was not sent by its producer, which is dead. The header is left as it
    /// is, because a reaper may be late.
    pub(crate) fn abandon_of_dead(&self, header: &Header) {
        if let Some(name) = header.block() {
            self.free(name);
        }
    }

    /// Returns what `pagemate show` prints about it.
    pub(crate) fn describe(&self) -> [(&'static str, String); 3] {
        [
            ("inline", self.inline.to_string()),
            ("quota", self.quota().to_string()),
            ("quota in use", self.in_use().to_string()),
        ]
    }

    /// Frees the block with this name if it is LIVE. Idempotent; any number of processes may do it
    /// at once.
    pub(crate) fn free(&self, name: Name) {
        if let Some(store) = &self.store {
            store.free(name.at(), None, |generation| name.is_of(generation));
        }
    }

    /// Frees the block with this name like [`free`](Area::free). Returns its share of the quota; 0
    /// if it was not LIVE.
    pub(crate) fn free_share(&self, name: Name) -> u64 {
        let Some(store) = &self.store else { return 0 };
        let is_this = |generation| name.is_of(generation);
        let class = store.bytes(name.at(), is_this).and_then(|(_, bytes)| Class::for_len(bytes));
        let is_freed = store.free(name.at(), None, is_this);
        class.filter(|_| is_freed).map_or(0, Class::share)
    }

    /// Returns the store, if the quota is not 0.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Frees the blocks that `dead` had allocated and not entered in a header.
    pub(crate) fn recover(&self, dead: OwnerId) {
        if let Some(store) = &self.store {
            store.recover(dead);
        }
    }
}

/// Like [`Area::find`], for a handle that knows the sizes of an element and of a slot.
#[inline(always)]
pub(crate) fn find(
    area: Option<&Area>,
    header: &Header,
    short: *mut u8,
    size: usize,
    inline: usize,
) -> Option<(*mut u8, usize)> {
    let len = usize::try_from(header.length()).ok()?;
    let bytes = len.checked_mul(size)?;
    match header.block() {
        None => (bytes <= inline && !header.is_done()).then_some((short, len)),
        Some(name) => area?.find_block(name, bytes).map(|at| (at, len)),
    }
}
