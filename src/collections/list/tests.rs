//! A list whose bytes were overwritten.

use proptest::prelude::*;

use crate::collections::list::state::{head_in, is_of, link, place, Head};
use crate::collections::list::List;
use crate::heap::{Block, Heap};
use crate::message::item::Item;
use crate::segment::object::Object;
use crate::segment::owner::OwnerId;
use crate::segment::place::Place;
use crate::{ErrorKind, Segment};

use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};

impl<T: Item + ?Sized> List<T> {
    fn head_words(&self) -> &[AtomicU64] {
        // SAFETY: a Head is at the object's base, mapped as long as `self`, and all of it is
        // atomics.
        unsafe { std::slice::from_raw_parts(self.object().base().cast(), size_of::<Head>() / 8) }
    }

    /// Acts as if a holder of the owner word had died.
    fn pretend_death(&self) {
        let dead = OwnerId::new(900, 7).unwrap();
        let head =
            crate::collections::list::state::head_in(self.object().base(), self.object().len()).unwrap();
        assert!(head.word.try_acquire(dead).is_some());
        crate::collections::list::state::recover(self.object().base(), self.object().len(), dead);
    }
}

#[test]
fn links() {
    let block = Block { at: (1 << 38) - 16, generation: u32::MAX };
    assert_eq!(place(link(block)), block.at);
    assert!(is_of(link(block), u32::MAX) && is_of(link(block), (1 << 30) - 1) && !is_of(link(block), 7));
    assert_ne!(link(Block { at: 16, generation: 0 }), 0);
}

/// Calls all methods of a list.
fn use_it<T: Item + ?Sized>(list: &List<T>, value: &T) {
    _ = list.len();
    _ = list.iter().take(1000).all(|value| value.is_ok());
    _ = list.push(value);
    _ = list.set(1, value);
    _ = list.insert(0, value);
    _ = list.remove(1);
    _ = list.pop();
    _ = list.sort_by(|_, _| std::cmp::Ordering::Equal);
    _ = list.clear();
    _ = list.push(value);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 60 }))]

    #[test]
    fn damage_is_survived(spots in prop::collection::vec((0..48usize, any::<u64>(), any::<bool>()), 1..6)) {
        let list = List::<[u64; 3]>::new().unwrap();
        list.extend((0..20).map(|n| [n; 3])).unwrap();
        let head = list.head_words();
        for (word, value, is_small) in spots {
            // Not the owner word: sync/robust_word tests a holder that never existed.
            let value = if is_small { value % 64 } else { value };
            head[16 + word % 32].store(value, crate::loom::atomic::Ordering::Relaxed);
        }
        use_it(&list, &[7; 3]);
    }

    #[test]
    fn a_journal_of_anything_is_survived(
        words in prop::collection::vec(any::<u64>(), 15),
        swap in 0..3usize,
    ) {
        let list = List::<[u64; 3]>::new().unwrap();
        list.extend((0..20).map(|n| [n; 3])).unwrap();
        let head = list.head_words();
        let root = head[16].load(crate::loom::atomic::Ordering::Relaxed);
        for (at, word) in words.into_iter().enumerate() {
            let word = if at % 3 == swap { root } else { word };
            head[32 + at].store(word, crate::loom::atomic::Ordering::Relaxed);
        }
        head[32].store(1, crate::loom::atomic::Ordering::Relaxed);
        list.pretend_death();
        use_it(&list, &[7; 3]);
    }
}

#[test]
fn places_reserve() {
    let name = format!("unit-list-reserve-{}", std::process::id());
    let list = List::<u64>::create(Place::from(name.as_str()).reserve(1 << 22)).unwrap();
    assert_eq!(list.object().attachment().facts().size, 1 << 22);
    let other = List::<u64>::create(format!("{name}-b")).unwrap();
    assert_eq!(other.object().attachment().facts().size, 16 << 30);
}

/// Words that each lead to something, and all to the same, are more than there is memory.
#[test]
fn a_copy_is_no_larger_than_the_memory() {
    let segment = Segment::new(1 << 20).unwrap();
    let list = List::<[u8]>::create(segment.at("list")).unwrap();
    list.push(&[7; 100_000]).unwrap();
    list.extend((0..19).map(|n| vec![n; 10])).unwrap();
    assert_eq!(list.snapshot().unwrap().len(), 20);
    let head = head_in(list.object().base(), list.object().len()).unwrap();
    let heap = Heap::of(list.object().attachment());
    // The length, and the words of the elements.
    let root = heap.words(place(head.root.load(Relaxed)), 21).unwrap();
    root[2..].iter().for_each(|word| word.store(root[1].load(Relaxed), Relaxed));
    assert_eq!(list.get(19).unwrap().unwrap(), [7; 100_000]);
    assert_eq!(list.snapshot().unwrap_err().kind(), ErrorKind::Corrupted);
    assert_eq!(list.sort().unwrap_err().kind(), ErrorKind::Corrupted);
}
