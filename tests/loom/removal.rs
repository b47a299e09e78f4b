//! Removing names: no process removes the name of another segment, however long it was stopped and
//! wherever it died.
//!
//! The directory is modelled with one step under a lock for each system call. Segments are numbers.

use std::collections::BTreeMap;

use super::{model, thread, Arc};
use crate::loom::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use crate::segment::removal::{entered, remove, Name, Outcome};

#[cfg(loom)]
use ::loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

const OLD: u32 = 1;
const NEW: u32 = 2;

/// The segment that has the name, and the directories with the segments that were renamed into
/// them.
struct Files {
    name: Option<u32>,
    dirs: BTreeMap<u64, Dir>,
    made: u64,
}

/// A directory whose name is the number of a permit.
#[derive(Clone, Copy)]
enum Dir {
    Permit(Option<u32>),
    /// A directory of another user, created when the permit was gone. In a directory with the
    /// sticky bit no remover can remove it.
    Forged,
}

struct Place {
    files: Mutex<Files>,
    /// The word of segment OLD.
    word: AtomicU64,
    /// Whether a participant has a line in the table of OLD.
    line: AtomicBool,
}

/// A process that dies after a number of calls.
struct Remover<'a> {
    place: &'a Place,
    calls: AtomicUsize,
}

impl Place {
    fn new() -> Arc<Place> {
        let files = Files { name: Some(OLD), dirs: BTreeMap::new(), made: 0 };
        Arc::new(Place { files: Mutex::new(files), word: AtomicU64::new(0), line: AtomicBool::new(false) })
    }

    /// Removes the name of OLD unless it has a participant. Dies at the call after `calls`.
    fn remove_after(&self, calls: usize) -> Result<Outcome, ()> {
        let name = Remover { place: self, calls: AtomicUsize::new(calls) };
        remove(&self.word, &name, || !self.line.load(Relaxed))
    }

    fn remove(&self) -> Outcome {
        self.remove_after(usize::MAX).unwrap()
    }

    /// Publishes NEW, if the name is free.
    fn publish(&self) -> bool {
        let mut files = self.files.lock().unwrap();
        let is_free = files.name.is_none();
        files.name = files.name.or(Some(NEW));
        is_free
    }

    fn enter(&self) -> bool {
        self.line.store(true, Relaxed);
        entered(&self.word, &Remover { place: self, calls: AtomicUsize::new(usize::MAX) }).unwrap()
    }

    /// Creates a directory with the name of each permit that is gone.
    fn forge(&self) {
        let mut files = self.files.lock().unwrap();
        for number in 1..=files.made {
            files.dirs.entry(number).or_insert(Dir::Forged);
        }
    }

    /// Returns the number of directories that removers have left.
    fn permits(&self) -> usize {
        let files = self.files.lock().unwrap();
        files.dirs.values().filter(|dir| matches!(dir, Dir::Permit(_))).count()
    }

    fn name(&self) -> Option<u32> {
        self.files.lock().unwrap().name
    }
}

impl Remover<'_> {
    fn call<R>(&self, body: impl FnOnce(&mut Files) -> R) -> Result<R, ()> {
        let left = self.calls.load(Relaxed).checked_sub(1).ok_or(())?;
        self.calls.store(left, Relaxed);
        Ok(body(&mut self.place.files.lock().unwrap()))
    }

    /// Unlinks what was renamed into a permit's directory.
    fn discard(&self, number: u64) -> Result<(), ()> {
        self.call(|files| {
            if let Some(Dir::Permit(held)) = files.dirs.get_mut(&number) {
                *held = None;
            }
        })
    }
}

impl Name for Remover<'_> {
    type Error = ();
    type Permit = u64;

    fn permit(&self) -> Result<(u64, u64), ()> {
        // One step for two system calls, which create and open the directory. A process that finds
        // a forged directory when it opens does not use it.
        let made = self.call(|files| {
            files.made += 1;
            files.dirs.insert(files.made, Dir::Permit(None));
            files.made
        })?;
        Ok((made, made))
    }

    fn revoke(&self, number: u64) -> Result<(), ()> {
        let used = self.call(|files| match files.dirs.get(&number) {
            Some(Dir::Permit(Some(_))) => true,
            Some(Dir::Permit(None)) => {
                files.dirs.remove(&number);
                false
            }
            Some(Dir::Forged) | None => false,
        })?;
        if used {
            self.discard(number)?;
            self.call(|files| {
                if let Some(Dir::Permit(None)) = files.dirs.get(&number) {
                    files.dirs.remove(&number);
                }
            })?;
        }
        Ok(())
    }

    fn is_ours(&self) -> Result<bool, ()> {
        self.call(|files| files.name == Some(OLD))
    }

    /// Renames into the directory that was created, whichever one has its number by now.
    fn take(&self, permit: &u64) -> Result<bool, ()> {
        let taken = self.call(|files| {
            let Files { name, dirs, .. } = files;
            let Some(Dir::Permit(held)) = dirs.get_mut(permit) else { return false };
            assert!(held.is_none(), "a permit is used once");
            let taken = name.take();
            assert_ne!(taken, Some(NEW), "the name of another segment was removed");
            *held = taken;
            taken.is_some()
        })?;
        if taken {
            self.discard(*permit)?;
        }
        Ok(taken)
    }
}

