//! Scenes of segments: create, open, leave, exit, insert into the directory, reap.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pagemate::{inspect, Event, Origin, Place, Segment};

use crate::helper::Helper;
use crate::refusal::noted;
use crate::{is_one_of, End, Recipe, Scene};

const SIZE: u64 = 1 << 16;
/// The name of an object that a process creates in the segment.
const BY_THE_DEAD: &str = "by the dead";
const BY_THE_CHILD: &str = "by the child";

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "segment: create", build: || Box::new(Named::new(What::Create)) },
        Recipe { name: "segment: open", build: || Box::new(Named::new(What::Open)) },
        Recipe { name: "segment: open, the last one leaves", build: || Box::new(Named::new(What::OpenLeft)) },
        Recipe { name: "segment: last leave", build: || Box::new(Named::new(What::LastLeave)) },
        Recipe { name: "segment: leave, another stays", build: || Box::new(Named::new(What::Leave)) },
        Recipe { name: "segment: the last one exits", build: || Box::new(Named::new(What::LastExit)) },
        Recipe { name: "segment: exit, another stays", build: || Box::new(Named::new(What::Exit)) },
        Recipe { name: "segment: take over a stale one", build: || Box::new(Named::new(What::TakeOver)) },
        Recipe { name: "segment: reap the dead while opening", build: || Box::new(Named::new(What::Reap)) },
        Recipe { name: "segment: remove", build: || Box::new(Named::new(What::Remove)) },
        Recipe { name: "segment: remove a stale one", build: || Box::new(Named::new(What::RemoveStale)) },
        Recipe {
            name: "segment: remove what is no segment",
            build: || Box::new(Named::new(What::RemoveOther)),
        },
        Recipe { name: "directory: insert", build: || Box::new(Named::new(What::Insert)) },
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
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
    what: What,
    /// The parent's attachment, where it has one.
    own: Option<Segment>,
    /// The child's attachment.
    childs: Option<Segment>,
    /// The segment that the parent found or created while the child was stopped.
    anew: Option<Segment>,
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
    fn new(what: What) -> Named {
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
        let mut named = Named { dir: dir.into(), what, own: None, childs: None, anew: None };
        match what {
            What::Open
            | What::OpenLeft
            | What::Leave
            | What::Exit
            | What::Insert
            | What::Remove
            | What::Reap => {
                named.own = Some(Segment::create(named.place(), SIZE).unwrap());
            }
            What::TakeOver | What::RemoveStale => {
                die_attached(named.place(), |segment| drop(Event::create(segment.at(BY_THE_DEAD))));
            }
            What::RemoveOther => std::fs::write(named.file(), "no segment").unwrap(),
            What::Create | What::LastLeave | What::LastExit => {}
        }
        if what == What::Reap {
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
    fn is_going(&self) -> bool {
        matches!(self.what, What::LastLeave | What::LastExit | What::TakeOver | What::RemoveStale)
    }
}

impl Scene for Named {
    fn prepare(&mut self) {
        match self.what {
            What::LastLeave | What::Leave | What::LastExit | What::Exit => {
                self.childs = Some(Segment::open_or_create(self.place(), SIZE).unwrap().0);
            }
            What::Insert => {
                self.childs = Some(Segment::open(self.place()).unwrap());
            }
            _ => {}
        }
    }

    fn act(&mut self) {
        match self.what {
            What::Create => self.childs = noted(Segment::create(self.place(), SIZE)),
            What::Open | What::Reap => self.childs = noted(Segment::open(self.place())),
            What::OpenLeft => {
                self.childs = noted(Segment::open(self.place()));
                if let Some(segment) = &self.childs {
                    noted(Event::create(segment.at(BY_THE_CHILD)));
                }
            }
            What::LastLeave | What::Leave => self.childs = None,
            What::LastExit | What::Exit => {
                // As a static would.
                std::mem::forget(self.childs.take());
                std::process::exit(0);
            }
            What::TakeOver => {
                self.childs = noted(Segment::open_or_create(self.place(), SIZE)).map(|(segment, _)| segment);
            }
            What::Remove | What::RemoveOther => {
                noted(self.place().remove());
            }
            What::RemoveStale => {
                noted(self.place().remove_unused());
            }
            What::Insert => {
                if let Some(segment) = &self.childs {
                    noted(Event::create(segment.at("x")));
                }
            }
        }
        // The child ends without leaving, as if killed.
        std::mem::forget(self.childs.take());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let is_other =
            self.what == What::RemoveOther && std::fs::read(self.file()).is_ok_and(|text| text.len() < 100);
        // Another process may remove the segment that the child is about to remove, and a new one
        // may get the name.
        let is_anew = end == End::Stopped && (self.what == What::Remove || (self.is_going() && is_one_of(2)));
        if is_anew || is_other {
            let _ = self.place().remove();
        }
        if end == End::Stopped && self.what == What::OpenLeft {
            // The last participant that the child may have seen leaves, and a new segment gets the
            // name.
            self.own = None;
        }
        let is_gone = matches!(self.what, What::LastLeave | What::LastExit) && end == End::Finished;
        if is_gone && self.anew.is_none() && self.file().exists() {
            return Err("the last one has gone, and the name has stayed".into());
        }
        let (segment, origin) = Segment::open_or_create(self.place(), SIZE)
            .map_err(|error| format!("the name cannot be had: {error}"))?;
        if let Some(anew) = self.anew.take() {
            // A process that removes whatever has the name may have been stopped before it read
            // which file that is.
            let may_be_removed = matches!(self.what, What::Remove | What::RemoveOther);
            let is_same =
                origin == Origin::Opened && segment.objects().is_ok_and(|objects| objects.len() >= 2);
            if !is_same && !may_be_removed {
                return Err(format!("{:?} has lost its name to one who went on", anew.path()));
            }
        } else if self.what == What::Remove && end == End::Finished && origin == Origin::Opened {
            return Err("what was removed is still there".into());
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
        if self.what == What::Reap && Event::open(segment.at(BY_THE_DEAD)).is_err() {
            return Err("what the dead had published is gone".into());
        }
        if self.what == What::TakeOver && Event::open(segment.at(BY_THE_DEAD)).is_ok() {
            return Err("what nobody alive is in was taken for what it was".into());
        }
        if self.what == What::OpenLeft
            && end == End::Finished
            && Event::open(segment.at(BY_THE_CHILD)).is_err()
        {
            return Err("the child is in a segment that has lost its name".into());
        }
        if end == End::Stopped {
            // Without this the child may be the last participant when it goes on.
            self.anew = Some(segment);
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
                return Err("the name has stayed".into());
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
