//! The cost of size: a ping-pong of messages of 8 bytes and of 1 MiB, written and read in place;
//! and what it costs that messages may differ in length.
//!
//! In all of them, eight bytes are written and read: the number by which the bench checks that the
//! right message came. Nobody touches the rest of the megabyte, and nobody may copy it.

use super::latency::processes;
use crate::contender::Between::Processes;
use crate::contender::{Bench, Contender, Unit};
use crate::links::{pagemate_queue, pagemate_spsc::InPlace, pagemate_topic};

pub const BENCH: Bench = Bench {
    name: "size",
    about: "one way of a busy-polled ping-pong of messages in place",
    unit: Unit::Time,
    contenders,
};

/// Words of a small and of a large message.
const SMALL: usize = 1;
const LARGE: usize = (1 << 20) / 8;
/// Words of a message of 64 bytes, which fits in a slot.
const LINE: usize = 8;

fn contenders() -> Vec<Contender> {
    vec![
        processes::<InPlace<SMALL>>("pagemate spsc, 8 B"),
        processes::<InPlace<LARGE>>("pagemate spsc, 1 MiB").at_most(1.2, "pagemate spsc, 8 B", Processes),
        processes::<pagemate_queue::InPlace<SMALL>>("pagemate Queue, 8 B"),
        processes::<pagemate_queue::InPlace<LARGE>>("pagemate Queue, 1 MiB").at_most(
            1.2,
            "pagemate Queue, 8 B",
            Processes,
        ),
        processes::<pagemate_queue::Varying<SMALL>>("pagemate Queue<[u64]>, 8 B"),
        processes::<pagemate_queue::Varying<LARGE>>("pagemate Queue<[u64]>, 1 MiB").at_most(
            1.2,
            "pagemate Queue<[u64]>, 8 B",
            Processes,
        ),
        processes::<pagemate_queue::InPlace<LINE>>("pagemate Queue, 64 B"),
        processes::<pagemate_queue::Varying<LINE>>("pagemate Queue<[u64]>, 64 B").at_most(
            1.1,
            "pagemate Queue, 64 B",
            Processes,
        ),
        processes::<pagemate_topic::InPlace<SMALL>>("pagemate Topic, 8 B"),
        processes::<pagemate_topic::InPlace<LARGE>>("pagemate Topic, 1 MiB").at_most(
            1.2,
            "pagemate Topic, 8 B",
            Processes,
        ),
        processes::<pagemate_topic::Varying<LINE>>("pagemate Topic<[u64]>, 64 B")
            .beside("pagemate Queue<[u64]>, 64 B", Processes),
        processes::<pagemate_topic::Varying<LARGE>>("pagemate Topic<[u64]>, 1 MiB")
            .beside("pagemate Queue<[u64]>, 1 MiB", Processes),
    ]
}
