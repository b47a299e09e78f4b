//! Scenes of the barrier: the last one to arrive, with an action and without, and one that waits,
//! breaks and resets.

use std::time::Duration;

use pagemate::sync::BarrierError;
use pagemate::Barrier;

use crate::helper::{until, Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(120);
/// Outcomes of a helper that passed, and of one that found the barrier broken.
const PASSED: u64 = 1;
const BROKEN: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Wait,
    /// The same, with an action.
    Act,
    TimeOut,
    Abort,
    Reset,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "barrier: wait, the other one asleep", build: || Meeting::boxed(Op::Wait, true) },
        Recipe { name: "barrier: wait with an action, one asleep", build: || Meeting::boxed(Op::Act, true) },
        Recipe { name: "barrier: wait, timing out", build: || Meeting::boxed(Op::TimeOut, false) },
        Recipe { name: "barrier: abort, one asleep", build: || Meeting::boxed(Op::Abort, true) },
        Recipe { name: "barrier: reset, one asleep", build: || Meeting::boxed(Op::Reset, true) },
        Recipe { name: "barrier: wait, asleep until the other comes", build: || Box::new(Asleep::new()) },
    ]
}

fn outcome(barrier: &Barrier) -> u64 {
    match barrier.wait_timeout(PATIENCE) {
        Ok(_) => PASSED,
        Err(BarrierError::Broken) => BROKEN,
        Err(error) => panic!("{error}"),
    }
}

/// Checks that two living processes pass the barrier.
fn check_usable(barrier: &Barrier) -> Result<(), String> {
    // The barrier may be broken, or the dead child has arrived and counts until its death is
    // noticed.
    barrier.reset();
    let other = Helper::start(|| outcome(barrier));
    let mine = outcome(barrier);
    let others = other.outcome()?;
    (mine == PASSED && others == PASSED).then_some(()).ok_or(format!("not usable: {mine}, {others}"))
}

struct Meeting {
    barrier: Barrier,
    op: Op,
    helper: Option<Helper>,
}

impl Meeting {
    fn boxed(op: Op, one_asleep: bool) -> Box<dyn Scene> {
        let barrier = Barrier::new(2).unwrap();
        let helper = one_asleep.then(|| Helper::start_blocked(|| outcome(&barrier)));
        Box::new(Meeting { barrier: barrier.clone(), op, helper })
    }
}

impl Scene for Meeting {
    fn act(&mut self) {
        match self.op {
            Op::Wait => _ = self.barrier.wait(),
            Op::Act => _ = self.barrier.clone().with_action(|| _ = std::hint::black_box([1; 4])).wait(),
            Op::TimeOut => _ = self.barrier.wait_timeout(Duration::from_micros(20)),
            Op::Abort => self.barrier.abort(),
            Op::Reset => self.barrier.reset(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let barrier = &self.barrier;
        if end == End::Stopped {
            // If both have arrived, the other one no longer needs the child, except for the action,
            // which the child runs itself.
            return match self.op {
                Op::Wait => until("all have arrived, and pass", || barrier.waiting() < 2),
                Op::TimeOut | Op::Abort | Op::Reset => {
                    barrier.abort();
                    barrier.reset();
                    Ok(())
                }
                Op::Act => Ok(()),
            };
        }
        if let Some(mut helper) = self.helper.take() {
            // The helper passes with the child or gets an error, or the child does not count (any
            // more).
            until("the other party has left, or waits alone", || {
                helper.has_ended() || barrier.waiting() == 1
            })?;
            let mine = (!helper.has_ended()).then(|| match self.op {
                Op::Wait | Op::Act => outcome(barrier),
                _ => {
                    barrier.abort();
                    BROKEN
                }
            });
            let others = helper.outcome()?;
            let is_well = match (self.op, mine) {
                (Op::Wait, _) => others == PASSED && mine.is_none_or(|mine| mine == PASSED),
                // The child's death in the action broke the barrier.
                (Op::Act, None) => others == PASSED || end == End::Killed,
                (Op::Act, Some(mine)) => end == End::Killed && mine == others,
                _ => others == BROKEN,
            };
            if !is_well
                || end == End::Finished && mine.is_some() && self.op != Op::Abort && self.op != Op::Reset
            {
                return Err(format!("the other one: {others}, we: {mine:?}"));
            }
        }
        check_usable(&self.barrier)
    }

    fn words(&self) -> String {
        format!("{:?}", self.barrier)
    }
}

/// The child waits itself, until a third process arrives.
struct Asleep {
    barrier: Barrier,
    waker: Waker,
}

impl Asleep {
    fn new() -> Asleep {
        let barrier = Barrier::new(2).unwrap();
        // With a timeout, because the child may be killed just then.
        let waker = Waker::new(|| _ = barrier.wait_timeout(Duration::from_millis(300)));
        Asleep { barrier: barrier.clone(), waker }
    }
}

impl Scene for Asleep {
    fn prepare(&mut self) {
        self.waker.watch_me();
    }

    fn act(&mut self) {
        _ = self.barrier.wait();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // The child waits, or will wait, or has passed. Its round is its own, and anybody can
            // end it.
            self.barrier.reset();
            return Ok(());
        }
        self.waker.finish()?;
        check_usable(&self.barrier)
    }

    fn words(&self) -> String {
        format!("{:?}", self.barrier)
    }
}
