//! Round trips of calls: a request of 8 bytes, and its answer of 8 bytes, between two processes.
//!
//! Busy: both sides poll. The figure is the whole round trip; the one way of a queue beside it says
//! what it costs in hops. Blocking: both sides wait as their calls do, which may spin for a moment.

use super::latency::{processes, ways};
use super::wake::Sleepy;
use crate::contender::Between::Processes;
use crate::contender::{Bench, Contender, Unit};
use crate::links::iceoryx2::Iceoryx2Calls;
use crate::links::pagemate_queue::Queues;
use crate::links::pagemate_service::Calls;
use crate::links::unix::{BlockingSocketPair, SocketPair};

pub const BUSY: Bench = Bench {
    name: "call, busy",
    about: "round trip of a busy-polled call of 8 bytes",
    unit: Unit::Time,
    contenders: busy,
};

pub const BLOCKING: Bench = Bench {
    name: "call, blocking",
    about: "round trip of a blocking call of 8 bytes, both sides busy answering",
    unit: Unit::Time,
    contenders: blocking,
};

const ONE_WAY: &str = "pagemate Queue, one way";
const SOCKETS: &str = "socketpair";

fn busy() -> Vec<Contender> {
    vec![
        processes::<Queues>(ONE_WAY),
        ways::<Calls, 1>("pagemate Service")
            .at_most(2.2, ONE_WAY, Processes)
            .at_most(0.5, "iceoryx2", Processes),
        ways::<Queues, 1>("pagemate Queue, two").beside(ONE_WAY, Processes),
        ways::<Iceoryx2Calls, 1>("iceoryx2").beside(ONE_WAY, Processes),
        ways::<SocketPair, 1>(SOCKETS).beside(ONE_WAY, Processes),
    ]
}

fn blocking() -> Vec<Contender> {
    vec![
        ways::<Sleepy<Calls>, 1>("pagemate Service").at_most(1.0, SOCKETS, Processes),
        ways::<Sleepy<Queues>, 1>("pagemate Queue, two").beside(SOCKETS, Processes),
        ways::<Sleepy<BlockingSocketPair>, 1>(SOCKETS),
    ]
}
