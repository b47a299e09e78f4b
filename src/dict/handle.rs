//! The dict as a program holds it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

use super::hash::hash;
use super::read;
use super::shard::Shard;
use super::write::{self, Writer};
use crate::heap::Heap;
use crate::item::Item;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::owned;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// How many parts a dict has; of two writers, one in as many meets the other.
pub(super) const SHARDS: usize = 64;
const HEAD: usize = 128;
const LEN: usize = HEAD + SHARDS * size_of::<Shard>();

/// Keys and values in shared memory, for any number of processes: Python's `Manager().dict()` without the manager.
///
/// Keys and values are [messages](crate::Message), strings or bytes: `Dict<u64, f64>`, `Dict<str, [u8]>`. Grows as entries
/// come. Reading waits for nobody, takes no lock and writes nothing that is shared. A write holds one of 64 parts of the dict for
/// its time: it waits for who writes in the same part, also while that one is stopped (see
/// [`write_timeout`](Dict::write_timeout)), and a process that is killed in the middle of a write leaves the old or the
/// new. No value is ever seen half.
///
/// Not ordered; does not say who is waiting. A value is copied out ([`get`](Dict::get)), or read in place ([`get_ref`](Dict::get_ref)).
///
/// # Memory
///
/// An entry of an 8-byte key and an 8-byte value takes a block of 32 bytes and 11 to 27 bytes of a table; the smaller tables that were
/// there before take as much as the table again, until something of about their size needs the memory. With what the heap has in
/// hand that is at most 107 bytes an entry in a dict of a million and more, and 150 in one of ten thousand; 67 were seen with ten million. A small one
/// takes 400 KB, whatever is in it.
/// Memory that was freed is used again for what has about its size; it is not given back before the segment is. A dict of its own reserves 16 GiB of address space, of which memory is taken as needed;
/// inside of a [`Segment`](crate::Segment) it uses what that has.
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
/// Two programs that disagree about the types are told:
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
    pub(super) object: ObjectRef,
    pub(super) heap: Heap,
    seed: u64,
    patience: Option<Duration>,
    _key: PhantomData<fn(&K)>,
    _value: PhantomData<fn(&V)>,
}

/// The memory in front of the shards.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Head {
    pub(super) seed: u64,
    _reserved: [u64; 15],
}

const _: () = assert!(size_of::<Head>() == HEAD);

fn write_seed(base: *mut u8) {
    let seed = RandomState::new().build_hasher().finish();
    // SAFETY: the zeroed bytes of the object are at `base`, aligned to 128, and nobody else has them.
    unsafe { (&raw mut (*base.cast::<Head>()).seed).write(seed) };
}

/// The shards of the dict at `base`, if it is as long as one.
pub(super) fn shards<'a>(base: *const u8, len: usize) -> &'a [Shard] {
    if len < LEN {
        return &[];
    }
    // SAFETY: objects are aligned to 128 and mapped as long as somebody looks at them, this one is long enough, and any bytes
    // are a Shard, whose words are atomics.
    unsafe { std::slice::from_raw_parts(base.add(HEAD).cast::<Shard>(), SHARDS) }
}

