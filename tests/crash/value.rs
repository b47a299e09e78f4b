//! Scenes of the value: small and large ones are set and updated, also after a writer has died.

use std::time::Duration;

use pagemate::Value;

use crate::helper::Helper;
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
const BEFORE: u64 = 1;
const AFTER: u64 = 2;
const OURS: u64 = 3;

type Large = [u64; 5];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Set,
    Update,
    Exchange,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "value: fetch_add", build: || Box::new(Small(Value::new(BEFORE).unwrap())) },
        Recipe { name: "value: set a large one", build: || Changing::boxed(Op::Set) },
        Recipe { name: "value: update a large one", build: || Changing::boxed(Op::Update) },
        Recipe { name: "value: compare and exchange a large one", build: || Changing::boxed(Op::Exchange) },
        Recipe { name: "value: set, the writer before dead", build: || Changing::after_death() },
    ]
}

struct Small(Value<u64>);

impl Scene for Small {
    fn act(&mut self) {
        self.0.fetch_add(AFTER - BEFORE);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        match self.0.load() {
            BEFORE if end != End::Finished => Ok(()),
            AFTER => Ok(()),
            other => Err(format!("it is {other}")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.0)
    }
}

struct Changing {
    value: Value<Large>,
    op: Op,
    is_ours: bool,
}

impl Changing {
    fn boxed(op: Op) -> Box<dyn Scene> {
        let value = Value::new([BEFORE; 5]).unwrap();
        Box::new(Changing { value, op, is_ours: false })
    }

    /// Builds the scene in which a writer has died in the middle of an update, and its death is not
    /// noticed yet.
    fn after_death() -> Box<dyn Scene> {
        let value = Value::new([BEFORE; 5]).unwrap();
        let dead = Helper::start_blocked(|| {
            let _ = value.update(|before| {
                pagemate::Event::new().unwrap().wait();
                before
            });
            1
        });
        drop(dead);
        Box::new(Changing { value, op: Op::Set, is_ours: false })
    }
}

impl Scene for Changing {
    fn act(&mut self) {
        match self.op {
            Op::Set => self.value.set([AFTER; 5]).unwrap(),
            Op::Update => _ = self.value.update(|value| value.map(|number| number * AFTER)).unwrap(),
            Op::Exchange => _ = self.value.compare_exchange([BEFORE; 5], [AFTER; 5]).unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // Whatever became of the writer, a reader finds a complete value.
        let there = self.value.get().map_err(|error| error.to_string())?;
        let is_well = match there {
            [BEFORE, ..] if end == End::Finished && !self.is_ours => false,
            // We have set the value meanwhile. The child has updated it before or after that.
            [number, ..] if self.is_ours => [AFTER, OURS, OURS * AFTER].contains(&number),
            [number, ..] => [BEFORE, AFTER].contains(&number),
        };
        if !is_well || there != [there[0]; 5] {
            return Err(format!("it is {there:?}"));
        }
        if end == End::Stopped {
            // This succeeds if the child is not updating.
            self.is_ours = self.value.try_set([OURS; 5]).is_ok();
            return Ok(());
        }
        self.value.set_timeout([OURS; 5], PATIENCE).map_err(|error| error.to_string())?;
        (self.value.get() == Ok([OURS; 5])).then_some(()).ok_or("not what was set".into())
    }

    fn words(&self) -> String {
        format!("{:?}", self.value)
    }
}
