//! Values in place. The entry's block is pinned, so that it stays unchanged until the guard is
//! dropped.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use super::handle::{not_an_item, Dict};
use super::read::{self, Bytes, Entry};
use crate::heap::{Block, Pinned};
use crate::message::item::Item;
use crate::Result;

/// A value of a [`Dict`], borrowed in the shared memory itself. See [`Dict::get_ref`].
///
/// The value stays unchanged, whatever becomes of the key. A writer that replaces or removes the
/// value does so at once, and the guard only delays the reuse of the memory. It blocks nobody. If a
/// process dies with a guard, reaping releases it.
///
/// A guard belongs to the process that created it. A child that [`fork`](libc::fork) makes must not
/// use it, because the parent may drop its own.
pub struct DictGuard<'a, V: Item + ?Sized> {
    lent: Lent<'a, V>,
}

enum Lent<'a, V: Item + ?Sized> {
    InPlace {
        value: &'a V,
        _pinned: Pinned<'a>,
    },
    /// The first `len` bytes of a word, which are a value.
    Word {
        word: Word,
        len: usize,
    },
    /// On the heap, because a value may be larger than a thread's stack.
    Copy(Box<V::Owned>),
}

/// Eight bytes, aligned for every value that they can hold.
#[repr(align(8))]
struct Word([u8; 8]);

/// Returns a copy of a value; `None` if the bytes are not valid.
fn copied<'a, V: Item + ?Sized>(bytes: Bytes<'_>) -> Option<Lent<'a, V>> {
    if bytes.len <= 8 {
        let (word, len) = (Word(bytes.first().to_le_bytes()), bytes.len);
        if V::in_place(&word.0[..len]).is_some() {
            return Some(Lent::Word { word, len });
        }
    }
    V::take_boxed(bytes).map(Lent::Copy)
}

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    /// Returns the value of `key` in place, for values that are too large to copy. Nothing is
    /// allocated, and the time does not depend on the length (except that a string is checked once
    /// for UTF-8).
    ///
    /// Values of at most 8 bytes are copied into the guard. Larger values are copied to the
    /// process's own heap in two cases: if about 100 guards are held at once, or if the type's
    /// alignment is more than 8.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let pages = pagemate::Dict::<str, [u8]>::new()?;
    /// pages.insert("home", &[b'x'; 100_000])?;
    /// let page = pages.get_ref("home")?.expect("it is there");
    /// pages.insert("home", b"another")?;
    /// assert_eq!(page.len(), 100_000, "this reader keeps the old value");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn get_ref(&self, key: &K) -> Result<Option<DictGuard<'_, V>>> {
        let (shard, hash) = self.shard_of(key.bytes());
        let Some((entry, generation)) = read::locate(shard, &self.heap, hash, key.bytes())? else {
            return Ok(None);
        };
        if let Some(lent) = self.lend(entry, generation)? {
            return Ok(Some(DictGuard { lent }));
        }
        match read::get(shard, &self.heap, hash, key.bytes(), copied)? {
            Some(Some(lent)) => Ok(Some(DictGuard { lent })),
            Some(None) => Err(not_an_item()),
            None => Ok(None),
        }
    }

    /// Borrows the value in place; `None` if it must be copied, or was replaced meanwhile.
    fn lend<'a>(&'a self, entry: Entry<'a>, generation: u32) -> Result<Option<Lent<'a, V>>> {
        let value = entry.value();
        // A single word may be changed in place, and words are little-endian.
        if value.words.len() < 2 || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let Some(pinned) = self.heap.pin(Block { at: entry.at, generation })? else { return Ok(None) };
        if self.heap.len(entry.at)? < entry.size() {
            return Ok(None); // damage, which a copy reports
        }
        // SAFETY: these words hold `value.len` bytes inside one block, and are mapped as long as
        // the dict is borrowed. The block was LIVE in the entry's generation after it was pinned,
        // so nobody writes there until the pin is released, because the words of a LIVE block are
        // changed only if its value is one word.
        let bytes = unsafe { std::slice::from_raw_parts(value.words.as_ptr().cast::<u8>(), value.len) };
        Ok(V::in_place(bytes).map(|value| Lent::InPlace { value, _pinned: pinned }))
    }

    /// Returns the result of `body` for the value of `key`, which is borrowed as in
    /// [`get_ref`](Dict::get_ref).
    ///
    /// # Errors
    ///
    /// Those of [`get_ref`](Dict::get_ref).
    pub fn get_with<R>(&self, key: &K, body: impl FnOnce(&V) -> R) -> Result<Option<R>> {
        Ok(self.get_ref(key)?.map(|value| body(&value)))
    }
}

impl<V: Item + ?Sized> Deref for DictGuard<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        match &self.lent {
            Lent::InPlace { value, .. } => value,
            Lent::Word { word, len } => match V::in_place(&word.0[..*len]) {
                Some(value) => value,
                None => unreachable!("the word was checked when it was copied"),
            },
            Lent::Copy(value) => (**value).borrow(),
        }
    }
}

impl<V: Item + fmt::Debug + ?Sized> fmt::Debug for DictGuard<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
