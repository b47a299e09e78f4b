//! Scenes of segments: create, open, leave, insert into the directory, reap.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pagemate::{inspect, ErrorKind, Event, Segment};

use crate::helper::Helper;
use crate::{is_one_of, End, Recipe, Scene};

const SIZE: u64 = 1 << 16;

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "segment: create", build: || Box::new(Named::new(What::Create)) },
        Recipe { name: "segment: open", build: || Box::new(Named::new(What::Open)) },
        Recipe { name: "segment: last leave", build: || Box::new(Named::new(What::LastLeave)) },
        Recipe { name: "segment: leave, another stays", build: || Box::new(Named::new(What::Leave)) },
        Recipe { name: "segment: take over a stale one", build: || Box::new(Named::new(What::TakeOver)) },
        Recipe { name: "segment: reap the dead while opening", build: || Box::new(Named::new(What::Reap)) },
        Recipe { name: "directory: insert", build: || Box::new(Named::new(What::Insert)) },
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Create,
    Open,
    LastLeave,
    Leave,
    TakeOver,
    Reap,
    Insert,
}

struct Named {
    name: String,
    what: What,
    /// The parent's attachment, where it has one.
    own: Option<Segment>,
    /// The child's.
    childs: Option<Segment>,
}

/// Whether somebody has locked the bytes of all participants of the segment in this file at once.
fn is_held_whole(file: &std::path::Path) -> bool {
    use std::os::fd::AsRawFd;
    const BYTES: i64 = 1024;
    let Ok(file) = std::fs::File::open(file) else { return false };
    // SAFETY: flock is plain data, for which zero bytes are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as libc::c_short, 1 << 62, BYTES);
    // SAFETY: the descriptor is open, and the command takes a flock.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    lock.l_type != libc::F_UNLCK as libc::c_short && lock.l_len == BYTES
}

/// A process that attaches, does `more` and dies.
fn die_attached(name: &str, more: impl FnOnce(&Segment)) {
    Helper::die_after(|| {
        let (segment, _) = Segment::open_or_create(name, SIZE).unwrap();
        more(&segment);
        std::mem::forget(segment);
    });
}

impl Named {
    fn new(what: What) -> Named {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-crash-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let own = match what {
            What::Open | What::Leave | What::Insert => Some(Segment::create(name.as_str(), SIZE).unwrap()),
            What::Reap => {
                let own = Segment::create(name.as_str(), SIZE).unwrap();
                die_attached(&name, |segment| drop(Event::create(segment.at("by the dead"))));
                Some(own)
            }
            What::TakeOver => {
                die_attached(&name, |_| ());
                None
            }
            What::Create | What::LastLeave => None,
        };
        Named { name, what, own, childs: None }
    }

    fn file(&self) -> PathBuf {
        format!("/dev/shm/pagemate.{}", self.name).into()
    }
}

impl Scene for Named {
    fn prepare(&mut self) {
        match self.what {
            What::LastLeave | What::Leave => {
                self.childs = Some(Segment::open_or_create(self.name.as_str(), SIZE).unwrap().0);
            }
            What::Insert => {
                self.childs = Some(Segment::open(self.name.as_str()).unwrap());
            }
            _ => {}
        }
    }

    fn act(&mut self) {
        match self.what {
            What::Create => self.childs = Segment::create(self.name.as_str(), SIZE).ok(),
            What::Open | What::Reap => self.childs = Segment::open(self.name.as_str()).ok(),
            What::LastLeave | What::Leave => self.childs = None,
            What::TakeOver => {
                self.childs =
                    Segment::open_or_create(self.name.as_str(), SIZE).ok().map(|(segment, _)| segment);
            }
            What::Insert => {
                if let Some(segment) = &self.childs {
                    let _ = Event::create(segment.at("x"));
                }
            }
        }
        // Not left: the child ends without it, as if killed.
        std::mem::forget(self.childs.take());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // An opener waits for who holds the whole range, for two seconds: only some of these moments try that.
        if end == End::Stopped && is_held_whole(&self.file()) && !is_one_of(97) {
            return Ok(());
        }
        let (segment, _) = match Segment::open_or_create(self.name.as_str(), SIZE) {
            Ok(opened) => opened,
            // Stopped while it holds the whole range, which says that the segment is about to go: the one documented wait.
            Err(error) if end == End::Stopped && error.kind() == ErrorKind::Busy => return Ok(()),
            Err(error) => return Err(format!("the name cannot be had: {error}")),
        };
        for name in ["x", "y"] {
            let place = segment.at(name);
            let (event, _) =
                Event::open_or_create(place).map_err(|error| format!("object {name}: {error}"))?;
            event.set();
            if !event.is_set() {
                return Err("an object does not work".into());
            }
        }
        if self.what == What::Reap && Event::open(segment.at("by the dead")).is_err() {
            return Err("what the dead had published is gone".into());
        }
        if end == End::Stopped {
            return Ok(());
        }
        drop(segment);
        if let Some(own) = &self.own {
            let _ = own.objects().map_err(|error| error.to_string())?;
        }
        self.own = None;
        // What the child did not leave is stale now at most, and swept.
        if self.file().exists() {
            let stale = inspect::segment(self.name.as_str()).is_ok_and(|segment| segment.stale);
            let _ = Segment::open(self.name.as_str());
            if !stale || self.file().exists() {
                return Err("the name has stayed".into());
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        match inspect::segment(self.name.as_str()) {
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
