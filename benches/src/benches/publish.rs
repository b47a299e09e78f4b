//! The cost of a publication, with 0 to 32 lossy subscribers that do not receive: idle ones, and
//! those of a process that is stopped, or was killed and is not reaped.
//!
//! Figure: the median over blocks of publications by one publisher, on one core.

use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, Subscriber};
use pagemate::{Event, Topic};

use crate::contender::Between::Alone;
use crate::contender::{Bench, Call, Contender, Unit};
use crate::link::Result;
use crate::links::CAPACITY;
use crate::peer::Setup;
use crate::session::{alone, Repetition};
use crate::stats::median;

pub const BENCH: Bench = Bench {
    name: "publish",
    about: "a publication of 8 bytes, with subscribers that do not receive",
    unit: Unit::PerMessage,
    contenders,
};

const ONE: &str = "pagemate Topic, 1 idle";

fn contenders() -> Vec<Contender> {
    let flat = |contender: Contender| contender.at_most(1.1, ONE, Alone);
    vec![
        Contender::alone(ONE, |call| measure(call, 1, State::Idle)),
        Contender::alone("pagemate Topic, none", |call| measure(call, 0, State::Idle)).beside(ONE, Alone),
        flat(Contender::alone("pagemate Topic, 32 idle", |call| measure(call, 32, State::Idle))),
        flat(Contender::alone("pagemate Topic, 1 stopped", |call| measure(call, 1, State::Stopped))),
        flat(Contender::alone("pagemate Topic, 32 stopped", |call| measure(call, 32, State::Stopped))),
        flat(Contender::alone("pagemate Topic, 1 killed", |call| measure(call, 1, State::Killed))),
        flat(Contender::alone("pagemate Topic, 32 killed", |call| measure(call, 32, State::Killed))),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Stopped,
    Killed,
}

const BLOCK: u64 = 1 << 14;

fn subscribe(topic: &Topic<u64>, count: usize) -> Vec<Subscriber<u64>> {
    (0..count).map(|_| topic.subscribe(From::Latest).expect("a line")).collect()
}

fn measure(call: Call<'_>, count: usize, state: State) -> Result<Repetition> {
    let topic = Topic::<u64>::new(CAPACITY)?;
    let publisher = topic.publisher();
    let mut own = Vec::new();
    let child = match state {
        State::Idle => {
            own = subscribe(&topic, count);
            None
        }
        State::Stopped | State::Killed => Some(Others::start(&topic, count, state)?),
    };
    let setup = Setup::new(call.cpus)?;
    let repetition = alone(&setup, (), |near| {
        near.measured(|_| {
            let (mut times, mut next) = (Vec::new(), 0);
            let begin = Instant::now();
            while begin.elapsed() < call.plan.length || times.is_empty() {
                let began = Instant::now();
                for _ in 0..BLOCK {
                    publisher.publish(next)?;
                    next += 1;
                }
                times.push(began.elapsed().as_nanos() as f64 / BLOCK as f64);
            }
            let seen = topic.subscribe(From::Last(1))?.try_recv()?;
            if seen != next - 1 {
                return Err(format!("{seen} is the last message, not {}", next - 1).into());
            }
            Ok((median(&mut times), None))
        })
    });
    drop((own, child));
    repetition
}

/// A process with subscribers.
#[derive(Debug)]
struct Others(libc::pid_t);

impl Others {
    fn start(topic: &Topic<u64>, count: usize, state: State) -> Result<Others> {
        let ready = Event::new()?;
        // SAFETY: this process has one thread now, so the child is a whole copy.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let subscribers = subscribe(topic, count);
            ready.set();
            loop {
                // SAFETY: only waits.
                unsafe { libc::pause() };
                std::hint::black_box(&subscribers);
            }
        }
        let others = Others(pid);
        if pid < 0 || !ready.wait_timeout(Duration::from_secs(10)) {
            return Err("the subscribers did not start".into());
        }
        let signal = if state == State::Stopped { libc::SIGSTOP } else { libc::SIGKILL };
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(pid, signal) };
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        if self.0 > 0 {
            // SAFETY: a child of ours that was not waited for; a null status is allowed.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }
}
