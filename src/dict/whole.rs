//! The dict as a whole: any of its entries, all of them, how many there are.

use std::time::Duration;

use super::handle::{not_an_item, Dict, SHARDS};
use super::read::{self, Bytes};
use super::shard::Shard;
use crate::item::Item;
use crate::{ErrorKind, Result};

impl<K: Item + ?Sized, V: Item + ?Sized> Dict<K, V> {
    /// Removes an entry, any, and gives it; `None`: there was none. Waits for who is writing in a part of the dict only if there are no entries
    /// in the others.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Dict::remove).
    pub fn pop(&self) -> Result<Option<(K::Owned, V::Owned)>> {
        match self.write_timeout(Duration::ZERO).pop_any() {
            Err(error) if error.kind() == ErrorKind::TimedOut => self.pop_any(),
            popped => popped,
        }
    }

    /// As [`pop`](Dict::pop), but of the parts that it cannot have: the error, if nothing was found in the others.
    fn pop_any(&self) -> Result<Option<(K::Owned, V::Owned)>> {
        let take = |key: Bytes<'_>, value: Bytes<'_>| Some((K::take(key)?, V::take(value)?));
        let mut busy = None;
        // Each process begins elsewhere, so that they meet less.
        let first = self.object.owner()?.index() * 29 % SHARDS;
        let shards = self.shards().iter().cycle().skip(first).take(SHARDS);
        for shard in shards.filter(|shard| shard.is_unsettled() || shard.count() > 0) {
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

    /// Removes all that is there, one after the other, and then frees the tables: what others insert meanwhile may stay.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Dict::remove).
    pub fn clear(&self) -> Result<()> {
        self.shards().iter().try_for_each(|shard| self.write(shard, |writer| writer.clear()))
    }

    /// Inserts all of them, one after the other.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Dict::insert); what came before stays.
    pub fn extend<'a>(&self, entries: impl IntoIterator<Item = (&'a K, &'a V)>) -> Result<()>
    where
        K: 'a,
        V: 'a,
    {
        entries.into_iter().try_for_each(|(key, value)| self.insert(key, value).map(drop))
    }

    /// How many entries there are: may be more or fewer the moment after. First finishes what the dead have left.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`.
    pub fn len(&self) -> Result<u64> {
        for shard in self.shards().iter().filter(|shard| shard.is_unsettled()) {
            match shard.owner.holder() {
                // A writer at work; its change counts from the moment on at which it says so.
                Some(holder) if self.object.is_alive(holder) => continue,
                // Nobody has reaped it yet.
                Some(dead) => shard.owner.recover(dead),
                None => {}
            }
            self.write(shard, |_| Ok(()))?;
        }
        Ok(self.shards().iter().map(Shard::count).fold(0, u64::saturating_add))
    }

    /// Whether there are none; as [`len`](Dict::len).
    ///
    /// # Errors
    ///
    /// Those of [`len`](Dict::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// All entries, in no order. Copies a 64th of the dict at a time.
    ///
    /// Weakly consistent: what is there all the time comes exactly once, with a value that it had meanwhile. What is
    /// inserted or removed meanwhile comes or not; a key that is removed and inserted again may come twice.
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
    /// Where the dict is damaged, `Corrupted` comes in the place of an entry or of a part of the dict.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K::Owned, V::Owned)>> + '_ {
        self.walk(|key, value| Some((K::take(key)?, V::take(value)?)))
    }

    /// All keys; as [`iter`](Dict::iter).
    pub fn keys(&self) -> impl Iterator<Item = Result<K::Owned>> + '_ {
        self.walk(|key, _| K::take(key))
    }

    /// All values; as [`iter`](Dict::iter).
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
