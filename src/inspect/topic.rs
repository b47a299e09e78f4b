//! Topics of a type that the program does not have: messages are bytes, and the schema says what
//! they mean.
//!
//! Not for users: a program that has the type uses `queue::topic::Topic`.

use std::time::Duration;

use crate::error::Refusal;
use crate::inspect::contents;
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::message::Schema;
use crate::queue::holders::Tenure;
use crate::queue::topic::port::{Port, Refused};
use crate::queue::topic::receive::Cursor;
use crate::queue::topic::{store_bytes, Any, From, Policy, RecvError};
use crate::queue::SendError;
use crate::registry::Kind;
use crate::segment::object::ObjectRef;
use crate::segment::Segment;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A topic.
#[derive(Debug, Clone)]
pub struct Topic {
    port: Port,
    size: usize,
    schema: Schema,
}

impl Topic {
    /// Opens the topic called `name` in the segment (`""`: the object that has the segment's name).
    ///
    /// # Errors
    ///
    /// `NotFound`: no such object. `TypeMismatch`: it is no topic. `InvalidInput`: the schema
    /// cannot be read. `Corrupted`.
    pub fn open(segment: &Segment, name: &str) -> Result<Topic> {
        let attachment = segment.attachment();
        let entry = attachment.view().find(name)?.ok_or_else(|| contents::no_object(name))?;
        match Kind::from_number(entry.kind) {
            Some(Kind::Topic) => {}
            Some(kind) => {
                let text = format!("it is no topic but a {}", kind.name());
                return Err(Error::new(ErrorKind::TypeMismatch, text));
            }
            None => return Err(Error::new(ErrorKind::TypeMismatch, "it is of an unknown kind")),
        }
        let schema: Schema = entry.schema.parse()?;
        let object = ObjectRef::new(attachment.clone(), &entry);
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Any::check(object.base(), object.len()) } {
            Some(found) if found.size as u64 == schema.size() => {
                Ok(Topic { port: Port::new(found.ring, object), size: found.size, schema })
            }
            _ => Err(Error::new(ErrorKind::Corrupted, "the topic's geometry does not fit its size")),
        }
    }

    /// Returns the schema of the messages.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Returns what a publisher does at its deadline about a lossless subscriber that lags.
    pub fn policy(&self) -> Policy {
        self.port.ring.shape().policy
    }

    /// Returns a publisher.
    pub fn publisher(&self) -> Publisher {
        Publisher { tenure: self.port.join(), topic: self.clone() }
    }

    /// Returns a lossy subscriber.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Topic::subscribe`.
    pub fn subscribe(&self, from: From) -> Result<Subscriber> {
        let (tenure, cursor) = self.port.subscribe(from, false)?;
        Ok(Subscriber { topic: self.clone(), tenure, cursor })
    }
}

/// A publisher.
#[derive(Debug)]
pub struct Publisher {
    topic: Topic,
    tenure: Option<Tenure>,
}

impl Publisher {
    /// Publishes a message. Blocks while a lossless subscriber lags, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Publisher::try_publish`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a message.
    pub fn publish_timeout(&self, bytes: &[u8], timeout: Duration) -> std::result::Result<(), SendError<()>> {
        let port = &self.topic.port;
        assert_eq!(bytes.len(), self.topic.size, "the bytes of one message");
        port.publish(Some(Deadline::after(timeout)), |index| store_bytes(port.ring.words(index), bytes))
            .map_err(|refused: Refused| refused.into_send_error(()))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.topic.port.leave(self.tenure);
    }
}

/// A lossy subscriber.
#[derive(Debug)]
pub struct Subscriber {
    topic: Topic,
    tenure: Tenure,
    cursor: Cursor,
}

impl Subscriber {
    /// Receives the bytes of a message into `to`. Blocks while there is none, for at most
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Subscriber::try_recv`.
    pub fn recv_timeout(
        &mut self,
        to: &mut Vec<u8>,
        timeout: Duration,
    ) -> std::result::Result<(), RecvError> {
        if !self.tenure.is_mine() {
            return Err(RecvError::NotInThisProcess(Refusal::FORKED));
        }
        let (port, cursor) = (&self.topic.port, &mut self.cursor);
        let read = |words: &[AtomicU64]| {
            to.clear();
            to.extend(words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()));
        };
        port.receive(Some(Deadline::after(timeout)), read, |read| port.ring.try_copy(cursor, read))?;
        to.truncate(self.topic.size);
        Ok(())
    }

    /// Returns the number of messages that were published before the one that is received next.
    pub fn position(&self) -> u64 {
        self.cursor.ordinal
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.topic.port.ring.leave(self.tenure.me, self.cursor.line);
        }
    }
}
