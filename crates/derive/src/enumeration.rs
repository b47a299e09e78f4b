//! Fieldless enums, stored as an integer of which some values are valid.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{DataEnum, DeriveInput, Error, Fields, Result};

use crate::attributes::{allow, Attributes};

pub(crate) fn expand(input: &DeriveInput, attributes: &Attributes, data: &DataEnum) -> Result<TokenStream> {
    let (name, krate) = (&input.ident, &attributes.krate);
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                variant,
                format!(
                    "variant `{}` of `{name}` carries data: a message enum has none; \
                     use a struct with the enum beside the data",
                    variant.ident
                ),
            ));
        }
    }
    if data.variants.is_empty() {
        return Err(Error::new_spanned(
            name,
            format!("`{name}` has no variants, so there is no such message"),
        ));
    }
    let Some(repr) = &attributes.integer else {
        return Err(Error::new_spanned(
            name,
            format!("`{name}` does not say which integer it is stored as: add `#[repr(u8)]` (or u16 .. i64)"),
        ));
    };
    if let Some(align) = &attributes.align {
        return Err(Error::new_spanned(
            align,
            format!(
                "`{name}` is aligned to more than its integer, so it has padding: \
                 put it into a struct with `_pad`"
            ),
        ));
    }
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "an enum without data cannot use its parameters"));
    }

    let variants = data.variants.iter().map(|variant| &variant.ident);
    let texts = data.variants.iter().map(|variant| variant.ident.unraw().to_string());
    let text = name.unraw().to_string();
    let (bytemuck, allow) = (attributes.bytemuck.then(|| quote!(bytemuck)), allow());
    Ok(quote! {
        #allow
        const _: () = {
            #krate::__private::message_enum! {
                enum #name #repr
                traits [#bytemuck]
                name { #text }
                variants { #(#variants #texts,)* }
            }
        };
    })
}
