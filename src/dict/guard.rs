//! Values in place: the entry's block is pinned, so that it stays as it is until the guard is dropped.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use super::handle::Dict;
use super::read::{self, Entry};
use crate::heap::{Block, Pinned};
use crate::item::Item;
use crate::Result;

/// A value of a [`Dict`], in the shared memory itself: [`Dict::get_ref`].
///
/// What is behind it stays as it was, whatever becomes of the key: who replaces or removes the value does so at once, and only its
/// memory is used again later. Holds up nobody. A process that dies with a guard gives it back when it is reaped.
///
/// A guard is of the process that got it: a child that [`fork`](libc::fork) makes must not use it, since the parent may drop its own.
pub struct DictGuard<'a, V: Item + ?Sized> {
    lent: Lent<'a, V>,
}

enum Lent<'a, V: Item + ?Sized> {
    InPlace { value: &'a V, _pinned: Pinned<'a> },
    Copy(V::Owned),
}

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    /// The value of `key` in place, for values that are too large to copy: nothing is allocated, and it takes as long for many bytes as
    /// for few (a string's are looked through once, whether they are UTF-8).
    ///
    /// Values of at most 8 bytes are copied into the guard, and likewise all when some 100 guards are held at once; of a type that is
    /// aligned to more than 8, all values.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let pages = pagemate::Dict::<str, [u8]>::new()?;
    /// pages.insert("home", &[b'x'; 100_000])?;
    /// let page = pages.get_ref("home")?.expect("it is there");
    /// pages.insert("home", b"another")?;
    /// assert_eq!(page.len(), 100_000, "for this reader it is still the one");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn get_ref(&self, key: &K) -> Result<Option<DictGuard<'_, V>>> {
        let (shard, hash) = self.spot(key.bytes());
        let Some((entry, generation)) = read::locate(shard, &self.heap, hash, key.bytes())? else {
            return Ok(None);
        };
        if let Some(lent) = self.lend(entry, generation)? {
            return Ok(Some(DictGuard { lent }));
        }
        Ok(self.get(key)?.map(|copy| DictGuard { lent: Lent::Copy(copy) }))
    }

    /// `None`: it is to be copied, or another by now.
    fn lend<'a>(&'a self, entry: Entry<'a>, generation: u64) -> Result<Option<Lent<'a, V>>> {
        let value = entry.value();
        // A single word may be changed in place; and words are little-endian.
        if value.words.len() < 2 || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let block = Block { at: entry.at, generation: generation as u32 };
        let Some(pinned) = self.heap.pin(block)? else { return Ok(None) };
        if self.heap.len(entry.at)? < entry.size() {
            return Ok(None); // damage, which a copy tells
        }
        // SAFETY: so many bytes stand in these words, which are mapped as long as the dict is borrowed, inside of one block. It was
        // LIVE in the entry's generation after it was pinned, so nobody writes there until the pin is let go of: a LIVE block's words
        // are changed only if its value is one word.
        let bytes = unsafe { std::slice::from_raw_parts(value.words.as_ptr().cast::<u8>(), value.len) };
        Ok(V::in_place(bytes).map(|value| Lent::InPlace { value, _pinned: pinned }))
    }

    /// What `body` makes of the value of `key`, which is lent as by [`get_ref`](Dict::get_ref).
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
            Lent::Copy(value) => value.borrow(),
        }
    }
}

impl<V: Item + fmt::Debug + ?Sized> fmt::Debug for DictGuard<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
