//! The handle of a dict.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

use super::hash::hash;
use super::read;
use super::shard::Shard;
use super::write::{self, Writer};
use crate::collections::reference::Referent;
use crate::heap::Heap;
use crate::message::item::Item;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::RESERVE;
use crate::segment::verbs::verbs;
use crate::sync::robust_word;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// Number of parts of a dict. Two writers meet with a probability of one in 64.
pub(crate) const SHARDS: usize = 64;
const HEAD: usize = 128;
const LEN: usize = HEAD + SHARDS * size_of::<Shard>();

/// A hash map in shared memory, for any number of processes. It is the counterpart of Python's
/// `Manager().dict()`, without the manager process.
///
/// Keys and values are [messages](crate::Message), strings or bytes: `Dict<u64, f64>`,
/// `Dict<str, [u8]>`. The dict grows with its entries.
///
/// Reading never blocks, takes no lock and writes nothing that is shared. A write locks one of 64
/// parts of the dict: it blocks until other writers of that part have finished. A writer that is
/// stopped blocks other writers of its part (see [`with_write_timeout`](Dict::with_write_timeout)).
/// A process that is killed in the middle of a write leaves the old value or the new one. No value
/// is ever seen half-written.
///
/// It has no order, and does not report waiters. A value is copied out ([`get`](Dict::get)), or
/// read in place ([`get_ref`](Dict::get_ref)). A minimal program: `examples/dict.rs`.
///
/// # Memory
///
/// An entry with an 8-byte key and an 8-byte value takes a block of 32 bytes, and 11 to 27 bytes of
/// a table. The memory of the earlier, smaller tables together is as large as the table, until it
/// is used again. With the heap's spare memory this is at most 107 bytes per entry in a dict of a
/// million or more, and 150 in one of ten thousand; 67 were measured with ten million. A small dict
/// takes 400 KB, whatever its content.
///
/// Freed memory is used again, also for other sizes. It is not returned to the system before the
/// segment is. A dict with its own name reserves 16 GiB of address space, and takes memory from it
/// as needed. In a [`Segment`](crate::Segment) it uses the memory of the segment.
///
/// # Examples
///
/// ```
/// use pagemate::Dict;
///
/// # fn main() -> pagemate::Result<()> {
/// let ages = Dict::<str, u32>::new()?;
/// assert!(ages.insert("Ada", &36)?, "it was not there");
/// ages.update("Ada", |age| age.map(|age| age + 1))?;
/// assert_eq!(ages.get("Ada")?, Some(37));
/// assert_eq!(ages.remove("Ada")?, Some(37));
/// assert!(ages.is_empty()?);
/// # Ok(())
/// # }
/// ```
///
/// Opening it with other types is an error:
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// # let segment = pagemate::Segment::new(1 << 20)?;
/// pagemate::Dict::<str, u32>::create(segment.at("ages"))?;
/// let error = pagemate::Dict::<str, f64>::open(segment.at("ages")).unwrap_err();
/// assert!(error.to_string().contains("str => f64") && error.to_string().contains("str => u32"));
/// # Ok(())
/// # }
/// ```
pub struct Dict<K: Item + ?Sized, V: Item + ?Sized> {
    pub(crate) object: ObjectRef,
    pub(crate) heap: Heap,
    seed: u64,
    patience: Option<Duration>,
    _key: PhantomData<fn(&K)>,
    _value: PhantomData<fn(&V)>,
}

/// The memory in front of the shards.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Head {
    pub(crate) seed: u64,
    _reserved: [u64; 15],
}

const _: () = assert!(size_of::<Head>() == HEAD);

/// Returns the shards of the dict at `base`, or none if `len` is too short.
pub(crate) fn shards<'a>(base: *const u8, len: usize) -> &'a [Shard] {
    if len < LEN {
        return &[];
    }
    // SAFETY: objects are aligned to 128 and mapped while they are inspected. This one is long
    // enough, and any bytes are a Shard, whose words are atomics.
    unsafe { std::slice::from_raw_parts(base.add(HEAD).cast::<Shard>(), SHARDS) }
}

#[cold]
pub(crate) fn not_an_item() -> Error {
    Error::new(ErrorKind::Corrupted, "the dict is damaged: bytes that are not a value of their type")
}

impl<K: Item + ?Sized, V: Item + ?Sized> Object for Dict<K, V> {
    const KIND: Kind = Kind::Dict;
    const LEN: usize = LEN;
    const RESERVE: u64 = RESERVE;
    type Initial = ();

