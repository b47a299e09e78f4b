//! Scenes of the event.

use std::time::Duration;

use pagemate::Event;

use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe {
            name: "event: set",
            build: || Box::new(Set { event: Event::new().unwrap(), other: Event::new().unwrap() }),
        },
        Recipe { name: "event: wait, timing out", build: || Box::new(Wait { event: Event::new().unwrap() }) },
    ]
}

struct Set {
    event: Event,
    other: Event,
}

impl Scene for Set {
    fn act(&mut self) {
        self.event.set();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.event.is_set() {
            return Err("set has returned and the event is not set".into());
        }
        if end != End::Finished {
            // The others can use another event, and after a death this one too.
            self.other.set();
            if !self.other.wait_timeout(Duration::from_secs(5)) {
                return Err("another event is stuck".into());
            }
            if end == End::Killed {
                self.event.set();
            }
        }
        (end == End::Stopped || self.event.wait_timeout(Duration::from_secs(5)))
            .then_some(())
            .ok_or("the event cannot be waited for any more".into())
    }

    fn words(&self) -> String {
        format!("set: {}", self.event.is_set())
    }
}

struct Wait {
    event: Event,
}

impl Scene for Wait {
    fn act(&mut self) {
        self.event.wait_timeout(Duration::from_micros(20));
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.event.set();
        let seen = self.event.wait_timeout(Duration::from_secs(5));
        self.event.clear();
        if !seen || self.event.is_set() {
            return Err(format!("after {end:?}: set, wait and clear do not work any more"));
        }
        Ok(())
    }

    fn words(&self) -> String {
        format!("set: {}", self.event.is_set())
    }
}