#[cold]
pub(super) fn not_an_item() -> Error {
    Error::new(ErrorKind::Corrupted, "the dict is damaged: bytes that are no value of their type")
}

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    fn shape(kind: Kind) -> Shape {
        Shape { kind, schema: Self::schema(), len: LEN }
    }

    /// The text of the types of keys and values.
    pub(crate) fn schema() -> String {
        format!("{} => {}", K::layout(), V::layout())
    }

    /// A dict that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Dict<K, V>> {
        Dict::new_as(Kind::Dict)
    }

    /// Creates the dict. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Dict<K, V>> {
        Dict::create_as(Kind::Dict, place.into())
    }

    /// Opens an existing dict.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of other keys or values), `PermissionDenied`,
    /// `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Dict<K, V>> {
        Dict::open_as(Kind::Dict, place.into())
    }

    /// Opens the dict or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Dict::open) and [`create`](Dict::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Dict<K, V>, Origin)> {
        Dict::open_or_create_as(Kind::Dict, place.into())
    }

    pub(crate) fn new_as(kind: Kind) -> Result<Dict<K, V>> {
        Dict::from_object(Place::anonymous_growing(&Self::shape(kind), write_seed)?)
    }

    pub(crate) fn create_as(kind: Kind, place: Place) -> Result<Dict<K, V>> {
        Dict::from_object(place.growing().create(&Self::shape(kind), write_seed)?)
    }

    pub(crate) fn open_as(kind: Kind, place: Place) -> Result<Dict<K, V>> {
        Dict::from_object(place.open(kind, &Self::shape(kind).schema)?)
    }

    pub(crate) fn open_or_create_as(kind: Kind, place: Place) -> Result<(Dict<K, V>, Origin)> {
        let (object, origin) = place.growing().open_or_create(&Self::shape(kind), write_seed)?;
        Ok((Dict::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Dict<K, V>> {
        if object.len() < LEN {
            return Err(Error::new(ErrorKind::Corrupted, "the dict's record is too short"));
        }
        // SAFETY: the object is longer than a Head (checked above), aligned and mapped; its seed was written before it was
        // published.
        let seed = unsafe { (&raw const (*object.base().cast::<Head>()).seed).read() };
        let heap = Heap::of(object.attachment());
        Ok(Dict { object, heap, seed, patience: None, _key: PhantomData, _value: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The same dict, whose writes give up with `TimedOut` when they have waited so long for another writer of the same part, who may
    /// be stopped. Zero: they do not wait at all. Without it they wait as long as it takes.
    pub fn write_timeout(&self, timeout: Duration) -> Dict<K, V> {
        Dict { patience: Some(timeout), ..self.clone() }
    }

    #[inline(always)]
    pub(super) fn shards(&self) -> &[Shard] {
        shards(self.object.base(), self.object.len())
    }

    /// Where a key is, and its hash.
    #[inline(always)]
    pub(super) fn spot(&self, key: &[u8]) -> (&Shard, u64) {
        let hash = hash(self.seed, key);
        // SAFETY: from_object has checked that the object is as long as the head and all shards, and six bits are below 64.
        let shard = unsafe { &*self.object.base().add(HEAD).cast::<Shard>().add((hash >> 58) as usize) };
        (shard, hash)
    }

    /// Whether two keys are in the same part, so that who writes one waits for who writes the other. For tests.
    #[doc(hidden)]
    pub fn shares_part(&self, one: &K, other: &K) -> bool {
        std::ptr::eq(self.spot(one.bytes()).0, self.spot(other.bytes()).0)
    }

    /// Holds the shard for the time of `body`.
    #[inline]
    pub(super) fn write<R>(
        &self,
        shard: &Shard,
        body: impl FnOnce(&Writer<'_, Heap>) -> Result<R>,
    ) -> Result<R> {
        let me = self.object.owner()?;
        let deadline = self.patience.map_or(Deadline::Never, Deadline::after);
        let acquired = owned::acquire_from_all(&shard.owner, &self.object, me, deadline);
        let acquired =
            acquired.ok_or_else(|| owned::held(&shard.owner, "writing in the same part of the dict"))?;
        let held = Held { shard, me };
        shard.settle(&self.heap);
        if acquired.after_death {
            shard.owner.mark_consistent();
        }
        let result = body(&Writer { shard, store: &self.heap });
        drop(held);
        result
    }

    /// A copy of the value of `key`.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V::Owned>> {
        let (shard, hash) = self.spot(key.bytes());
        match read::get(shard, &self.heap, hash, key.bytes(), V::take)? {
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(not_an_item()),
            None => Ok(None),
        }
    }

    /// Whether there is a value of `key`. May change at any moment.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn contains_key(&self, key: &K) -> Result<bool> {
        let (shard, hash) = self.spot(key.bytes());
        Ok(read::get(shard, &self.heap, hash, key.bytes(), |_| ())?.is_some())
    }

    /// Gives `key` this value. True: it had none; false: another was replaced.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, and everything is as it was; `InvalidInput` (longer than 4 GiB), `TimedOut`, `NotInThisProcess`,
    /// `Corrupted`.
    #[inline]
    pub fn insert(&self, key: &K, value: &V) -> Result<bool> {
        let (shard, hash) = self.spot(key.bytes());
        write::prefetch(shard, &self.heap, hash);
        self.write(shard, |writer| writer.put(hash, key.bytes(), value.bytes()))
    }

    /// Removes `key`; gives the value it had.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, key: &K) -> Result<Option<V::Owned>> {
        let (shard, hash) = self.spot(key.bytes());
        match self.write(shard, |writer| writer.remove(hash, key.bytes(), V::take))? {
            Some(None) => Err(not_an_item()),
            removed => Ok(removed.flatten()),
        }
    }

    /// Changes the value of `key` if it is `current` (`None`: if there is none) to `new` (`None`: removes it), at once.
    /// Values are compared by their bytes. `Ok(Err(found))`: it was something else, and nothing has changed.
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
        let (shard, hash) = self.spot(key.bytes());
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

    /// Changes the value of `key` to what `change` makes of it, at once: `None` is for no value. `change` is called without
    /// anything being held, and again if somebody else was quicker; so it may use the dict, and may be killed.
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

    /// The value of `key`; if there is none, that of `make`, which becomes it, unless somebody else is quicker.
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

/// The shard is this process's until this is dropped.
struct Held<'a> {
    shard: &'a Shard,
    me: OwnerId,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // False only if somebody writes into the memory.
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

/// Frees the shards that `dead` was writing in; whoever writes there next finishes or undoes what it did.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    shards(base, len).iter().for_each(|shard| shard.owner.recover(dead));
}

/// What `pagemate show` says about a dict.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let shards = shards(base, len);
    let count = shards.iter().map(Shard::count).fold(0, u64::saturating_add);
    let writers = shards.iter().filter(|shard| shard.owner.holder().is_some()).count();
    vec![("entries", count.to_string()), ("parts being written", writers.to_string())]
}
