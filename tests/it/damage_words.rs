//! Words of each object are overwritten with random values, also several words together. Every
//! operation on the object ends, without a panic and with little processor time beyond its
//! deadline.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use pagemate::pipe::{PipeReader, PipeWriter};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::topic::From;
use pagemate::{
    Array, Barrier, BoundedSemaphore, Condvar, Dict, Event, List, Lock, Message, Mutex, Namespace, Once,
    OnceValue, Place, Queue, ReentrantLock, RwLock, Semaphore, Service, Topic, Value,
};

use crate::support::Random;

const ROUNDS: usize = if cfg!(debug_assertions) { 150 } else { 1000 };
/// The deadline of every call that may wait.
const SOON: Duration = Duration::from_millis(1);
/// Limit of the processor time of a call beyond its deadline.
const AFTERWARDS: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u32)]
enum Colour {
    Red = 0,
    Green = 7,
}

type Large = [u64; 20];

/// Returns the processor time of this thread. The time of a clock would include that of other
/// processes.
fn worked() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock of this thread, and a place for its time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Calls `step`, drops its result, and checks its processor time.
fn call<R>(what: &str, step: impl FnOnce() -> R) {
    let before = worked();
    drop(step());
    let took = worked() - before;
    assert!(took <= SOON + AFTERWARDS, "{what} works for {took:?}");
}

/// Returns a damaged word: random, special, or copied from another word.
fn word(random: &mut Random, image: &[u64]) -> u64 {
    let any = |random: &mut Random| u64::from_le_bytes([(); 8].map(|()| random.below(256) as u8));
    match random.below(6) {
        0 => any(random),
        1 => random.below(5),
        // The counter in the upper half, a third of its range apart.
        2 => [0, 0x5555_5556, 0xaaaa_aaac][random.below(3) as usize] << 32 | random.below(4),
        3 => u64::MAX >> random.below(64),
        4 => image[random.below(image.len() as u64) as usize],
        _ => image[random.below(image.len() as u64) as usize] ^ 1 << random.below(64),
    }
}

/// An object alone in a segment, and the file.
struct Object {
    file: File,
    at: u64,
    image: Vec<u64>,
}

impl Object {
    /// Reads the first object of the segment with this name.
    fn find(name: &str) -> Object {
        let path = format!("/dev/shm/pagemate.{name}");
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let read = |at: u64| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, at).unwrap();
            u64::from_le_bytes(word)
        };
        // Its record follows the header and the table of participants.
        let (at, len) = (read(20_480 + 32), read(20_480 + 40));
        let image: Vec<u64> = (0..len.div_ceil(8)).map(|index| read(at + 8 * index)).collect();
        Object { file, at, image }
    }

    fn write(&self, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, self.at).unwrap();
    }

    fn damage(&self, random: &mut Random) {
        let mut words = self.image.clone();
        let count = [1, 2, 4, 1 + words.len() / 4, words.len()][random.below(5) as usize];
        for _ in 0..count {
            // Control words are at the beginning, with much padding between them.
            let at = random.below(words.len() as u64) as usize;
            let at = if random.below(2) == 0 { at - at % 16 } else { at };
            words[at] = word(random, &self.image);
        }
        self.write(&words);
    }
}

