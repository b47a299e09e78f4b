//! pagemate's dict, list and value, under names of their own.

use pagemate::{Dict, List, Message, Value};

use crate::link::{Result, Wire};
use crate::object::{Cell, Sequence, Table};
use crate::peer::Setup;

impl Wire for Dict<u64, u64> {
    type End = Dict<u64, u64>;
    type Offer = Dict<u64, u64>;

    fn offer(setup: &mut Setup) -> Result<Self> {
        Ok(Dict::create(&setup.name)?)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(Dict::open(&setup.name)?)
    }
}

const ROOM: &str = "there is room, and nobody damages it";

impl Table for Dict<u64, u64> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        Dict::get(self, &key).expect(ROOM)
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        self.insert(&key, &value).expect(ROOM);
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        Dict::remove(self, &key).expect(ROOM).is_some()
    }
}

impl Wire for List<u64> {
    type End = List<u64>;
    type Offer = List<u64>;

    fn offer(setup: &mut Setup) -> Result<Self> {
        Ok(List::create(&setup.name)?)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(List::open(&setup.name)?)
    }
}

impl Sequence for List<u64> {
    #[inline]
    fn push(&mut self, value: u64) {
        List::push(self, value).expect(ROOM);
    }

    #[inline]
    fn get(&mut self, index: u64) -> Option<u64> {
        List::get(self, index as usize).expect(ROOM)
    }
}

impl<const N: usize> Wire for Value<[u64; N]>
where
    [u64; N]: Message,
{
    type End = Value<[u64; N]>;
    type Offer = Value<[u64; N]>;

    fn offer(setup: &mut Setup) -> Result<Self> {
        Ok(Value::create(&setup.name, [0; N])?)
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        Ok(Value::open(&setup.name)?)
    }
}

impl<const N: usize> Cell<N> for Value<[u64; N]>
where
    [u64; N]: Message,
{
    #[inline]
    fn get(&mut self) -> [u64; N] {
        Value::get(self).expect(ROOM)
    }

    #[inline]
    fn set(&mut self, value: [u64; N]) {
        Value::set(self, value).expect(ROOM);
    }
}
