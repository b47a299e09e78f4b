//! pagemate's event: as a wake-up, where the value beside it crosses on a bare line, and by itself.

use std::sync::atomic::Ordering::Relaxed;

use pagemate::Event;

use crate::desk::Desk;
use crate::link::{Blocking, Pair, Result, Wire};
use crate::object::Flag;
use crate::peer::Setup;

/// For each direction an event, and a line of the desk.
#[derive(Debug)]
pub struct Signalled {
    tx: Event,
    rx: Event,
    desk: Desk,
    mine: usize,
    theirs: usize,
}

impl Blocking for Signalled {
    #[inline]
    fn send(&mut self, value: u64) {
        self.desk.lines[self.mine].0.store(value, Relaxed); // handed over by the event
        self.tx.set();
    }

    /// Takes turns with the other side's `send`, so that no signal comes between the wait and the
    /// clear.
    #[inline]
    fn recv(&mut self) -> u64 {
        self.rx.wait();
        self.rx.clear();
        self.desk.lines[self.theirs].0.load(Relaxed)
    }
}

impl Wire for Signalled {
    type End = Signalled;
    type Offer = Signalled;

    fn offer(setup: &mut Setup) -> Result<Signalled> {
        let tx = Event::create(format!("{}-there", setup.name))?;
        let rx = Event::create(format!("{}-back", setup.name))?;
        Ok(Signalled { tx, rx, desk: setup.desk_again()?, mine: 0, theirs: 1 })
    }

    fn near(offer: Signalled, _: &Setup) -> Result<Signalled> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Signalled> {
        let rx = Event::open(format!("{}-there", setup.name))?;
        let tx = Event::open(format!("{}-back", setup.name))?;
        Ok(Signalled { tx, rx, desk: setup.desk_again()?, mine: 1, theirs: 0 })
    }
}

impl Pair for Event {
    type End = Event;

    fn pair() -> Result<(Event, Event)> {
        let event = Event::new()?;
        Ok((event.clone(), event))
    }
}

impl Flag for Event {
    #[inline]
    fn set(&mut self) {
        Event::set(self);
    }

    #[inline]
    fn clear(&mut self) {
        Event::clear(self);
    }

    fn is_set(&mut self) -> bool {
        Event::is_set(self)
    }
}
