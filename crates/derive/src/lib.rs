//! `#[derive(Message)]` for pagemate. Documented there, at `pagemate::Message`.

mod attributes;
mod enumeration;
mod structure;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, GenericParam, Result};

use attributes::Attributes;

/// Implements `pagemate::Message`, for `#[repr(C)]` structs and for fieldless enums with an integer repr.
///
/// What it refuses, it refuses with the name of the field. `#[message(crate = "path")]` says where pagemate is, if
/// not at `::pagemate`; `#[message(no_bytemuck)]` leaves bytemuck's `NoUninit` and `CheckedBitPattern` to the type's
/// own derives.
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

/// bytemuck's traits, for a type of which the padding check has been compiled: what is not generic.
fn bytemuck(input: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let (name, krate) = (&input.ident, &attributes.krate);
    let is_generic = input.generics.params.iter().any(|param| !matches!(param, GenericParam::Lifetime(_)));
    if is_generic || !attributes.bytemuck {
        return TokenStream::new();
    }
    quote! {
        // SAFETY: repr(C) or an integer; no padding (CHECKED, above) and no pointers; each field is a message.
        unsafe impl #krate::__private::bytemuck::NoUninit for #name {}

        // SAFETY: Bits has the layout of the type, as Message demands.
        unsafe impl #krate::__private::bytemuck::CheckedBitPattern for #name {
            type Bits = <#name as #krate::Message>::Bits;

            #[inline]
            fn is_valid_bit_pattern(bits: &Self::Bits) -> bool {
                <#name as #krate::Message>::is_valid_bits(bits)
            }
        }
    }
}
