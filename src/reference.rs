//! References: messages that lead to objects of the same segment, so that what stands in a dict may be a dict.
//!
//! A reference is where the object's record stands and when its segment was created. A record is never used for another object
//! ([`crate::segment::space`]), so it needs no count of generations; whether it is one at all, and of what, is looked up when the
//! reference is followed. It keeps nothing in being.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::array::Array;
use crate::attachment::Attachment;
use crate::dict::Dict;
use crate::item::Item;
use crate::kind::Kind;
use crate::list::List;
use crate::message::private::{field, name_of, structure};
use crate::message::{mismatch, Message, Schema};
use crate::namespace::Namespace;
use crate::object::ObjectRef;
use crate::segment::view::Entry;
use crate::value::Value;
use crate::{Error, ErrorKind, Result};

/// A reference to a [`Dict`], [`List`], [`Value`], [`Array`] or [`Namespace`] of the same [`Manager`](crate::Manager): a message of 16
/// bytes, which may stand wherever messages may. [`Manager::get`](crate::Manager::get) follows it.
///
/// It keeps nothing in being, and counts nobody: an object stays until it is removed, and a reference to what was removed is an
/// error when it is followed. So is one of another manager, or to something of another type. All bytes zero refer to nothing.
///
/// # Examples
///
/// A dict of lists:
///
/// ```
/// use pagemate::{ErrorKind, List, Manager, Ref};
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
/// found.clear()?; // gives its memory back
/// let reference = groups.remove("odd")?.unwrap();
/// manager.discard(reference)?;
/// assert_eq!(manager.get(reference).unwrap_err().kind(), ErrorKind::NotFound);
/// # Ok(())
/// # }
/// ```
#[repr(C)]
pub struct Ref<T: ?Sized> {
    /// When the segment was created, in nanoseconds: no two of a machine have the same.
    segment: u64,
    /// Where in it the record stands.
    record: u64,
    _object: PhantomData<fn(&T)>,
}

/// What a [`Ref`] can lead to. Sealed: no other types can be.
pub trait Referent: sealed::Sealed {}

mod sealed {
    use super::{Kind, ObjectRef, Result};

    #[allow(private_interfaces)]
    pub trait Sealed: Sized {
        const KIND: Kind;

        /// The text of the types in it, which stands beside the object.
        fn schema() -> String;

        /// Its type, as it stands in the name of a reference's type.
        fn name() -> String;

        fn object_ref(&self) -> &ObjectRef;

        fn open(object: ObjectRef) -> Result<Self>;
    }
}

macro_rules! referent {
    (($($generics:tt)*) $type:ty, $kind:ident, $schema:expr, $name:expr) => {
        impl<$($generics)*> Referent for $type {}

        #[allow(private_interfaces)]
        impl<$($generics)*> sealed::Sealed for $type {
            const KIND: Kind = Kind::$kind;

            fn schema() -> String {
                $schema
            }

            fn name() -> String {
                $name
            }

            fn object_ref(&self) -> &ObjectRef {
                self.object()
            }

            fn open(object: ObjectRef) -> Result<$type> {
                <$type>::from_object(object)
            }
        }
    };
}

referent!(
    (K: Item + ?Sized, V: Item + ?Sized) Dict<K, V>,
    Dict,
    Dict::<K, V>::schema(),
    format!("Dict<{}, {}>", K::name(), V::name())
);
referent!((T: Item + ?Sized) List<T>, List, T::layout(), format!("List<{}>", T::name()));
referent!((T: Message) Value<T>, Value, T::schema().to_string(), format!("Value<{}>", name_of::<T>()));
referent!((T: Message) Array<T>, Array, T::schema().to_string(), format!("Array<{}>", name_of::<T>()));
referent!(() Namespace, Namespace, Namespace::schema(), "Namespace".to_owned());

impl<T: Referent> Ref<T> {
    /// The reference to this object. It means something only where things of the same manager are.
    pub fn to(object: &T) -> Ref<T> {
        let object = object.object_ref();
        Ref { segment: object.attachment().facts().created, record: object.record(), _object: PhantomData }
    }

    /// The object's entry in the directory.
    fn find(self, attachment: &Attachment) -> Result<Entry> {
        if (self.segment, self.record) == (0, 0) {
            return Err(Error::new(ErrorKind::NotFound, "the reference leads to nothing: it is all zeros"));
        }
        if self.segment != attachment.facts().created {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the reference is to an object of another segment: only that one's manager can follow it",
            ));
        }
        let view = attachment.view();
        if !view.is_listed(self.record) {
            return Err(Error::new(ErrorKind::Corrupted, "the reference is damaged: no object is there"));
        }
        let entry = Entry::read(view, self.record)?;
        let what = || format!("what the reference to a {} leads to", T::KIND.name());
        if entry.kind != T::KIND as u32 {
            let found = Kind::from_number(entry.kind).map_or("something unknown", Kind::name);
            return Err(Error::new(ErrorKind::TypeMismatch, format!("{} is a {found}", what())));
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
        T::open(ObjectRef::new(attachment.clone(), &entry))
    }

    /// Removes the object's name, if it has one, and makes this and all other references to it lead to nothing.
    pub(crate) fn remove(self, attachment: &Attachment) -> Result<()> {
        let entry = self.find(attachment)?;
        // False: somebody else has just removed it, which is all the same.
        attachment.view().record(entry.record).map(|record| record.remove());
        Ok(())
    }
}

// SAFETY: two u64 and nothing else: no padding, no pointers, every bit pattern valid; Bits has the same size and alignment.
// What they mean is checked when the reference is followed.
unsafe impl<T: Referent + 'static> Message for Ref<T> {
    type Bits = [u64; 2];

    const ANY_BITS: bool = true;
    const ZERO_VALID: bool = true;

    fn is_valid_bits(_: &[u64; 2]) -> bool {
        true
    }

    fn schema() -> Schema {
        let name = format!("Ref<{}>", T::name());
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