/// Creates an object by `create`. Damages it again and again, and lets `work` use it and a handle
/// from `open`.
fn each<T: Send + 'static>(
    kind: &'static str,
    create: impl FnOnce(Place) -> T + Send + 'static,
    open: impl Fn(Place) -> Option<T> + Send + 'static,
    work: impl Fn(&mut T) + Send + 'static,
) {
    let name = format!("test-words-{kind}-{}", std::process::id());
    let (done, ended) = mpsc::channel();
    let (own_name, place) = (name.clone(), Place::from(name.as_str()));
    let thread = std::thread::spawn(move || {
        let mut first = create(Place::from(own_name.as_str()));
        work(&mut first);
        let object = Object::find(&own_name);
        let mut random = Random::new();
        for round in 0..ROUNDS {
            object.damage(&mut random);
            work(&mut first);
            object.damage(&mut random);
            if let Some(mut other) = open(Place::from(own_name.as_str())) {
                work(&mut other);
            }
            object.write(&object.image);
            done.send(round).unwrap();
        }
    });
    let mut last = 0;
    loop {
        match ended.recv_timeout(Duration::from_secs(60)) {
            Ok(round) => last = round,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{kind}: hangs after round {last}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let result = thread.join();
    let _ = place.remove();
    assert!(result.is_ok(), "{kind}: panics after round {last}");
}

#[test]
fn queue() {
    each(
        "queue",
        |place| Queue::<u64>::create(place, 5).unwrap(),
        |place| Queue::open(place).ok(),
        |queue| {
            for _ in 0..3 {
                call("try_send", || queue.try_send(1));
                call("try_loan", || queue.try_loan().map(drop));
                call("try_recv", || queue.try_recv());
                call("is_empty, is_full", || (queue.is_empty(), queue.is_full(), queue.len()));
            }
            let held = queue.try_recv_ref();
            call("send_timeout", || queue.send_timeout(1, SOON));
            call("loan_timeout", || queue.loan_timeout(SOON).map(|loan| loan.send_timeout(SOON).is_ok()));
            call("recv_timeout", || queue.recv_timeout(SOON));
            call("drop", || drop(held));
            call("try_iter", || queue.try_iter().take(20).count());
        },
    );
}

#[test]
fn topic() {
    each(
        "topic",
        |place| Topic::<u64>::create(place, 5).unwrap(),
        |place| Topic::open(place).ok(),
        |topic| {
            let publisher = topic.publisher();
            let ways: [fn(&Topic<u64>, From) -> _; 2] = [Topic::subscribe, Topic::subscribe_lossless];
            let froms = [From::Latest, From::Earliest, From::Last(2), From::Position(1)];
            for (from, subscribe) in froms.into_iter().flat_map(|from| ways.map(|way| (from, way))) {
                let mut subscriber = None;
                call("subscribe", || subscriber = subscribe(topic, from).ok());
                call("try_publish", || publisher.try_publish(1));
                call("publish_timeout", || publisher.publish_timeout(1, SOON));
                call("loan", || publisher.try_loan().map(|loan| loan.try_publish().is_ok()));
                if let Some(mut subscriber) = subscriber {
                    call("try_recv_ref", || subscriber.try_recv_ref().map(drop));
                    call("try_recv", || subscriber.try_recv());
                    call("recv_timeout", || subscriber.recv_timeout(SOON));
                    call("lag, lost, position", || {
                        (subscriber.lag(), subscriber.lost(), subscriber.position())
                    });
                    call("try_iter", || subscriber.try_iter().take(20).count());
                }
            }
        },
    );
}

#[test]
fn topic_of_messages_of_any_length() {
    each(
        "varied topic",
        |place| Topic::<[u8]>::builder(5).quota(1 << 16).create(place).unwrap(),
        |place| Topic::open(place).ok(),
        |topic| {
            let publisher = topic.publisher();
            for (from, is_lossless) in [(From::Latest, false), (From::Earliest, true)] {
                let mut subscriber = None;
                call("subscribe", || {
                    subscriber = match is_lossless {
                        true => topic.subscribe_lossless(from).ok(),
                        false => topic.subscribe(from).ok(),
                    };
                });
                for message in [vec![1; 5], vec![2; 30_000]] {
                    call("try_publish", || publisher.try_publish(&message));
                    call("publish_timeout", || publisher.publish_timeout(&message, SOON));
                    call("loan", || {
                        publisher.try_loan(message.len()).map(|room| room.zeroed().try_publish().is_ok())
                    });
                }
                if let Some(mut subscriber) = subscriber {
                    call("try_recv_ref", || subscriber.try_recv_ref().map(|message| message.len()));
                    call("try_recv", || subscriber.try_recv());
                    call("recv_into_timeout", || subscriber.recv_into_timeout(&mut Vec::new(), SOON));
                    call("lag", || subscriber.lag());
                    call("try_iter", || subscriber.try_iter().take(20).count());
                }
            }
            call("quota_in_use", || topic.quota_in_use());
        },
    );
}

#[test]
fn service() {
    each(
        "service",
        |place| Service::<u64, u64>::create(place, 3).unwrap(),
        |place| Service::open(place).ok(),
        |service| {
            let (client, server) = (service.client().wait_for_server(true), service.server());
            for _ in 0..2 {
                let calls = [(); 2].map(|()| client.try_start(&1));
                call("call_timeout", || client.call_timeout(&1, SOON));
                call("start_timeout", || client.start_timeout(&1, SOON));
                call("loan", || client.try_loan().map(|loan| loan.call_timeout(SOON)));
                let requests = [server.try_recv(), server.recv_timeout(SOON)];
                for request in requests.into_iter().flatten() {
                    call("client, deadline", || (request.client(), request.deadline()));
                    call("reply_timeout", || request.reply_timeout(&1, SOON).is_ok());
                }
                for started in calls.into_iter().flatten() {
                    call("is_ready", || started.is_ready());
                    call("wait_timeout", || started.wait_timeout(SOON));
                }
            }
            call("has_server", || (service.has_server(), service.is_closed()));
        },
    );
}

#[test]
fn service_of_messages_of_any_length() {
    each(
        "varied service",
        |place| Service::<[u8], [u8]>::builder(3).quota(1 << 16).create(place).unwrap(),
        |place| Service::open(place).ok(),
        |service| {
            let (client, server) = (service.client().wait_for_server(true), service.server());
            for message in [vec![1; 5], vec![2; 30_000]] {
                let calls = [(); 2].map(|()| client.try_start(&message));
                call("call_ref_timeout", || client.call_ref_timeout(&message, SOON).map(|answer| answer.len()));
                call("loan", || {
                    client.try_loan(message.len()).map(|room| room.zeroed().call_timeout(SOON).is_ok())
                });
                while let Ok(request) = server.try_recv() {
                    call("reply_timeout", || request.reply_timeout(&message, SOON).is_ok());
                }
                for started in calls.into_iter().flatten() {
                    call("wait_timeout", || started.wait_timeout(SOON));
                }
            }
        },
    );
}

#[test]
fn ring() {
    each(
        "ring",
        |place| (Producer::<Colour>::create(place.clone(), 5).ok(), Consumer::<Colour>::open(place).ok()),
        |place| Some((Producer::open(place.clone()).ok(), Consumer::open(place).ok())),
        |(producer, consumer)| {
            if let Some(producer) = producer {
                call("try_send", || producer.try_send(Colour::Green));
                call("send_timeout", || producer.send_timeout(Colour::Red, SOON));
                call("try_send_batch", || producer.try_send_batch(&[Colour::Red; 9]));
            }
            if let Some(consumer) = consumer {
                call("try_recv", || consumer.try_recv());
                call("recv_timeout", || consumer.recv_timeout(SOON));
                call("try_chunk", || consumer.try_chunk(9).map(|chunk| chunk.len()));
                call("len", || (consumer.len(), consumer.is_closed()));
            }
        },
    );
}

#[test]
fn pipe() {
    each(
        "pipe",
        |place| (PipeWriter::create(place.clone()).ok(), PipeReader::open(place).ok()),
        |place| Some((PipeWriter::open(place.clone()).ok(), PipeReader::open(place).ok())),
        |(writer, reader)| {
            if let Some(writer) = writer {
                call("try_send_bytes", || writer.try_send_bytes(&[1; 100]));
                call("send_timeout", || writer.send_timeout(&7u64, SOON));
            }
            if let Some(reader) = reader {
                call("wait_readable", || reader.wait_readable(SOON));
                call("try_recv", || reader.try_recv::<u64>());
                call("recv_bytes_timeout", || reader.recv_bytes_timeout(SOON));
            }
        },
    );
}

#[test]
fn event_and_semaphores() {
    each(
        "event",
        |place| Event::create(place).unwrap(),
        |place| Event::open(place).ok(),
        |event| {
            call("wait_timeout", || event.wait_timeout(SOON));
            call("set", || event.set());
            call("clear", || (event.is_set(), event.clear()));
        },
    );
    each(
        "semaphore",
        |place| Semaphore::create(place, 2).unwrap(),
        |place| Semaphore::open(place).ok(),
        |semaphore| {
            call("acquire_timeout", || semaphore.acquire_timeout(SOON));
            call("try_acquire", || semaphore.try_acquire());
            call("acquire_many_timeout", || semaphore.acquire_many_timeout(2, SOON));
            call("release", || semaphore.release());
        },
    );
    each(
        "bounded_semaphore",
        |place| BoundedSemaphore::create(place, 3).unwrap(),
        |place| BoundedSemaphore::open(place).ok(),
        |semaphore| {
            call("acquire_timeout", || semaphore.acquire_timeout(SOON).map(drop).is_ok());
            call("try_acquire", || semaphore.try_acquire().map(drop).is_ok());
        },
    );
}

#[test]
fn locks() {
    each(
        "lock",
        |place| Lock::create(place).unwrap(),
        |place| Lock::open(place).ok(),
        |lock| {
            call("lock_timeout", || lock.lock_timeout(SOON).map(drop).is_ok());
            call("try_lock", || lock.try_lock().map(drop).is_ok());
        },
    );
    each(
        "reentrant_lock",
        |place| ReentrantLock::create(place).unwrap(),
        |place| ReentrantLock::open(place).ok(),
        |lock| {
            call("lock_timeout", || lock.lock_timeout(SOON).map(drop).is_ok());
            call("try_lock", || lock.try_lock().map(drop).is_ok());
        },
    );
    each(
        "rwlock",
        |place| RwLock::create(place, 1u64).unwrap(),
        |place| RwLock::open(place).ok(),
        |lock| {
            call("read_timeout", || lock.read_timeout(SOON).map(drop).is_ok());
            call("write_timeout", || lock.write_timeout(SOON).map(drop).is_ok());
        },
    );
    each(
        "mutex",
        |place| (Mutex::create(place, 1u64).unwrap(), Condvar::new().unwrap()),
        |place| Some((Mutex::open(place).ok()?, Condvar::new().unwrap())),
        |(mutex, condvar)| {
            call("lock_timeout", || mutex.lock_timeout(SOON).map(drop).is_ok());
            call("wait_timeout", || {
                mutex.try_lock().is_ok_and(|guard| condvar.wait_timeout(guard, SOON).is_ok())
            });
        },
    );
}

#[test]
fn meetings() {
    each(
        "condvar",
        |place| (Condvar::create(place).unwrap(), Mutex::new(0u64).unwrap()),
        |place| Some((Condvar::open(place).ok()?, Mutex::new(0u64).unwrap())),
        |(condvar, mutex)| {
            call("notify_one", || condvar.notify_one());
            call("notify", || condvar.notify(5));
            call("notify_all", || condvar.notify_all());
            call("wait_timeout", || {
                mutex.lock_timeout(SOON).is_ok_and(|guard| condvar.wait_timeout(guard, SOON).is_ok())
            });
        },
    );
    each(
        "barrier",
        |place| Barrier::create(place, 2).unwrap(),
        |place| Barrier::open(place).ok(),
        |barrier| {
            call("wait_timeout", || barrier.wait_timeout(SOON));
            call("abort", || barrier.abort());
            call("waiting", || (barrier.waiting(), barrier.is_broken()));
            call("reset", || barrier.reset());
        },
    );
    each(
        "once",
        |place| Once::create(place).unwrap(),
        |place| Once::open(place).ok(),
        |once| {
            call("call_once_timeout", || once.call_once_timeout(SOON, || ()).is_ok());
            call("wait_timeout", || once.wait_timeout(SOON));
        },
    );
    each(
        "once-value",
        |place| OnceValue::<u64>::create(place).unwrap(),
        |place| OnceValue::open(place).ok(),
        |once| {
            call("set_timeout", || once.set_timeout(3, SOON).is_ok());
            call("wait_timeout", || once.wait_timeout(SOON).is_ok());
        },
    );
}

#[test]
fn values() {
    each(
        "value",
        |place| Value::create(place, 1u64).unwrap(),
        |place| Value::open(place).ok(),
        |value| {
            call("get", || value.get());
            call("set_timeout", || value.set_timeout(2, SOON));
            call("update_timeout", || value.update_timeout(SOON, |old| old.wrapping_add(1)));
        },
    );
    each(
        "large-value",
        |place| Value::create(place, [1u64; 20]).unwrap(),
        |place| Value::<Large>::open(place).ok(),
        |value| {
            call("get", || value.get());
            call("set_timeout", || value.set_timeout([2; 20], SOON));
            call("update_timeout", || value.update_timeout(SOON, |old| old));
        },
    );
    each(
        "array",
        |place| Array::create(place, 9, 1u64).unwrap(),
        |place| Array::open(place).ok(),
        |array| {
            call("lock_timeout", || array.lock_timeout(SOON).map(drop).is_ok());
            call("try_lock", || array.try_lock().map(drop).is_ok());
        },
    );
}

#[test]
fn collections() {
    each(
        "dict",
        |place| Dict::<u64, [u8]>::create(place).unwrap().with_write_timeout(SOON),
        |place| Dict::open(place).ok().map(|dict: Dict<u64, [u8]>| dict.with_write_timeout(SOON)),
        |dict| {
            call("get", || dict.get(&3));
            (0..5).for_each(|key| call("insert", || dict.insert(&key, &[1; 100])));
            call("iter", || dict.iter().take(50).count());
            call("remove", || dict.remove(&1));
            call("pop", || dict.pop());
            call("len", || dict.len());
            call("clear", || dict.clear());
        },
    );
    each(
        "list",
        |place| List::<str>::create(place).unwrap().with_write_timeout(SOON),
        |place| List::open(place).ok().map(|list: List<str>| list.with_write_timeout(SOON)),
        |list| {
            (0..5).for_each(|_| call("push", || list.push("something of some length")));
            call("get", || list.get(1));
            call("iter", || list.iter().take(50).count());
            call("remove", || list.remove(0));
            call("sort", || list.sort());
            call("clear", || list.clear());
        },
    );
    each(
        "namespace",
        |place| Namespace::create(place).unwrap().with_write_timeout(SOON),
        |place| Namespace::open(place).ok().map(|names| names.with_write_timeout(SOON)),
        |names| {
            call("set", || names.set("one", &1u64));
            call("get", || names.get::<u64>("one"));
        },
    );
}
