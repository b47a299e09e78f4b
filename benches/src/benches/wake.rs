//! The cost of blocking: waking a sleeper after a long idle time, and answering back to back.
//!
//! Idle: the far side has been asleep for a millisecond, its core with it. The figure is the median
//! time from just before the signal to just after the wait. Busy: a ping-pong of blocking ends, one
//! way, where a short spin may spare the sleep.

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{clock_gettime, ClockId};

use super::latency;
use crate::contender::Between::{Processes, Threads};
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Blocking, Pair, Polled, Result, Wire};
use crate::links::crossbeam::Channel;
use crate::links::futex::RawFutex;
use crate::links::pagemate_event::Signalled;
use crate::links::pagemate_queue::Queues;
use crate::links::pagemate_spsc::Spsc;
use crate::links::raw_sync::RawSync;
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};

pub const IDLE: Bench = Bench {
    name: "wake, idle",
    about: "from the signal to the sleeper's next step, after a millisecond of idleness",
    unit: Unit::Time,
    contenders: idle,
};

pub const BUSY: Bench = Bench {
    name: "wake, busy",
    about: "one way of a blocking ping-pong, both sides busy answering",
    unit: Unit::Time,
    contenders: busy,
};

const FUTEX: &str = "raw futex";
const CHANNEL: &str = "crossbeam-channel";

fn idle() -> Vec<Contender> {
    vec![
        idle_processes::<RawFutex>(FUTEX),
        idle_processes::<Signalled>("pagemate Event").at_most(1.15, FUTEX, Processes),
        idle_processes::<Queues>("pagemate Queue").at_most(1.15, FUTEX, Processes),
        idle_processes::<Spsc>("pagemate spsc").at_most(1.15, FUTEX, Processes),
        idle_processes::<RawSync>("raw_sync Event").beside(FUTEX, Processes),
        idle_threads::<Channel>(CHANNEL).beside(FUTEX, Processes),
    ]
}

fn busy() -> Vec<Contender> {
    vec![
        latency::threads::<Sleepy<Channel>>(CHANNEL),
        latency::processes::<Sleepy<Signalled>>("pagemate Event").at_most(1.0, CHANNEL, Threads),
        latency::processes::<Sleepy<Queues>>("pagemate Queue").at_most(1.0, CHANNEL, Threads),
        latency::threads::<Sleepy<Queues>>("pagemate Queue").at_most(1.0, CHANNEL, Threads),
        latency::processes::<Sleepy<Spsc>>("pagemate spsc").at_most(1.0, CHANNEL, Threads),
        latency::processes::<Sleepy<RawFutex>>(FUTEX).beside(CHANNEL, Threads),
        latency::processes::<Sleepy<RawSync>>("raw_sync Event").beside(CHANNEL, Threads),
    ]
}

/// A contender whose ends block, in a bench that polls: each try is a wait.
#[derive(Debug)]
pub struct Sleepy<T>(PhantomData<T>);

#[derive(Debug)]
pub struct Waiting<E>(E);

impl<E: Blocking> Polled for Waiting<E> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.0.send(value);
        true
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        Some(self.0.recv())
    }
}

impl<P: Pair> Pair for Sleepy<P>
where
    P::End: Blocking,
{
    type End = Waiting<P::End>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let (near, far) = P::pair()?;
        Ok((Waiting(near), Waiting(far)))
    }
}

impl<W: Wire> Wire for Sleepy<W>
where
    W::End: Blocking,
{
    type End = Waiting<W::End>;
    type Offer = W::Offer;

    fn offer(setup: &mut Setup) -> Result<W::Offer> {
        W::offer(setup)
    }

    fn near(offer: W::Offer, setup: &Setup) -> Result<Self::End> {
        Ok(Waiting(W::near(offer, setup)?))
    }

    fn far(setup: &mut Setup) -> Result<Self::End> {
        Ok(Waiting(W::far(setup)?))
    }
}

fn idle_threads<P: Pair>(name: &'static str) -> Contender
where
    P::End: Blocking,
{
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(call.cpus, |desk, mut end| sleep(desk, &mut end), |near| wake(near, call.plan))
    })
}

fn idle_processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Blocking,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| wake(near, call.plan)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            sleep(&setup.desk, &mut end);
            Ok(())
        },
    )
}

/// Time that the sleeper is left alone before it is woken.
const IDLENESS: Duration = Duration::from_millis(1);

/// The desk's line in which the sleeper stores its time, one more than the nanoseconds.
const TOOK: usize = 7;

fn wake<E: Blocking>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    let count = (2 * plan.length.as_nanos() / IDLENESS.as_nanos()).max(5) as u64;
    near.measured(|near| {
        let mut spread = Histogram::new(3)?;
        near.order(count);
        let desk = near.desk;
        let took = &desk.lines[TOOK].0;
        for _ in 0..count {
            let began = Instant::now();
            while began.elapsed() < IDLENESS {
                std::hint::spin_loop();
            }
            near.end.send(now());
            let nanos = loop {
                match took.swap(0, Acquire) {
                    0 => std::hint::spin_loop(),
                    nanos => break nanos - 1, // pairs with sleep()
                }
            };
            spread.record(nanos)?;
        }
        if near.answer() != 0 {
            return Err("a sleeper woke before it was signalled".into());
        }
        Ok((spread.value_at_quantile(0.5) as f64, Some(spread)))
    })
}

fn sleep<E: Blocking>(desk: &Desk, end: &mut E) {
    serve(desk, |count| {
        let mut wrong = 0;
        for _ in 0..count {
            let sent = end.recv();
            let now = now();
            wrong += u64::from(sent == 0 || sent > now);
            desk.lines[TOOK].0.store(now.saturating_sub(sent) + 1, Release); // pairs with wake()
        }
        wrong
    });
}

/// Returns nanoseconds of the clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
