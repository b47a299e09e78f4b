//! Scenes of segments: create, open, leave, exit, insert into the directory, reap.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pagemate::{inspect, Event, Origin, Place, Segment};

use crate::helper::Helper;
use crate::refusal::noted;
use crate::{is_one_of, End, Recipe, Scene};

const SIZE: u64 = 1 << 16;
/// The name of an object that a process creates before it dies.
const BY_THE_DEAD: &str = "by the dead";
/// The name of an object that the child creates.
const BY_THE_CHILD: &str = "by the child";

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "segment: create", build: || Box::new(Named::new(Op::Create)) },
        Recipe { name: "segment: open", build: || Box::new(Named::new(Op::Open)) },
        Recipe { name: "segment: open, the last one leaves", build: || Box::new(Named::new(Op::OpenLeft)) },
        Recipe { name: "segment: last leave", build: || Box::new(Named::new(Op::LastLeave)) },
        Recipe { name: "segment: leave, another stays", build: || Box::new(Named::new(Op::Leave)) },
        Recipe { name: "segment: the last one exits", build: || Box::new(Named::new(Op::LastExit)) },
        Recipe { name: "segment: exit, another stays", build: || Box::new(Named::new(Op::Exit)) },
        Recipe { name: "segment: take over a stale one", build: || Box::new(Named::new(Op::TakeOver)) },
        Recipe { name: "segment: reap the dead while opening", build: || Box::new(Named::new(Op::Reap)) },
        Recipe { name: "segment: remove", build: || Box::new(Named::new(Op::Remove)) },
        Recipe { name: "segment: remove a stale one", build: || Box::new(Named::new(Op::RemoveStale)) },
        Recipe {
            name: "segment: remove a file that is not a segment",
            build: || Box::new(Named::new(Op::RemoveOther)),
        },
        Recipe { name: "directory: insert", build: || Box::new(Named::new(Op::Insert)) },
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    Open,
    OpenLeft,
    LastLeave,
    Leave,
    LastExit,
    Exit,
    TakeOver,
    Reap,
    Remove,
    RemoveStale,
    RemoveOther,
    Insert,
}

struct Named {
    dir: PathBuf,
    op: Op,
    /// The parent's attachment, where it has one.
    own: Option<Segment>,
    /// The child's attachment.
    of_child: Option<Segment>,
    /// The segment that the parent found or created while the child was stopped.
    meanwhile: Option<Segment>,
}

/// Starts a process that attaches, does `more` and dies.
fn die_attached(place: Place, more: impl FnOnce(&Segment)) {
    Helper::die_after(|| {
        let (segment, _) = Segment::open_or_create(place, SIZE).unwrap();
        more(&segment);
        std::mem::forget(segment);
    });
}

impl Named {
    fn new(op: Op) -> Named {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A directory of its own shows what is left. A run that was ended from outside may have
        // left one of the same process id.
        let dir = loop {
            let count = COUNT.fetch_add(1, Relaxed);
            let dir = format!("/dev/shm/test-crash-{}-{count}", std::process::id());
            match std::fs::create_dir(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => break created.map(|()| dir).unwrap(),
            }
        };
        let mut named = Named { dir: dir.into(), op, own: None, of_child: None, meanwhile: None };
        match op {
            Op::Open | Op::OpenLeft | Op::Leave | Op::Exit | Op::Insert | Op::Remove | Op::Reap => {
                named.own = Some(Segment::create(named.place(), SIZE).unwrap());
            }
            Op::TakeOver | Op::RemoveStale => {
                die_attached(named.place(), |segment| drop(Event::create(segment.at(BY_THE_DEAD))));
            }
            Op::RemoveOther => std::fs::write(named.file(), "no segment").unwrap(),
            Op::Create | Op::LastLeave | Op::LastExit => {}
        }
        if op == Op::Reap {
            die_attached(named.place(), |segment| drop(Event::create(segment.at(BY_THE_DEAD))));
        }
        named
    }

    fn place(&self) -> Place {
        Place::in_dir(&self.dir, "name")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("pagemate.name")
    }

    /// Returns whether only the child is in the segment, so that it removes the name.
    fn is_last(&self) -> bool {
        matches!(self.op, Op::LastLeave | Op::LastExit | Op::TakeOver | Op::RemoveStale)
    }
}

impl Scene for Named {
    fn prepare(&mut self) {
        match self.op {
            Op::LastLeave | Op::Leave | Op::LastExit | Op::Exit => {
                self.of_child = Some(Segment::open_or_create(self.place(), SIZE).unwrap().0);
            }
            Op::Insert => {
                self.of_child = Some(Segment::open(self.place()).unwrap());
            }
            _ => {}
        }
    }

