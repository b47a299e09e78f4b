//! The attributes of a type: `#[repr(..)]` and `#[message(..)]`.

use proc_macro2::TokenStream;
use quote::{quote, ToTokens};
use syn::{parse_quote, Attribute, Error, LitStr, Path, Result};

/// The parsed attributes of a type.
pub(crate) struct Attributes {
    /// Path of the pagemate crate.
    pub(crate) krate: Path,
    /// Whether to implement bytemuck's traits.
    pub(crate) bytemuck: bool,
    /// The word `align` of `align(N)`, at which an error can point.
    pub(crate) align: Option<Path>,
    /// Whether the layout is `C` or `transparent`.
    pub(crate) is_ordered: bool,
    /// The integer type of an enum, such as the `u8` of `repr(u8)`.
    pub(crate) integer: Option<Path>,
    /// All `#[repr(..)]` attributes, to be repeated.
    pub(crate) repr: Vec<Attribute>,
}

impl Attributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Attributes> {
        let mut this = Attributes {
            krate: parse_quote!(::pagemate),
            bytemuck: true,
            align: None,
            is_ordered: false,
            integer: None,
            repr: Vec::new(),
        };
        for attribute in attributes {
            if attribute.path().is_ident("repr") {
                this.parse_repr(attribute)?;
                this.repr.push(attribute.clone());
            } else if attribute.path().is_ident("message") {
                this.parse_message(attribute)?;
            }
        }
        Ok(this)
    }

    fn parse_repr(&mut self, attribute: &Attribute) -> Result<()> {
        attribute.parse_nested_meta(|meta| {
            let path = &meta.path;
            let word = path.to_token_stream().to_string();
            match word.as_str() {
                "align" => self.align = Some(path.clone()),
                "C" | "transparent" => self.is_ordered = true,
                "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" => {
                    self.integer = Some(path.clone())
                }
                "usize" | "isize" => {
                    return Err(Error::new_spanned(
                        path,
                        format!(
                            "a message cannot be stored as `{word}`: its size \
                             differs between platforms: use `{}`",
                            word.replace("size", "64")
                        ),
                    ))
                }
                "packed" => {
                    return Err(Error::new_spanned(
                        path,
                        "a message cannot be packed: its fields could not be referred to in place; \
                         use `#[repr(C)]` and order the fields from large to small",
                    ))
                }
                _ => {}
            }
            // The whole attribute is repeated, so the argument of align(..) is skipped here.
            if meta.input.peek(syn::token::Paren) {
                let argument;
                syn::parenthesized!(argument in meta.input);
                argument.parse::<TokenStream>()?;
            }
            Ok(())
        })
    }

    fn parse_message(&mut self, attribute: &Attribute) -> Result<()> {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("crate") {
                self.krate = meta.value()?.parse::<LitStr>()?.parse()?;
                Ok(())
            } else if meta.path.is_ident("no_bytemuck") {
                self.bytemuck = false;
                Ok(())
            } else {
                Err(meta.error("`#[message(..)]` knows `crate = \"path\"` and `no_bytemuck`"))
            }
        })
    }
}

/// Returns an attribute that allows the lints that generated items would fail.
pub(crate) fn allow() -> TokenStream {
    quote! {
        #[allow(
            missing_docs, missing_debug_implementations, missing_copy_implementations, private_bounds,
            private_interfaces, non_camel_case_types, non_snake_case, unreachable_pub, unused,
            unused_qualifications, deprecated, clippy::all, clippy::pedantic
        )]
    }
}
