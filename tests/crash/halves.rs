//! Scenes of the halves of a queue: a sender joins and leaves, alone or beside another one.

use std::time::Duration;

use pagemate::queue::{Receiver, RecvError, Sender};
use pagemate::Queue;

use crate::{End, Recipe, Scene};

const SENT: u64 = 77;
const OTHER: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(20);

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "queue: the only sender joins and leaves", build: || Halves::boxed(false) },
        Recipe { name: "queue: a sender joins and leaves beside another", build: || Halves::boxed(true) },
    ]
}

struct Halves {
    queue: &'static Queue<u64>,
    receiver: &'static Receiver<u64>,
    /// The survivor's own sender.
    other: Option<&'static Sender<u64>>,
    /// Whether the child's message was received, perhaps while the child was stopped.
    has_come: bool,
}

impl Halves {
    fn boxed(has_other: bool) -> Box<dyn Scene> {
        let queue: &'static Queue<u64> = Box::leak(Box::new(Queue::new(4).unwrap()));
        let receiver = Box::leak(Box::new(queue.receiver()));
        let other = has_other.then(|| &*Box::leak(Box::new(queue.sender())));
        Box::new(Halves { queue, receiver, other, has_come: false })
    }

    /// Receives until the queue is empty or has ended, and notes whether the child's message came.
    fn receive(&mut self) -> Result<(), String> {
        loop {
            match self.receiver.try_recv() {
                Ok(SENT) if !self.has_come => self.has_come = true,
                Err(RecvError::Empty | RecvError::Closed) => return Ok(()),
                other => return Err(format!("received {other:?}")),
            }
        }
    }
}

impl Scene for Halves {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        assert!(self.queue.try_loan().is_ok());
    }

    fn act(&mut self) {
        let sender = self.queue.sender();
        let copy = sender.clone();
        drop(sender);
        copy.send(SENT).unwrap();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.receive()?;
        if let Some(other) = self.other {
            other.send_timeout(OTHER, PATIENCE).map_err(|error| format!("beside it: {error:?}"))?;
            // The child's message may come now, if it was sent since.
            let next = self.receiver.recv_timeout(PATIENCE);
            let last = match next {
                Ok(SENT) if !self.has_come => {
                    self.has_come = true;
                    self.receiver.recv_timeout(PATIENCE)
                }
                next => next,
            };
            if last != Ok(OTHER) || self.queue.is_closed() {
                return Err(format!("with a sender that lives: received {last:?}"));
            }
            return match end {
                End::Finished if !self.has_come => Err("the message did not come".into()),
                _ => Ok(()),
            };
        }
        if end == End::Stopped {
            return Ok(()); // it may be a sender still, or not yet
        }
        if end == End::Finished && !(self.has_come && self.queue.is_closed()) {
            let closed = self.queue.is_closed();
            return Err(format!("the message came: {}, closed: {closed}", self.has_come));
        }
        // If the sender died before it was counted, another one must join and leave, to end it.
        drop(self.queue.sender());
        match self.receiver.recv_timeout(PATIENCE) {
            Err(RecvError::Closed) => Ok(()),
            Ok(SENT) if !self.has_come && self.receiver.recv_timeout(PATIENCE) == Err(RecvError::Closed) => {
                Ok(())
            }
            other => Err(format!("all senders are gone, and the receiver got {other:?}")),
        }
    }

    fn words(&self) -> String {
        format!("{:#?}", self.queue)
    }
}
