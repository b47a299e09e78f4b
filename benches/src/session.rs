//! One repetition: both sides set up, runs ordered by the near side, the far side ended.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use hdrhistogram::Histogram;

use crate::cpu::{pin, Cpus};
use crate::desk::Desk;
use crate::link::{Pair, Result, Wire};
use crate::peer::Setup;
use crate::probe::probe;

/// The result of one repetition.
#[derive(Debug)]
pub struct Repetition {
    /// Nanoseconds of the bench's unit.
    pub nanos: f64,
    /// Cost of a cache line before and after.
    pub before: f64,
    pub after: f64,
    /// The distribution of single operations in nanoseconds, where the bench records it.
    pub spread: Option<Histogram<u64>>,
}

/// An order that ends the far side.
const END: u64 = u64::MAX;

/// The near side of a session: its end, and orders to the far side.
#[derive(Debug)]
pub struct Near<'a, E> {
    pub desk: &'a Desk,
    pub end: E,
    runs: u32,
}

impl<E> Near<'_, E> {
    /// Lets the far side begin its next run.
    pub fn order(&mut self, order: u64) {
        self.desk.order.0.store(order, Relaxed); // handed over by the gate
        self.runs += 1;
        self.desk.go.raise();
    }

    /// Returns the far side's answer once its run is over. Polls, because the end of a run is part
    /// of what is measured.
    pub fn answer(&self) -> u64 {
        while !self.desk.done.has_reached(self.runs) {
            std::hint::spin_loop();
        }
        self.desk.answer.0.load(Relaxed) // handed over by the gate
    }

    /// Frames a measurement with two probes.
    pub fn measured(
        &mut self,
        measure: impl FnOnce(&mut Self) -> Result<(f64, Option<Histogram<u64>>)>,
    ) -> Result<Repetition> {
        let cpus = self.desk.cpus();
        let before = probe(cpus)?;
        let (nanos, spread) = measure(self)?;
        let after = probe(cpus)?;
        Ok(Repetition { nanos, before, after, spread })
    }
}

/// Serves run after run: `run` takes the order and returns the answer.
pub fn serve(desk: &Desk, mut run: impl FnMut(u64) -> u64) {
    desk.ready.raise();
    for runs in 1.. {
        desk.go.wait_for(runs);
        let order = desk.order.0.load(Relaxed); // handed over by the gate
        if order == END {
            return;
        }
        desk.answer.0.store(run(order), Relaxed);
        desk.done.raise();
    }
}

/// Runs a session of one side alone.
pub fn alone<E>(
    setup: &Setup,
    end: E,
    near: impl FnOnce(&mut Near<'_, E>) -> Result<Repetition>,
) -> Result<Repetition> {
    pin(setup.desk.cpus().near)?;
    near(&mut Near { desk: &setup.desk, end, runs: 0 })
}

/// Runs a session between two threads of this process.
pub fn between_threads<P: Pair>(
    cpus: Cpus,
    far: impl FnOnce(&Desk, P::End) + Send,
    near: impl FnOnce(&mut Near<'_, P::End>) -> Result<Repetition>,
) -> Result<Repetition> {
    let desk = Desk::new(cpus)?;
    let (near_end, far_end) = P::pair()?;
    pin(cpus.near)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(cpus.far).expect("this core was free to use a moment ago");
            far(&desk, far_end);
        });
        command(&desk, near_end, near)
    })
}

/// Runs a session with another process, which finds its part under `role`.
pub fn between_processes<W: Wire>(
    cpus: Cpus,
    role: &str,
    near: impl FnOnce(&mut Near<'_, W::End>) -> Result<Repetition>,
) -> Result<Repetition> {
    let mut setup = Setup::new(cpus)?;
    pin(cpus.near)?;
    let offer = W::offer(&mut setup)?;
    let peer = setup.start(role)?;
    let end = W::near(offer, &setup)?;
    let repetition = command(&setup.desk, end, near);
    peer.join();
    repetition
}

fn command<E>(
    desk: &Desk,
    end: E,
    near: impl FnOnce(&mut Near<'_, E>) -> Result<Repetition>,
) -> Result<Repetition> {
    desk.ready.wait_for(1);
    let mut session = Near { desk, end, runs: 0 };
    let repetition = near(&mut session);
    session.order(END);
    repetition
}
