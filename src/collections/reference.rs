//! References: messages that lead to objects of the same segment, so that a dict can contain dicts.
//!
//! A reference stores the position of the object's record and the creation time of its segment. A
//! record is never reused for another object ([`crate::segment::records`]), so no generation count
//! is needed. Following a reference checks that its record exists, and that it describes an object
//! of the right type. A reference does not keep its object alive.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::message::private::{field, structure};
use crate::message::{mismatch, Message, Schema};
use crate::registry::Kind;
use crate::segment::attachment::Attachment;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::view::Entry;
use crate::{Error, ErrorKind, Result};

/// A reference to a [`Dict`](crate::Dict), [`List`](crate::List), [`Value`](crate::Value),
/// [`Array`](crate::Array) or [`Namespace`](crate::Namespace) of the same
/// [`Manager`](crate::Manager).
///
/// It is a message of 16 bytes, and can be stored wherever messages can.
/// [`Manager::get`](crate::Manager::get) follows it.
///
/// A reference does not keep its object alive, and is not counted. An object exists until it is
/// removed. It is an error to follow a reference to a removed object, to an object of another
/// manager, or to an object of another type. A reference that consists of zero bytes refers to
/// nothing.
///
/// # Examples
///
/// A dict of lists:
///
/// ```
/// use pagemate::{ErrorKind, List, Manager};
/// use pagemate::collections::Ref;
///
/// # fn main() -> pagemate::Result<()> {
/// let manager = Manager::new()?;
/// let groups = manager.dict::<str, Ref<List<str>>>("groups")?;
/// let odd = List::<str>::create(manager.unnamed())?;
/// odd.extend(["one", "three"])?;
/// groups.insert("odd", &Ref::to(&odd))?;
///
/// let found = manager.get(groups.get("odd")?.unwrap())?; // in any process
/// assert_eq!(found.to_vec()?, ["one", "three"]);
///
/// found.clear()?; // frees its memory
/// let reference = groups.remove("odd")?.unwrap();
/// manager.discard(reference)?;
/// assert_eq!(manager.get(reference).unwrap_err().kind(), ErrorKind::NotFound);
/// # Ok(())
/// # }
/// ```
#[repr(C)]
pub struct Ref<T: ?Sized> {
    /// When the segment was created, in nanoseconds of Unix time. Tells the segment from all others
    /// that were not created in the same nanosecond.
    segment: u64,
    /// Position of the record in the segment.
    record: u64,
    _object: PhantomData<fn(&T)>,
}

/// A type that a [`Ref`] can lead to. Sealed: no other types can implement it.
#[expect(private_bounds, reason = "seals the trait")]
pub trait Referent: Object {
    /// Returns the name of this type, for the name of the type of a reference to it.
    #[doc(hidden)]
    fn type_name() -> String;
}

impl<T: Referent> Ref<T> {
    /// Returns a reference to `object`. It is only valid within the same manager.
    pub fn to(object: &T) -> Ref<T> {
        let object = object.object();
        Ref { segment: object.attachment().facts().created, record: object.record(), _object: PhantomData }
    }

    /// Returns the object's directory entry, after all checks.
    fn find(self, attachment: &Attachment) -> Result<Entry> {
        if (self.segment, self.record) == (0, 0) {
            return Err(Error::new(ErrorKind::NotFound, "the reference leads to nothing: it is all zeros"));
        }
        if self.segment != attachment.facts().created {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the reference leads to another segment: only that segment's manager can follow it",
            ));
        }
        let view = attachment.view();
        if !view.is_listed(self.record) {
            return Err(Error::new(ErrorKind::Corrupted, "the reference is damaged: no object is there"));
        }
        let entry = Entry::read(view, self.record)?;
        let what = || format!("the target of the {} reference", T::KIND.name());
        if entry.kind != T::KIND as u32 {
            let found = Kind::from_number(entry.kind).map_or("unknown", Kind::name);
            return Err(Error::new(ErrorKind::TypeMismatch, format!("{} has the kind {found}", what())));
        }
        if entry.schema != T::schema() {
            return Err(mismatch(&what(), &T::schema(), &entry.schema));
        }
        if entry.is_removed {
            return Err(Error::new(ErrorKind::NotFound, format!("{} was removed", what())));
        }
        Ok(entry)
    }

    /// Opens the object.
    pub(crate) fn follow(self, attachment: &Arc<Attachment>) -> Result<T> {
        let entry = self.find(attachment)?;
        T::from_object(ObjectRef::new(attachment.clone(), &entry))
    }

    /// Removes the object from the directory, with its name if it has one. All references to it
    /// then lead to nothing.
    pub(crate) fn remove(self, attachment: &Attachment) -> Result<()> {
        let entry = self.find(attachment)?;
        // `remove` returns false if another participant has just removed the object, which has the
        // same effect.
        attachment.view().record(entry.record).map(|record| record.remove());
        Ok(())
    }
}

// SAFETY: two u64 and nothing else: no padding, no pointers, every bit pattern valid; Bits has the
// same size and alignment. Their meaning is checked when the reference is followed.
unsafe impl<T: Referent + 'static> Message for Ref<T> {
    type Bits = [u64; 2];

    const ANY_BITS: bool = true;
    const ZERO_VALID: bool = true;

    fn is_valid_bits(_: &[u64; 2]) -> bool {
        true
    }

    fn schema() -> Schema {
        let name = format!("Ref<{}>", T::type_name());
        structure::<Ref<T>>(name, vec![field::<u64>("segment", 0), field::<u64>("record", 8)])
    }
}

impl<T: ?Sized> Clone for Ref<T> {
    fn clone(&self) -> Ref<T> {
        *self
    }
}

impl<T: ?Sized> Copy for Ref<T> {}

impl<T: ?Sized> PartialEq for Ref<T> {
    fn eq(&self, other: &Ref<T>) -> bool {
        (self.segment, self.record) == (other.segment, other.record)
    }
}

impl<T: ?Sized> Eq for Ref<T> {}

impl<T: ?Sized> Hash for Ref<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.segment, self.record).hash(state);
    }
}

impl<T: ?Sized> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ref").field("segment", &self.segment).field("record", &self.record).finish()
    }
}
