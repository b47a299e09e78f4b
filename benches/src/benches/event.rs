//! Events that nobody waits for: set and clear.

use pagemate::Event;

use super::alone::{self, SetClear};
use crate::contender::Between::Alone;
use crate::contender::{Bench, Contender, Unit};
use crate::links::raw_sync::RawSyncEvent;

pub const BENCH: Bench =
    Bench { name: "event", about: "set and clear; nobody waits", unit: Unit::PerMessage, contenders };

const RAW_SYNC: &str = "raw_sync Event";

fn contenders() -> Vec<Contender> {
    vec![
        alone::wire::<SetClear, RawSyncEvent>(RAW_SYNC),
        alone::pair::<SetClear, Event>("pagemate Event").beside(RAW_SYNC, Alone),
    ]
}
