//! Scenes of a manager's names: a name is removed while others have its object open and refer to
//! it.

use pagemate::collections::Ref;
use pagemate::{ErrorKind, List, Manager};

use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "manager: remove a name", build: || Removal::boxed(false) },
        Recipe { name: "manager: discard by reference", build: || Removal::boxed(true) },
    ]
}

struct Removal {
    manager: Manager,
    list: List<u64>,
    reference: Ref<List<u64>>,
    by_reference: bool,
}

impl Removal {
    fn boxed(by_reference: bool) -> Box<dyn Scene> {
        let manager = Manager::new().unwrap();
        manager.event("another").unwrap();
        let list = manager.list("list").unwrap();
        list.extend([1, 2, 3]).unwrap();
        manager.event("a newer one").unwrap();
        Box::new(Removal { reference: Ref::to(&list), manager, list, by_reference })
    }

    fn check_objects(&self, end: End) -> pagemate::Result<Result<(), &'static str>> {
        // A process that has the list open goes on, whatever became of its name.
        self.list.push(4)?;
        if self.list.to_vec()? != [1, 2, 3, 4] {
            return Ok(Err("the open list is another"));
        }
        let found = List::<u64>::open(self.manager.at("list"));
        let is_there = !found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if is_there {
            if end == End::Finished {
                return Ok(Err("removed, and still there"));
            }
            if found?.to_vec()? != [1, 2, 3, 4] || self.manager.get(self.reference)?.len()? != 4 {
                return Ok(Err("the name leads to another list"));
            }
        }
        if end == End::Stopped {
            self.list.pop()?;
            return Ok(Ok(()));
        }
        if is_there {
            self.manager.remove("list")?;
        }
        let is_gone = |error: pagemate::Error| error.kind() == ErrorKind::NotFound;
        if !self.manager.get(self.reference).is_err_and(is_gone) {
            return Ok(Err("the reference still leads to it"));
        }
        let next = self.manager.list::<u64>("list")?;
        next.push(9)?;
        let is_apart = next.to_vec()? == [9] && self.list.to_vec()? == [1, 2, 3, 4];
        let names = self.manager.objects()?.len();
        Ok(if is_apart && names == 3 { Ok(()) } else { Err("the name was not free") })
    }
}

impl Scene for Removal {
    fn prepare(&mut self) {
        self.manager.event("a newer one").unwrap();
    }

    fn act(&mut self) {
        match self.by_reference {
            true => self.manager.discard(self.reference).unwrap(),
            false => self.manager.remove("list").unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.check_objects(end).map_err(|error| error.to_string())?.map_err(str::to_owned)
    }

    fn words(&self) -> String {
        format!("{:?} of {:?}", self.list, self.manager.objects())
    }
}
