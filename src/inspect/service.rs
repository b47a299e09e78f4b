//! Services of types that the program does not have: messages are bytes, and the schema says what
//! they mean.
//!
//! Not for users: a program that has the types uses `service::Service`.

use std::time::Duration;

use crate::inspect::{contents, ItemType};
use crate::registry::Kind;
use crate::segment::object::ObjectRef;
use crate::segment::Segment;
use crate::service::untyped::Caller;
use crate::service::CallError;
use crate::{Error, ErrorKind, Result};

/// A client of a service.
#[derive(Debug)]
pub struct Client {
    caller: Caller,
    request: ItemType,
    answer: ItemType,
}

impl Client {
    /// Opens the service called `name` in the segment (`""`: the object that has the segment's
    /// name).
    ///
    /// # Errors
    ///
    /// `NotFound`: no such object. `TypeMismatch`: it is not a service. `InvalidInput`: the schema
    /// cannot be read. `Corrupted`.
    pub fn open(segment: &Segment, name: &str) -> Result<Client> {
        let attachment = segment.attachment();
        let entry = attachment.view().find(name)?.ok_or_else(|| contents::no_object(name))?;
        match Kind::from_number(entry.kind) {
            Some(Kind::Service) => {}
            Some(kind) => {
                let text = format!("it is not a service but a {}", kind.name());
                return Err(Error::new(ErrorKind::TypeMismatch, text));
            }
            None => return Err(Error::new(ErrorKind::TypeMismatch, "it is of an unknown kind")),
        }
        let (request, answer) = ItemType::pair(&entry.schema);
        let caller =
            Caller::open(ObjectRef::new(attachment.clone(), &entry), [size(&request)?, size(&answer)?])?;
        Ok(Client { caller, request, answer })
    }

    /// Sets whether calls wait for a server if there is none. The default is false.
    pub fn wait_for_server(mut self, wait_for_server: bool) -> Client {
        self.caller.set_wait_for_server(wait_for_server);
        self
    }

    /// Returns the type of the requests.
    pub fn request(&self) -> &ItemType {
        &self.request
    }

    /// Returns the type of the answers.
    pub fn answer(&self) -> &ItemType {
        &self.answer
    }

    /// Sends a request, and blocks until there is an answer, for at most `timeout`. `idle` is
    /// called now and then; if it fails, the call is cancelled.
    ///
    /// # Errors
    ///
    /// As `service::Client::call_timeout`, and those of `idle`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a request, or of all its elements.
    pub fn call_timeout<E: From<CallError>>(
        &self,
        bytes: &[u8],
        timeout: Option<Duration>,
        idle: impl FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<u8>, E> {
        self.caller.call(bytes, timeout, idle)
    }
}

/// Returns the size of a message, or of an element, and whether messages differ in length.
fn size(of: &ItemType) -> Result<(u64, bool)> {
    match of {
        ItemType::Message(schema) => Ok((schema.size(), false)),
        ItemType::Slice(element) => Ok((element.size(), true)),
        ItemType::Str | ItemType::Bytes => Ok((1, true)),
        ItemType::Other(text) => {
            let text = format!("the type of its messages is unknown: {text:?}");
            Err(Error::new(ErrorKind::InvalidInput, text))
        }
    }
}
