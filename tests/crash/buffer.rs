//! Scenes of buffers that one process hands to another through a queue with redelivery. At the end
//! a ticket leads to a whole buffer or to none, and no block of the heap is left.

use pagemate::collections::{Buffer, Ticket};
use pagemate::{Place, Queue, Segment};

use crate::{blocks, End, Recipe, Scene};

const SIZE: u64 = 4 << 20;
/// Bytes of a buffer, each of which is the number of its message.
const LEN: usize = 100;
/// The child's message.
const SENT: u8 = 77;
/// The survivors' message.
const OTHER: u8 = 99;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Send,
    Drop,
    Take,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "buffer: new, send and hand over", build: || Exchange::boxed(Op::Send, 1) },
        Recipe { name: "buffer: new, dropped", build: || Exchange::boxed(Op::Drop, 1) },
        Recipe { name: "buffer: take, acknowledge and drop", build: || Exchange::boxed(Op::Take, 2) },
    ]
}

struct Exchange {
    place: Place,
    segment: Segment,
    queue: Queue<Ticket>,
    op: Op,
    before: u8,
    /// What the survivors have received.
    seen: Vec<u8>,
}

impl Exchange {
    fn boxed(op: Op, before: u8) -> Box<dyn Scene> {
        let place = Place::from(format!("crash-buffer-{}-", std::process::id()));
        let segment = Segment::create(place.clone(), SIZE).unwrap();
        let queue = Queue::builder(4).redeliver(true).create(segment.at("queue")).unwrap();
        let scene = Exchange { place, segment, queue, op, before, seen: Vec::new() };
        (0..before).for_each(|number| scene.send(number).unwrap());
        Box::new(scene)
    }

    fn send(&self, number: u8) -> Result<(), String> {
        let mut buffer = Buffer::new(&self.segment, LEN).map_err(|error| error.to_string())?;
        buffer.fill(number);
        self.queue.try_send(buffer.ticket()).map_err(|error| error.to_string())?;
        buffer.hand_over();
        Ok(())
    }

    /// Receives all messages. Returns how many tickets led to nothing.
    fn drain(&mut self) -> Result<usize, String> {
        let mut gone = 0;
        while let Ok(ticket) = self.queue.try_recv_ref() {
            match Buffer::take(&self.segment, *ticket).map_err(|error| error.to_string())? {
                None => gone += 1,
                Some(buffer) if buffer.len() == LEN && buffer.iter().all(|byte| *byte == buffer[0]) => {
                    self.seen.push(buffer[0]);
                }
                Some(buffer) => return Err(format!("torn: {buffer:?} of {:?}", &*buffer)),
            }
        }
        Ok(gone)
    }

    /// Checks what the survivors have received at the end, and how many tickets led to nothing.
    fn is_promised(&self, end: End, gone: usize) -> bool {
        let times = |number| self.seen.iter().filter(|seen| **seen == number).count();
        let expected = match self.op {
            Op::Send => times(SENT) + gone <= 1 && (end != End::Finished || times(SENT) == 1),
            Op::Drop => gone == 0,
            Op::Take => times(0) + gone <= 1 && (end != End::Finished || gone == 0),
        };
        let first = u8::from(self.op == Op::Take);
        expected && (first..self.before).all(|number| times(number) == 1) && times(OTHER) <= 1
    }
}

impl Scene for Exchange {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        drop(Buffer::new(&self.segment, LEN).unwrap());
    }

    fn act(&mut self) {
        match self.op {
            Op::Send => self.send(SENT).unwrap(),
            Op::Drop => drop(Buffer::new(&self.segment, LEN).unwrap()),
            Op::Take => {
                // If it was stopped before, the others have received everything.
                let Ok(ticket) = self.queue.try_recv_ref() else { return };
                let buffer = Buffer::take(&self.segment, *ticket).unwrap().unwrap();
                drop(ticket);
                drop(buffer);
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // The others go on, with what is left.
            self.send(OTHER)?;
            self.drain()?;
            let is_received = self.seen.contains(&OTHER);
            return if is_received { Ok(()) } else { Err(format!("{:?} without {OTHER}", self.seen)) };
        }
        // Noticing the death returns its messages and frees its blocks.
        let in_use = blocks::in_use(&self.place)?;
        let gone = self.drain()?;
        if !self.is_promised(end, gone) {
            let seen = &self.seen;
            return Err(format!("received {seen:?}, and {gone} were gone; {in_use} blocks were in use"));
        }
        match blocks::in_use(&self.place)? {
            0 => Ok(()),
            left => Err(format!("{left} blocks of the heap are left")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.queue)
    }
}
