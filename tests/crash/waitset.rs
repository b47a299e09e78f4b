//! Scenes of a set of three: one of them is ready, none is until the deadline, one becomes ready
//! while the child sleeps, and another process waits for the same message.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pagemate::{Event, Queue, Semaphore, WaitSet};

use crate::helper::{is_asleep_or_dozing, pause, shared, until, Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
/// The messages of the waker and of the survivor.
const WAKERS: u32 = 100;
const MINE: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The queue has a message before the wait begins.
    Ready,
    /// Nothing becomes ready until the deadline.
    InVain,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "waitset: wait, one of three ready", build: || Wait::boxed(Way::Ready) },
        Recipe { name: "waitset: wait, timing out", build: || Wait::boxed(Way::InVain) },
        Recipe { name: "waitset: wait, asleep until a message comes", build: || Asleep::boxed() },
        Recipe { name: "waitset: wait, asleep beside a receiver", build: || Beside::boxed() },
    ]
}

struct Wait {
    way: Way,
    queue: Queue<u32>,
    event: Event,
    semaphore: Semaphore,
    set: WaitSet,
}

impl Wait {
    fn boxed(way: Way) -> Box<dyn Scene> {
        let queue = Queue::new(4).unwrap();
        let (event, semaphore) = (Event::new().unwrap(), Semaphore::new(0).unwrap());
        let mut set = WaitSet::new();
        set.add(0, &event).unwrap();
        set.add(1, &queue).unwrap();
        set.add(2, &semaphore).unwrap();
        if way == Way::Ready {
            queue.send(7).unwrap();
        }
        Box::new(Wait { way, queue, event, semaphore, set })
    }
}

impl Scene for Wait {
    fn act(&mut self) {
        match self.way {
            // If it is stopped in the wait, it may find something after all.
            Way::InVain => _ = self.set.wait_timeout(Duration::from_micros(20)).unwrap(),
            // The wait takes nothing.
            Way::Ready => assert!(!self.set.wait().unwrap().is_empty()),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // One permit is for the stopped child, if it sleeps. The others use the members that it
            // waits for.
            self.semaphore.release_many(2).unwrap();
            self.semaphore.acquire();
            self.event.set();
            self.queue.send(9).map_err(|error| error.to_string())?;
            let mut received = Vec::new();
            until("what was sent can be received", || {
                received.extend(self.queue.try_recv());
                received.contains(&9)
            })?;
            // The message that was sent for the child goes back.
            received.retain(|n| *n == 7);
            return received.into_iter().try_for_each(|n| self.queue.send(n)).map_err(|e| e.to_string());
        }
        let sent = self.way == Way::Ready;
        match (sent, self.queue.try_recv()) {
            (true, Ok(7)) | (false, Err(pagemate::queue::RecvError::Empty)) => {}
            (_, found) => return Err(format!("sent: {sent}, and received {found:?}")),
        }
        // Others wait for the same members, in a set and without one.
        self.event.clear();
        while self.semaphore.try_acquire() {}
        self.semaphore.release().unwrap();
        let ready = self.set.wait_timeout(PATIENCE).map_err(|error| error.to_string())?;
        if ready != [2] || !self.semaphore.acquire_timeout(PATIENCE) {
            return Err("a permit is not seen".into());
        }
        self.queue.send(8).unwrap();
        let received = self.queue.recv_timeout(PATIENCE);
        (received == Ok(8)).then_some(()).ok_or(format!("{received:?}"))
    }

    fn words(&self) -> String {
        format!("{:?} {:?} {:?}", self.queue, self.event, self.semaphore)
    }
}

