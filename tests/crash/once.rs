//! Scenes of the once and the once value: an initialiser that is alone, has a waiter asleep, or
//! abandons; and one that waits for another.

use std::time::Duration;

use pagemate::{Event, Once, OnceValue};

use crate::helper::{Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
const DONE: u64 = 1;
const VALUE: [u64; 4] = [7, 8, 9, 10];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Call,
    GiveUp,
    Begun,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "once: call_once", build: || Calling::boxed(Op::Call, false) },
        Recipe { name: "once: call_once, one asleep", build: || Calling::boxed(Op::Call, true) },
        Recipe { name: "once: give up, one asleep", build: || Calling::boxed(Op::GiveUp, true) },
        Recipe {
            name: "once: complete, begun before, one asleep",
            build: || Calling::boxed(Op::Begun, true),
        },
        Recipe { name: "once: call_once, the initialiser dead", build: || Calling::after_death() },
        Recipe { name: "once: call_once, asleep until it is done", build: || Box::new(Asleep::new()) },
        Recipe { name: "once value: set", build: || Setting::boxed(false) },
        Recipe { name: "once value: set, one asleep", build: || Setting::boxed(true) },
    ]
}

struct Calling {
    once: Once,
    op: Op,
    helper: Option<Helper>,
}

impl Calling {
    fn boxed(op: Op, one_asleep: bool) -> Box<dyn Scene> {
        let once = Once::new().unwrap();
        let wait = || {
            once.wait();
            DONE
        };
        let helper = one_asleep.then(|| Helper::start_blocked(wait));
        Box::new(Calling { once: once.clone(), op, helper })
    }

    fn after_death() -> Box<dyn Scene> {
        let once = Once::new().unwrap();
        Helper::die_after(|| std::mem::forget(once.begin().unwrap()));
        Box::new(Calling { once, op: Op::Call, helper: None })
    }
}

impl Scene for Calling {
    fn act(&mut self) {
        match self.op {
            Op::Call => _ = self.once.call_once(|| ()).unwrap(),
            Op::GiveUp => drop(self.once.begin().unwrap()),
            Op::Begun => {
                if let Some(initialiser) = self.once.begin().unwrap() {
                    initialiser.complete();
                }
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // If the child is initialising, this fails. Otherwise we begin, and abandon at once.
            drop(self.once.try_begin());
            return Ok(());
        }
        if end == End::Finished && self.once.is_completed() != (self.op != Op::GiveUp) {
            return Err(format!("it has returned, and {:?}", self.once));
        }
        self.once.call_once_timeout(PATIENCE, || ()).map_err(|error| error.to_string())?;
        self.helper.take().map_or(Ok(DONE), Helper::outcome)?;
        self.once.is_completed().then_some(()).ok_or("not complete".into())
    }

    fn words(&self) -> String {
        format!("{:?}", self.once)
    }
}

/// The child falls asleep itself, and the initialiser, which is a third process, completes.
struct Asleep {
    once: Once,
    finish: Event,
    waker: Waker,
    initialiser: Option<Helper>,
}

impl Asleep {
    fn new() -> Asleep {
        let (once, begun, finish) = (Once::new().unwrap(), Event::new().unwrap(), Event::new().unwrap());
        let initialise = || {
            let initialiser = once.begin().unwrap().unwrap();
            begun.set();
            finish.wait();
            initialiser.complete();
            DONE
        };
        let initialiser = Helper::start(initialise);
        assert!(begun.wait_timeout(PATIENCE));
        let waker = Waker::new(|| finish.set());
        Asleep { once: once.clone(), finish: finish.clone(), waker, initialiser: Some(initialiser) }
    }
}

impl Scene for Asleep {
    fn prepare(&mut self) {
        self.waker.watch_me();
    }

    fn act(&mut self) {
        assert!(!self.once.call_once(|| ()).unwrap());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.finish.set();
        let ran = self.once.call_once_timeout(PATIENCE, || ()).map_err(|error| error.to_string())?;
        if ran {
            return Err("initialised twice".into());
        }
        if end != End::Stopped {
            self.waker.finish()?;
            self.initialiser.take().map_or(Ok(DONE), Helper::outcome)?;
        }
        Ok(())
    }

    fn words(&self) -> String {
        format!("{:?}", self.once)
    }
}

struct Setting {
    value: OnceValue<[u64; 4]>,
    helper: Option<Helper>,
}

impl Setting {
    fn boxed(one_asleep: bool) -> Box<dyn Scene> {
        let value = OnceValue::new().unwrap();
        let wait = || value.wait().map_or(2, |value: &[u64; 4]| u64::from(*value == VALUE));
        let helper = one_asleep.then(|| Helper::start_blocked(wait));
        Box::new(Setting { value: value.clone(), helper })
    }
}

impl Scene for Setting {
    fn act(&mut self) {
        // This fails if the survivors were faster while the child was stopped.
        let _ = self.value.set(VALUE);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        match self.value.get() {
            Some(&VALUE) => {}
            None if end != End::Finished => {}
            other => return Err(format!("set to {other:?}")),
        }
        if end == End::Stopped {
            return Ok(());
        }
        let value = self.value.get_or_init_timeout(PATIENCE, || VALUE).map_err(|error| error.to_string())?;
        self.helper.take().map_or(Ok(DONE), Helper::outcome)?;
        (*value == VALUE).then_some(()).ok_or("another value".into())
    }

    fn words(&self) -> String {
        format!("{:?}", self.value)
    }
}
