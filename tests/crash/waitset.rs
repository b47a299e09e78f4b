//! Scenes of a set of three: one of them is ready, and none is until the deadline.

use std::time::Duration;

use pagemate::{Event, Queue, Semaphore, WaitSet};

use crate::helper::until;
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);

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
            // Stopped in it, it may find something after all.
            Way::InVain => _ = self.set.wait_timeout(Duration::from_micros(20)).unwrap(),
            // It takes nothing.
            Way::Ready => assert!(!self.set.wait().unwrap().is_empty()),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // For the stopped one, if it sleeps; and the others go on with what it waits for.
            self.semaphore.release_many(2).unwrap();
            self.semaphore.acquire();
            self.event.set();
            self.queue.send(9).map_err(|error| error.to_string())?;
            let mut received = Vec::new();
            until("what was sent can be received", || {
                received.extend(self.queue.try_recv());
                received.contains(&9)
            })?;
            // What belongs to somebody else goes back.
            received.retain(|n| *n == 7);
            return received.into_iter().try_for_each(|n| self.queue.send(n)).map_err(|e| e.to_string());
        }
        let sent = self.way == Way::Ready;
        match (sent, self.queue.try_recv()) {
            (true, Ok(7)) | (false, Err(pagemate::RecvError::Empty)) => {}
            (_, found) => return Err(format!("sent: {sent}, and received {found:?}")),
        }
        // Others wait for the same things, in a set and plainly.
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
