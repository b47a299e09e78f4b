//! The cost of a publication, with 0 to 32 lossy subscribers that do not keep up: idle ones, slow
//! ones that pause after each message, and those of a process that is stopped, or was killed and is
//! not reaped.
//!
//! Slow subscribers load what the publisher has just written, and use the other cores. So their
//! rows have no bar.
//!
//! Figure: the median over blocks of publications by one publisher, on one core.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, RecvError, Subscriber};
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
    about: "a publication of 8 bytes, with subscribers that do not keep up",
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
        Contender::alone("pagemate Topic, 1 slow", |call| measure(call, 1, State::Slow)).beside(ONE, Alone),
        Contender::alone("pagemate Topic, 32 slow", |call| measure(call, 32, State::Slow)).beside(ONE, Alone),
        flat(Contender::alone("pagemate Topic, 1 stopped", |call| measure(call, 1, State::Stopped))),
        flat(Contender::alone("pagemate Topic, 32 stopped", |call| measure(call, 32, State::Stopped))),
        flat(Contender::alone("pagemate Topic, 1 killed", |call| measure(call, 1, State::Killed))),
        flat(Contender::alone("pagemate Topic, 32 killed", |call| measure(call, 32, State::Killed))),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Slow,
    Stopped,
    Killed,
}

const BLOCK: u64 = 1 << 14;
/// The pause of a slow subscriber after each message.
const PAUSE: Duration = Duration::from_millis(1);

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
        State::Slow | State::Stopped | State::Killed => Some(Others::start(&topic, count, state)?),
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
            if state == State::Slow {
                receive_slowly(subscribers, &ready);
            }
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
        let signal = match state {
            State::Idle | State::Slow => return Ok(others),
            State::Stopped => libc::SIGSTOP,
            State::Killed => libc::SIGKILL,
        };
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(pid, signal) };
        Ok(others)
    }
}

/// Receives in a thread for each subscriber, and pauses after each message. Sets `ready` when all
/// have begun.
fn receive_slowly(subscribers: Vec<Subscriber<u64>>, ready: &Event) -> ! {
    let begun = Barrier::new(subscribers.len() + 1);
    thread::scope(|scope| {
        for mut subscriber in subscribers {
            let begun = &begun;
            scope.spawn(move || {
                begun.wait();
                loop {
                    match subscriber.recv() {
                        Ok(_) => thread::sleep(PAUSE),
                        Err(RecvError::Lagged(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        begun.wait();
        ready.set();
    });
    unreachable!("they receive until the process is killed")
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
