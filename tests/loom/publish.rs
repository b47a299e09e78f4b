//! Publishing and opening: an opener that finds an object finds it complete, a name is assigned
//! once, and a death leaves only free space.

use super::{model, thread, Arc};
use crate::loom::atomic::{AtomicU64, Ordering::*};
use crate::segment::owner::OwnerId;
use crate::segment::records::{claim_end, publish, recover, Record, UNIT};

/// A space of three records of one unit, at the offsets 128, 256 and 384, each with a name and a
/// content beside it.
struct Space {
    end: AtomicU64,
    directory: AtomicU64,
    records: [Record; 3],
    /// Name and content, written before publication. A reader that is too early reads 0.
    objects: [[AtomicU64; 2]; 3],
}

fn space() -> Arc<Space> {
    Arc::new(Space {
        end: AtomicU64::new(UNIT),
        directory: AtomicU64::new(0),
        records: [(); 3].map(|_| Record::new()),
        objects: [(); 3].map(|_| [(); 2].map(|_| AtomicU64::new(0))),
    })
}

fn participant(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Space {
    fn index(offset: u64) -> usize {
        (offset / UNIT) as usize - 1
    }

    fn claim(&self, owner: OwnerId) -> u64 {
        let room = |end| self.records.get(Space::index(end)).ok_or(());
        claim_end(&self.end, 1, owner, room, |end, len| len.map(|len| end + len).ok_or(())).unwrap()
    }

    fn write(&self, offset: u64, name: u64) {
        self.objects[Space::index(offset)][0].store(name, Relaxed);
        self.objects[Space::index(offset)][1].store(name * 10, Relaxed);
    }

    /// Returns names and contents from `from` up to `until`, without removed names.
    fn listed(&self, mut from: u64, until: u64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        while from != until && from != 0 {
            let [name, content] = &self.objects[Space::index(from)];
            if !self.records[Space::index(from)].is_removed() {
                found.push((name.load(Relaxed), content.load(Relaxed)));
            }
            from = self.records[Space::index(from)].next.load(Relaxed);
        }
        found
    }

    fn create(&self, owner: OwnerId, name: u64) -> bool {
        let offset = self.claim(owner);
        self.write(offset, name);
        let record = &self.records[Space::index(offset)];
        let taken = |from, until| Ok::<_, ()>(self.listed(from, until).iter().any(|found| found.0 == name));
        let published = publish(&self.directory, record, offset, owner, taken).unwrap();
        if !published {
            record.free(owner);
        }
        published
    }

    fn is_listed(&self, offset: u64) -> bool {
        let mut at = self.directory.load(Acquire);
        while at != 0 && at != offset {
            at = self.records[Space::index(at)].next.load(Relaxed);
        }
        at == offset
    }

    fn open(&self, name: u64) -> Option<u64> {
        let all = self.listed(self.directory.load(Acquire), 0);
        all.into_iter().find(|found| found.0 == name).map(|found| found.1)
    }
}

#[test]
fn what_is_found_is_complete() {
    model("publish: an opener finds nothing or all of it", || {
        let space = space();
        let openers = [(); 2].map(|_| {
            let other = space.clone();
            thread::spawn(move || assert!(matches!(other.open(7), None | Some(70))))
        });
        assert!(space.create(participant(1), 7));
        openers.into_iter().for_each(|opener| opener.join().unwrap());
        assert_eq!(space.open(7), Some(70));
    });
}

#[test]
fn a_name_is_given_once() {
    model("publish: two create the same name, a third another one", || {
        let space = space();
        let creators = [(1, 7), (2, 8)].map(|(index, name)| {
            let other = space.clone();
            thread::spawn(move || other.create(participant(index), name))
        });
        let mine = space.create(participant(0), 7);
        let [same, different] = creators.map(|creator| creator.join().unwrap());
        assert!(mine != same && different);
        assert_eq!((space.open(7), space.open(8)), (Some(70), Some(80)));
    });
}

#[test]
fn a_death_after_the_claim_blocks_nobody() {
    model("publish: a creator dies with its claim, another creates, a reaper frees", || {
        let space = space();
        // It dies after the claim, before it has moved the end of space, as if help() had not run.
        let dead = participant(1);
        let offset = space.claim(dead);
        space.end.store(offset, Relaxed);
        let other = space.clone();
        let creator = thread::spawn(move || assert!(other.create(participant(2), 7)));
        let record = &space.records[Space::index(offset)];
        assert!(recover(record, dead, || space.open(9).is_some()));
        creator.join().unwrap();
        assert_eq!(space.open(7), Some(70));
        assert!(record.claim_free(1, 1, participant(0)), "the dead one's space is used again");
    });
}

#[test]
fn a_death_after_publication_keeps_the_object() {
    model("publish: a creator dies published, two reapers", || {
        let space = space();
        let dead = participant(1);
        let offset = space.claim(dead);
        space.write(offset, 7);
        // It died after it had swapped the head.
        space.directory.store(offset, Release);
        let reap = move |space: &Space| {
            let record = &space.records[Space::index(offset)];
            assert!(!recover(record, dead, || space.open(7).is_some()), "it must not be freed");
        };
        let other = space.clone();
        let reaper = thread::spawn(move || reap(&other));
        reap(&space);
        reaper.join().unwrap();
        assert_eq!(space.open(7), Some(70));
        assert!(!space.records[Space::index(offset)].claim_free(1, 1, participant(0)));
    });
}

#[test]
fn a_name_is_removed_once() {
    model("publish: two remove what a dead creator has published, a reaper, another takes the name", || {
        let space = space();
        let dead = participant(1);
        let offset = space.claim(dead);
        space.write(offset, 7);
        space.directory.store(offset, Release);
        let record = Space::index(offset);
        let (reaper, remover) = (space.clone(), space.clone());
        let reaper = thread::spawn(move || {
            let is_listed = || reaper.is_listed(offset);
            assert!(!recover(&reaper.records[record], dead, is_listed), "it must not be freed");
        });
        let remover = thread::spawn(move || remover.records[record].remove());
        let mine = space.records[record].remove();
        assert!(mine || space.records[record].is_removed());
        assert!(space.create(participant(0), 7), "the name is free");
        reaper.join().unwrap();
        assert!(mine != remover.join().unwrap());
        assert!(space.records[record].is_removed() && !space.records[record].claim_free(1, 1, dead));
        assert!(space.is_listed(offset) && space.open(7) == Some(70));
    });
}