#[test]
fn removers_beside_a_creator() {
    model("removal: two removers beside a process that creates the name again", || {
        let place = Place::new();
        let removers = [(); 2].map(|_| {
            let place = place.clone();
            thread::spawn(move || place.remove())
        });
        let published = place.publish();
        let outcomes = removers.map(|remover| remover.join().unwrap());
        let removed = outcomes.iter().filter(|outcome| **outcome == Outcome::Removed).count();
        assert_eq!(removed, 1, "{outcomes:?}");
        assert_eq!(place.name(), published.then_some(NEW));
        assert!(place.permits() == 0, "a directory has stayed");
    });
}

#[test]
fn a_forged_permit_removes_nothing() {
    model("removal: another user forges the permits of two removers", || {
        let place = Place::new();
        let removers = [(); 2].map(|_| {
            let place = place.clone();
            thread::spawn(move || place.remove())
        });
        let published = place.publish();
        place.forge();
        let outcomes = removers.map(|remover| remover.join().unwrap());
        let removed = outcomes.iter().filter(|outcome| **outcome == Outcome::Removed).count();
        assert_eq!(removed, 1, "{outcomes:?}");
        assert_eq!(place.name(), published.then_some(NEW));
        assert_eq!(place.permits(), 0, "a directory has stayed");
    });
}

#[test]
fn a_forged_permit_does_not_keep_an_entrant_out() {
    model("removal: another user forges the permit of a remover that died", || {
        let place = Place::new();
        // The remover dies with its permit registered, and a sweep removes the directory.
        let _ = place.remove_after(3);
        place.files.lock().unwrap().dirs.clear();
        let forger = place.clone();
        let forger = thread::spawn(move || forger.forge());
        assert!(place.enter(), "the name has not been removed");
        assert_eq!(place.remove(), Outcome::Kept);
        forger.join().unwrap();
    });
}

#[test]
fn a_remover_that_dies_anywhere() {
    for calls in 0..10 {
        let name = format!("removal: a remover dies after {calls} calls, another goes on");
        model(&name, move || {
            let place = Place::new();
            let dying = place.clone();
            let dying = thread::spawn(move || dying.remove_after(calls));
            let outcome = place.remove();
            let published = place.publish();
            let _ = dying.join().unwrap();
            assert!(published || outcome == Outcome::Overtaken, "{outcome:?}");
            assert_eq!(place.name(), Some(NEW));
            assert!(place.permits() <= 1, "more than one directory has stayed");
        });
    }
}

#[test]
fn a_remover_that_dies_beside_a_slow_one() {
    for calls in 0..9 {
        let name =
            format!("removal: a remover dies after {calls} calls beside a slow one, and another goes on");
        model(&name, move || {
            let place = Place::new();
            let slow = place.clone();
            let slow = thread::spawn(move || slow.remove());
            let _ = place.remove_after(calls);
            let outcome = place.remove();
            let published = place.publish();
            slow.join().unwrap();
            assert!(published || outcome == Outcome::Overtaken, "{outcome:?}");
            assert_eq!(place.name(), Some(NEW));
            assert!(place.permits() <= 1, "more than one directory has stayed");
        });
    }
}

#[test]
fn an_entrant_against_removers() {
    model("removal: an entrant against a remover", || {
        let place = Place::new();
        let remover = place.clone();
        let remover = thread::spawn(move || remover.remove());
        let is_in = place.enter();
        let outcome = remover.join().unwrap();
        match is_in {
            true => assert!(outcome == Outcome::Kept && place.name() == Some(OLD), "{outcome:?}"),
            false => assert!(outcome == Outcome::Removed && place.name().is_none(), "{outcome:?}"),
        }
        assert!(place.permits() == 0, "a directory has stayed");
    });
}
