//! Messages larger than the stack of the thread that uses them in place.
//!
//! A copy on the stack would overflow it, and end the whole test program by a signal.

use pagemate::{spsc, Array, Dict, ErrorKind, Message, Mutex, OnceValue, Queue, RwLock, Segment, Topic};

const LEN: usize = 4 << 20;

/// A message that is larger than a stack. Not every bit pattern is a value, and its alignment is
/// larger than that of the checked bytes.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Flags {
    flags: [bool; LEN],
    count: u64,
}

/// A message whose size and alignment are multiples of 16.
#[derive(Clone, Copy, Message)]
#[repr(C, align(16))]
struct Wide([u64; LEN / 8]);

fn on_stack<R: Send>(size: usize, body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(size).spawn_scoped(scope, body).unwrap().join().unwrap()
    })
}

/// Runs `body` on a stack with room for messages.
fn with_room<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    on_stack(32 * LEN, body)
}

/// Runs `body` on a stack without room for messages.
fn without_room<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    on_stack(LEN / 4, body)
}

const FLAGS: Flags = Flags { flags: [true; LEN], count: 7 };

#[test]
fn a_queue_lends_and_receives() {
    let queue = Queue::<Flags>::new(2).unwrap();
    without_room(|| {
        let mut loan = queue.loan().unwrap();
        loan.count = 7;
        assert!(loan.send().is_ok());
        assert_eq!(queue.recv_ref().unwrap().count, 7);
    });
}

#[test]
fn a_ring_lends_and_receives() {
    let (mut producer, mut consumer) = spsc::<Flags>(2).unwrap();
    without_room(move || {
        producer.loan().unwrap().send();
        assert!(!consumer.recv_ref().unwrap().flags[LEN - 1]);
        producer.loan().unwrap().send();
        assert_eq!(consumer.try_chunk(1).unwrap().len(), 1);
    });
}

#[test]
fn locks_and_arrays_lead_to_their_values() {
    let mutex = with_room(|| Mutex::new(FLAGS).unwrap());
    let rwlock = with_room(|| RwLock::new(FLAGS).unwrap());
    let array = with_room(|| Array::new(2, FLAGS).unwrap());
    let once = OnceValue::<Flags>::new().unwrap();
    with_room(|| assert!(once.set(FLAGS).is_ok()));
    without_room(|| {
        assert_eq!(mutex.lock().unwrap().count, 7);
        assert_eq!(rwlock.read().unwrap().count, 7);
        assert_eq!(rwlock.write().unwrap().count, 7);
        assert_eq!(array.lock().unwrap()[1].count, 7);
        assert_eq!(once.get().unwrap().count, 7);
    });
}

#[test]
fn a_dict_lends_its_values() {
    let dict = Dict::<u64, Flags>::new().unwrap();
    with_room(|| assert!(dict.insert(&1, &FLAGS).unwrap()));
    without_room(|| {
        // There are more guards than pins, so the later ones are copies.
        let guards: Vec<_> = (0..110).map(|_| dict.get_ref(&1).unwrap().unwrap()).collect();
        assert!(guards.iter().all(|guard| guard.count == 7));
        assert_eq!(dict.get_with(&1, |flags| flags.count).unwrap(), Some(7));
    });
}

#[test]
fn a_dict_copies_values_of_greater_alignment_to_the_heap() {
    let dict = Dict::<u64, Wide>::new().unwrap();
    with_room(|| assert!(dict.insert(&1, &Wide([3; LEN / 8])).unwrap()));
    without_room(|| {
        let wide = dict.get_ref(&1).unwrap().unwrap();
        assert!(std::ptr::from_ref(&*wide).is_aligned() && wide.0[LEN / 8 - 1] == 3);
    });
}

#[test]
fn values_of_at_most_a_word_are_in_the_guard() {
    let dict = Dict::<u8, str>::new().unwrap();
    for text in ["", "a", "12345678"] {
        dict.insert(&1, text).unwrap();
        let guard = dict.get_ref(&1).unwrap().unwrap();
        dict.insert(&1, "another").unwrap();
        assert_eq!(&*guard, text);
    }
}

/// Sizes around those at which the arithmetic of a layout ends, and their objects.
#[test]
fn sizes_that_no_segment_has_are_refused() {
    let segment = Segment::new(1 << 20).unwrap();
    let largest = isize::MAX as usize;
    let sizes = (0..40).map(|bit| 1 << bit).chain((0..200).map(|page| page << 12));
    for size in sizes.flat_map(|less| [largest - less, usize::MAX - less]) {
        let mut errors = vec![
            Queue::<[u8]>::builder(1).inline(size).build().err(),
            Queue::<[u8]>::builder(1).inline(size).create(segment.at("queue")).err(),
            Queue::<u8>::new(size).err(),
            Topic::<[u8]>::builder(1).inline(size).build().err(),
            Topic::<[u8]>::builder(1).inline(size).create(segment.at("topic")).err(),
            Topic::<u8>::new(size).err(),
            pagemate::queue::spsc::builder::<[u8]>(1).inline(size).build().err(),
            spsc::<u8>(size).err(),
            Array::new(size, 0u8).err(),
            Array::create(segment.at("array"), size, 0u8).err(),
            pagemate::pipe::pipe_with_capacity(size).err(),
        ];
        errors.push(Segment::new(size as u64).err());
        for (number, error) in errors.into_iter().enumerate() {
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::InvalidInput), "object {number}, {size:#x}");
        }
    }
}