    fn schema() -> String {
        format!("{} => {}", K::layout(), V::layout())
    }

    unsafe fn init(base: *mut u8, _: &()) {
        // A model must take the same path each time.
        let seed = if cfg!(loom) { 1 } else { RandomState::new().build_hasher().finish() };
        // SAFETY: as the caller promises.
        unsafe { (&raw mut (*base.cast::<Head>()).seed).write(seed) };
    }

    fn attach(object: ObjectRef) -> Result<Dict<K, V>> {
        // SAFETY: the object is long enough for a Head (checked in from_object), aligned and
        // mapped. Its seed was written before it was published.
        let seed = unsafe { (&raw const (*object.base().cast::<Head>()).seed).read() };
        let heap = Heap::of(object.attachment());
        Ok(Dict { object, heap, seed, patience: None, _key: PhantomData, _value: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<K: Item + ?Sized, V: Item + ?Sized> Referent for Dict<K, V> {
    fn type_name() -> String {
        format!("Dict<{}, {}>", K::name(), V::name())
    }
}

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    verbs!(Dict<K, V>: "an empty" "dict" (), mismatch "keys or values of another type");

    /// Returns a handle to the same dict whose writes wait at most `timeout` for another writer of
    /// the same part, which may be stopped, and then fail with `TimedOut`. With a timeout of zero
    /// they do not wait at all. By default they wait without limit.
    pub fn with_write_timeout(&self, timeout: Duration) -> Dict<K, V> {
        Dict { patience: Some(timeout), ..self.clone() }
    }

    #[inline(always)]
    pub(crate) fn shards(&self) -> &[Shard] {
        shards(self.object.base(), self.object.len())
    }

    /// Returns the shard of a key, and its hash.
    #[inline(always)]
    pub(crate) fn shard_of(&self, key: &[u8]) -> (&Shard, u64) {
        let hash = hash(self.seed, key);
        // SAFETY: from_object has checked that the object is as long as the head and all shards,
        // and six bits are below 64.
        let shard = unsafe { &*self.object.base().add(HEAD).cast::<Shard>().add((hash >> 58) as usize) };
        (shard, hash)
    }

    /// Returns true if two keys are in the same part, so that their writers wait for each other.
    /// For tests.
    #[cfg(feature = "__internals")]
    #[doc(hidden)]
    pub fn shares_part(&self, one: &K, other: &K) -> bool {
        std::ptr::eq(self.shard_of(one.bytes()).0, self.shard_of(other.bytes()).0)
    }

    /// Runs `body` while the shard is locked.
    #[inline]
    pub(crate) fn write<R>(
        &self,
        shard: &Shard,
        body: impl FnOnce(&Writer<'_, Heap>) -> Result<R>,
    ) -> Result<R> {
        let me = self.object.owner()?;
        let deadline = self.patience.map_or(Deadline::Never, Deadline::after);
        let acquired = robust_word::acquire_from_all(&shard.owner, &self.object, me, deadline);
        let acquired = acquired
            .ok_or_else(|| robust_word::held(&shard.owner, "writing in the same part of the dict"))?;
        let held = Held { shard, me };
        shard.finish_pending(&self.heap);
        if acquired.after_death {
            shard.owner.mark_consistent();
        }
        let result = body(&Writer { shard, store: &self.heap });
        drop(held);
        result
    }

    /// Returns a copy of the value of `key`.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V::Owned>> {
        let (shard, hash) = self.shard_of(key.bytes());
        match read::get(shard, &self.heap, hash, key.bytes(), V::take)? {
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(not_an_item()),
            None => Ok(None),
        }
    }

    /// Returns true if `key` has a value. The answer may be out of date immediately.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn contains_key(&self, key: &K) -> Result<bool> {
        let (shard, hash) = self.shard_of(key.bytes());
        Ok(read::get(shard, &self.heap, hash, key.bytes(), |_| ())?.is_some())
    }

    /// Sets the value of `key`. Returns true if it had none, and false if another was replaced.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then nothing has changed. `InvalidInput` (longer than 4 GiB), `TimedOut`,
    /// `NotInThisProcess`, `Corrupted`.
    #[inline]
    pub fn insert(&self, key: &K, value: &V) -> Result<bool> {
        let (shard, hash) = self.shard_of(key.bytes());
        write::prefetch(shard, &self.heap, hash);
        self.write(shard, |writer| writer.put(hash, key.bytes(), value.bytes()))
    }

    /// Removes `key`, and returns the value that it had.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, key: &K) -> Result<Option<V::Owned>> {
        let (shard, hash) = self.shard_of(key.bytes());
        match self.write(shard, |writer| writer.remove(hash, key.bytes(), V::take))? {
            Some(None) => Err(not_an_item()),
            removed => Ok(removed.flatten()),
        }
    }

    /// Atomically replaces the value of `key` with `new` if it is `current`. `None` means no value:
    /// as `current` it matches a missing key, and as `new` it removes the key.
    ///
    /// Values are compared by their bytes. If the value differs, returns `Ok(Err(found))`, and
    /// nothing has changed.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let dict = pagemate::Dict::<u64, u64>::new()?;
    /// assert_eq!(dict.compare_exchange(&1, None, Some(&5))?, Ok(()));
    /// assert_eq!(dict.compare_exchange(&1, None, Some(&6))?, Err(Some(5)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Dict::insert).
    pub fn compare_exchange(
        &self,
        key: &K,
        current: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V::Owned>>> {
        let (shard, hash) = self.shard_of(key.bytes());
        let key = key.bytes();
        self.write(shard, |writer| {
            if !writer.has(hash, key, current.map(V::bytes))? {
                let found = writer.get(hash, key, V::take)?;
                return if matches!(found, Some(None)) {
                    Err(not_an_item())
                } else {
                    Ok(Err(found.flatten()))
                };
            }
            match new {
                Some(new) => writer.put(hash, key, new.bytes()).map(drop)?,
                None => writer.remove(hash, key, |_| ()).map(drop)?,
            }
            Ok(Ok(()))
        })
    }

    /// Atomically replaces the value of `key` with the result of `change`. `None` means no value.
    ///
    /// `change` is called without a lock, and again if another writer was quicker. So it may use
    /// the dict, and the process may be killed in it.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Dict::insert).
    pub fn update(
        &self,
        key: &K,
        mut change: impl FnMut(Option<&V>) -> Option<V::Owned>,
    ) -> Result<Option<V::Owned>> {
        use std::borrow::Borrow;
        let mut seen = self.get(key)?;
        loop {
            let new = change(seen.as_ref().map(Borrow::borrow));
            let exchanged = self.compare_exchange(
                key,
                seen.as_ref().map(Borrow::borrow),
                new.as_ref().map(Borrow::borrow),
            )?;
            match exchanged {
                Ok(()) => return Ok(new),
                Err(found) => seen = found,
            }
        }
    }

    /// Returns the value of `key`. If there is none, inserts the result of `make` and returns it,
    /// unless another writer is quicker.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Dict::insert).
    pub fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> V::Owned) -> Result<V::Owned> {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        let made = make();
        match self.compare_exchange(key, None, Some(std::borrow::Borrow::borrow(&made)))? {
            Err(Some(found)) => Ok(found),
            _ => Ok(made),
        }
    }
}

/// The right to write in the shard. Dropping it unlocks the shard.
struct Held<'a> {
    shard: &'a Shard,
    me: OwnerId,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // False only if another program writes into the memory.
        let _ = self.shard.owner.release(self.me);
    }
}

impl<K: Item + ?Sized, V: Item + ?Sized> Clone for Dict<K, V> {
    fn clone(&self) -> Dict<K, V> {
        let (object, heap) = (self.object.clone(), self.heap.clone());
        Dict {
            object,
            heap,
            seed: self.seed,
            patience: self.patience,
            _key: PhantomData,
            _value: PhantomData,
        }
    }
}

impl<K: Item + ?Sized, V: Item + ?Sized> fmt::Debug for Dict<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.shards().iter().map(Shard::count).fold(0, u64::saturating_add);
        f.debug_struct("Dict").field("len", &count).finish_non_exhaustive()
    }
}

/// Frees the shards in which `dead` was writing. The next writer there completes or undoes its
/// change.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    shards(base, len).iter().for_each(|shard| shard.owner.recover(dead));
}

/// Returns what `pagemate show` prints about a dict.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let shards = shards(base, len);
    let count = shards.iter().map(Shard::count).fold(0, u64::saturating_add);
    let writers = shards.iter().filter(|shard| shard.owner.holder().is_some()).count();
    vec![("entries", count.to_string()), ("parts being written", writers.to_string())]
}