/// Receives everything that the queue has now.
fn drain(queue: &Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

/// Returns a set of an event, a queue and a semaphore, none of them ready.
fn three() -> (Event, Queue<u32>, Semaphore, WaitSet) {
    let (event, queue, semaphore) =
        (Event::new().unwrap(), Queue::new(4).unwrap(), Semaphore::new(0).unwrap());
    let mut set = WaitSet::new();
    set.add(0, &event).unwrap();
    set.add(1, &queue).unwrap();
    set.add(2, &semaphore).unwrap();
    (event, queue, semaphore, set)
}

/// The child falls asleep in the set, and is then woken by a message.
struct Asleep {
    event: Event,
    queue: Queue<u32>,
    semaphore: Semaphore,
    set: WaitSet,
    waker: Waker,
}

impl Asleep {
    fn boxed() -> Box<dyn Scene> {
        let (event, queue, semaphore, set) = three();
        let waker = Waker::new(|| queue.send(WAKERS).unwrap());
        Box::new(Asleep { event, queue: queue.clone(), semaphore, set, waker })
    }
}

impl Scene for Asleep {
    fn prepare(&mut self) {
        self.waker.watch_me();
    }

    fn act(&mut self) {
        // If it was stopped in the wait, the survivor's permit may have woken it.
        assert!(!self.set.wait().unwrap().is_empty());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // The permit that it may wait for comes and goes. The message that has woken it, or
            // will, stays, because a set takes nothing.
            self.semaphore.release().unwrap();
            self.event.set();
            self.event.clear();
            return self.semaphore.acquire_timeout(PATIENCE).then_some(()).ok_or("no permit".into());
        }
        let was_woken = self.waker.finish()?;
        let found = drain(&self.queue);
        if found != [WAKERS][..usize::from(was_woken)] {
            return Err(format!("woken: {was_woken}, and received {found:?}"));
        }
        self.queue.send(MINE).map_err(|error| error.to_string())?;
        let ready = self.set.wait_timeout(PATIENCE).map_err(|error| error.to_string())?;
        if ready != [1] || drain(&self.queue) != [MINE] {
            return Err(format!("a message is there, and ready are {ready:?}"));
        }
        Ok(())
    }

    fn words(&self) -> String {
        format!("{:?} {:?} {:?}", self.event, self.queue, self.semaphore)
    }
}

/// The child falls asleep in the set first, and then a receiver at the queue of the set. Whichever
/// of them the only message wakes, the receiver gets it. After that the event ends the child's
/// wait, if it still waits.
struct Beside {
    event: Event,
    queue: Queue<u32>,
    set: WaitSet,
    /// The child's process id, once the child has stored it. All ones: the receiver need not wait
    /// for its sleep.
    child: &'static AtomicU64,
    receiver: Option<Helper>,
    /// The receiver's message.
    got: Option<u64>,
    waker: Waker,
    sent: Vec<u32>,
}

impl Beside {
    fn boxed() -> Box<dyn Scene> {
        let (event, queue, _, set) = three();
        let child = shared::<AtomicU64>();
        let receiver = Helper::start(|| {
            while !matches!(
                child.load(SeqCst),
                pid if pid == u64::MAX || pid > 0 && is_asleep_or_dozing(pid as i32)
            ) {
                pause();
            }
            queue.recv().unwrap().into()
        });
        let waker = Waker::new(|| {
            until("the receiver sleeps", || receiver.is_asleep() || receiver.is_done()).unwrap();
            queue.send(WAKERS).unwrap();
            until("the receiver has a message", || receiver.is_done()).unwrap();
            event.set();
        });
        let (event, queue) = (event.clone(), queue.clone());
        let receiver = Some(receiver);
        Box::new(Beside { event, queue, set, child, receiver, got: None, waker, sent: Vec::new() })
    }

    /// Checks that the receiver gets a message, whatever became of the child.
    fn receiver_is_served(&mut self) -> Result<(), String> {
        self.child.store(u64::MAX, SeqCst);
        if let Some(receiver) = self.receiver.take() {
            self.got = Some(receiver.outcome()?);
        }
        Ok(())
    }
}

impl Scene for Beside {
    fn prepare(&mut self) {
        self.child.store(std::process::id().into(), SeqCst);
        self.waker.watch_me();
    }

    fn act(&mut self) {
        assert!(!self.set.wait().unwrap().is_empty());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // One for the receiver, if the waker did not send.
            self.queue.send(MINE).map_err(|error| error.to_string())?;
            self.sent.push(MINE);
            return self.receiver_is_served();
        }
        // The receiver need not wait for a child that is gone, and the waker may wait for the
        // receiver.
        self.child.store(u64::MAX, SeqCst);
        if self.waker.finish()? {
            self.sent.push(WAKERS);
        }
        if self.sent.is_empty() {
            self.queue.send(MINE).map_err(|error| error.to_string())?;
            self.sent.push(MINE);
        }
        self.receiver_is_served()?;
        let mut found = drain(&self.queue);
        found.extend(self.got.map(|got| got as u32));
        found.sort_unstable();
        self.sent.sort_unstable();
        (found == self.sent).then_some(()).ok_or(format!("sent {:?}, received {found:?}", self.sent))
    }

    fn words(&self) -> String {
        format!("{:?} {:?}", self.event, self.queue)
    }
}
