//! `#[derive(Message)]` for pagemate. Its documentation is at `pagemate::Message`.
//!
//! The generated code contains no `unsafe`. It describes the type to a macro of pagemate, which
//! writes the implementation and checks it. The checks of the derive itself only improve the
//! errors. They cannot be relied on, because a program chooses where the derive finds pagemate.

mod attributes;
mod enumeration;
mod structure;

use proc_macro2::TokenStream;
use syn::{Data, DeriveInput, Error, Result};

use attributes::Attributes;

/// Implements `pagemate::Message` for `#[repr(C)]` structs and for fieldless enums with an integer
/// repr.
///
/// Errors name the field that is refused. `#[message(crate = "path")]` says where pagemate is, if
/// not at `::pagemate`. `#[message(no_bytemuck)]` leaves bytemuck's `NoUninit` and
/// `CheckedBitPattern` to the type's own derives.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = Attributes::parse(&input.attrs)?;
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(Error::new_spanned(
            lifetime,
            format!(
                "`{}` cannot be a message: it borrows, and a reference means nothing in another process",
                input.ident
            ),
        ));
    }
    match &input.data {
        Data::Struct(data) => structure::expand(input, &attributes, &data.fields),
        Data::Enum(data) => enumeration::expand(input, &attributes, data),
        Data::Union(data) => Err(Error::new_spanned(
            data.union_token,
            format!(
                "`{}` cannot be a message: nobody could tell which field of a union is valid; \
                 use a struct with an enum that says what is in it",
                input.ident
            ),
        )),
    }
}
