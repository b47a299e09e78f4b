//! Operations on the whole dict: any entry, all entries, their number.

use std::time::Duration;

use super::handle::{not_an_item, Dict, SHARDS};
use super::read::{self, Bytes};
use super::shard::Shard;
use crate::message::item::Item;
use crate::{ErrorKind, Result};

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    /// Removes any entry and returns it; `None` if there is none. Blocks for the writer of one part
    /// of the dict only if the other parts have no entries.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Dict::remove).
    pub fn pop(&self) -> Result<Option<(K::Owned, V::Owned)>> {
        match self.with_write_timeout(Duration::ZERO).pop_any() {
            Err(error) if error.kind() == ErrorKind::TimedOut => self.pop_any(),
            popped => popped,
        }
    }

    /// Like [`pop`](Dict::pop), but skips the parts that are locked. Returns the error if nothing
    /// was found in the others.
    fn pop_any(&self) -> Result<Option<(K::Owned, V::Owned)>> {
        let take = |key: Bytes<'_>, value: Bytes<'_>| Some((K::take(key)?, V::take(value)?));
        let mut busy = None;
        // Each process begins at a different shard, so that they rarely meet.
        let first = self.object.owner()?.index() * 29 % SHARDS;
        let shards = self.shards().iter().cycle().skip(first).take(SHARDS);
        for shard in shards.filter(|shard| shard.has_pending() || shard.count() > 0) {
            match self.write(shard, |writer| writer.pop(take)) {
                Ok(Some(None)) => return Err(not_an_item()),
                Ok(Some(popped)) => return Ok(popped),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => busy = Some(error),
                Err(error) => return Err(error),
            }
        }
        busy.map_or(Ok(None), Err)
    }

    /// Removes all entries, one after the other, and then frees the tables. Entries that others
    /// insert meanwhile may stay.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Dict::remove).
    pub fn clear(&self) -> Result<()> {
        self.shards().iter().try_for_each(|shard| self.write(shard, |writer| writer.clear()))
    }

    /// Inserts all entries, one after the other.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Dict::insert). The entries before the failed one stay.
    pub fn extend<'a>(&self, entries: impl IntoIterator<Item = (&'a K, &'a V)>) -> Result<()>
    where
        K: 'a,
        V: 'a,
    {
        entries.into_iter().try_for_each(|(key, value)| self.insert(key, value).map(drop))
    }

    /// Returns the number of entries. The answer may be out of date immediately. First completes
    /// changes that dead processes have left.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`.
    pub fn len(&self) -> Result<usize> {
        for shard in self.shards().iter().filter(|shard| shard.has_pending()) {
            match shard.owner.holder() {
                // A writer at work. Its change counts once the writer has stored the count.
                Some(holder) if self.object.is_alive(holder) => continue,
                // Not yet reaped.
                Some(dead) => shard.owner.recover(dead),
                None => {}
            }
            self.write(shard, |_| Ok(()))?;
        }
        Ok(self.shards().iter().map(Shard::count).fold(0, u64::saturating_add) as usize)
    }

    /// Returns true if there are no entries. Like [`len`](Dict::len).
    ///
    /// # Errors
    ///
    /// Those of [`len`](Dict::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns an iterator over all entries, in no particular order. It copies a 64th of the dict
    /// at a time.
    ///
    /// Weakly consistent: an entry that is there all the time appears exactly once, with a value
    /// that it had meanwhile. An entry that is inserted or removed meanwhile may or may not appear.
    /// A key that is removed and inserted again may appear twice.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let dict = pagemate::Dict::<u64, str>::new()?;
    /// dict.insert(&1, "one")?;
    /// assert_eq!(dict.iter().collect::<pagemate::Result<Vec<_>>>()?, [(1, "one".to_string())]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the dict is damaged, `Corrupted` appears in place of an entry or of a part of the dict.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K::Owned, V::Owned)>> + '_ {
        self.walk(|key, value| Some((K::take(key)?, V::take(value)?)))
    }

    /// Returns an iterator over all keys. Like [`iter`](Dict::iter).
    pub fn keys(&self) -> impl Iterator<Item = Result<K::Owned>> + '_ {
        self.walk(|key, _| K::take(key))
    }

    /// Returns an iterator over all values. Like [`iter`](Dict::iter).
    pub fn values(&self) -> impl Iterator<Item = Result<V::Owned>> + '_ {
        self.walk(|_, value| V::take(value))
    }

    fn walk<'a, R: 'a>(
        &'a self,
        take: impl Fn(Bytes<'_>, Bytes<'_>) -> Option<R> + 'a,
    ) -> impl Iterator<Item = Result<R>> + 'a {
        self.shards().iter().flat_map(move |shard| {
            let (all, damage) = match read::collect(shard, &self.heap, &take) {
                Ok(all) => (all, None),
                Err(damage) => (Vec::new(), Some(Err(damage.into()))),
            };
            all.into_iter().map(|item| item.ok_or_else(not_an_item)).chain(damage)
        })
    }
}