    fn act(&mut self) {
        match self.op {
            Op::Create => self.of_child = noted(Segment::create(self.place(), SIZE)),
            Op::Open | Op::Reap => self.of_child = noted(Segment::open(self.place())),
            Op::OpenLeft => {
                self.of_child = noted(Segment::open(self.place()));
                if let Some(segment) = &self.of_child {
                    noted(Event::create(segment.at(BY_THE_CHILD)));
                }
            }
            Op::LastLeave | Op::Leave => self.of_child = None,
            Op::LastExit | Op::Exit => {
                // As a static would.
                std::mem::forget(self.of_child.take());
                std::process::exit(0);
            }
            Op::TakeOver => {
                self.of_child =
                    noted(Segment::open_or_create(self.place(), SIZE)).map(|(segment, _)| segment);
            }
            Op::Remove | Op::RemoveOther => {
                noted(self.place().remove());
            }
            Op::RemoveStale => {
                noted(self.place().remove_unused());
            }
            Op::Insert => {
                if let Some(segment) = &self.of_child {
                    noted(Event::create(segment.at("x")));
                }
            }
        }
        // The child ends without leaving, as if killed.
        std::mem::forget(self.of_child.take());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let is_other =
            self.op == Op::RemoveOther && std::fs::read(self.file()).is_ok_and(|text| text.len() < 100);
        // Another process may remove the segment that the child is about to remove, and a new one
        // may get the name.
        let is_replaced = end == End::Stopped && (self.op == Op::Remove || (self.is_last() && is_one_of(2)));
        if is_replaced || is_other {
            let _ = self.place().remove();
        }
        if end == End::Stopped && self.op == Op::OpenLeft {
            // The last participant that the child may have seen leaves, and a new segment gets the
            // name.
            self.own = None;
        }
        let is_gone = matches!(self.op, Op::LastLeave | Op::LastExit) && end == End::Finished;
        if is_gone && self.meanwhile.is_none() && self.file().exists() {
            return Err("the last participant has left, but the name is still there".into());
        }
        let (segment, origin) = Segment::open_or_create(self.place(), SIZE)
            .map_err(|error| format!("the segment cannot be opened or created: {error}"))?;
        if let Some(found) = self.meanwhile.take() {
            // A process that removes whatever has the name may have been stopped before it read
            // which file that is.
            let may_be_removed = matches!(self.op, Op::Remove | Op::RemoveOther);
            let is_same =
                origin == Origin::Opened && segment.objects().is_ok_and(|objects| objects.len() >= 2);
            if !is_same && !may_be_removed {
                return Err(format!("{:?} has lost its name to a process that went on", found.path()));
            }
        } else if self.op == Op::Remove && end == End::Finished && origin == Origin::Opened {
            return Err("the removed segment is still there".into());
        }
        for name in ["x", "y"] {
            let place = segment.at(name);
            let (event, _) =
                Event::open_or_create(place).map_err(|error| format!("object {name}: {error}"))?;
            event.set();
            if !event.is_set() {
                return Err("an object does not work".into());
            }
        }
        if self.op == Op::Reap && Event::open(segment.at(BY_THE_DEAD)).is_err() {
            return Err("an object of the dead process is gone".into());
        }
        if self.op == Op::TakeOver && Event::open(segment.at(BY_THE_DEAD)).is_ok() {
            return Err("a stale segment was opened, not replaced".into());
        }
        if self.op == Op::OpenLeft && end == End::Finished && Event::open(segment.at(BY_THE_CHILD)).is_err() {
            return Err("the child is in a segment that has lost its name".into());
        }
        if end == End::Stopped {
            // Without this the child may be the last participant when it goes on.
            self.meanwhile = Some(segment);
            return Ok(());
        }
        drop(segment);
        if let Some(own) = &self.own {
            let _ = own.objects().map_err(|error| error.to_string())?;
        }
        self.own = None;
        // If the child has not left the segment, it is stale at most, and is swept.
        if self.file().exists() {
            let stale = inspect::segment(self.place()).is_ok_and(|segment| segment.stale);
            let _ = Segment::open(self.place());
            if !stale || self.file().exists() {
                return Err("the name is still there".into());
            }
        }
        // Sweeps what a dead remover left.
        let swept = inspect::sweep(Some(&self.dir)).map_err(|error| error.to_string())?;
        std::fs::remove_dir(&self.dir).map_err(|error| format!("the directory: {error}; {swept:?}"))
    }

    fn words(&self) -> String {
        match inspect::segment(self.place()) {
            Ok(seen) => format!(
                "{} participants, {} objects, stale: {}",
                seen.participants.len(),
                seen.objects.len(),
                seen.stale
            ),
            Err(error) => error.to_string(),
        }
    }
}
