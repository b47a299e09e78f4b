//! Structs whose fields are messages, lie in the order of their declaration and leave no gap.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned, ToTokens};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{parse_quote, DeriveInput, Error, Field, Fields, GenericParam, Generics, Index, Result, Type};

use crate::attributes::{allow, Attributes};

pub(crate) fn expand(input: &DeriveInput, attributes: &Attributes, fields: &Fields) -> Result<TokenStream> {
    let (name, krate) = (&input.ident, &attributes.krate);
    if !attributes.is_ordered {
        return Err(Error::new_spanned(
            name,
            format!(
                "`{name}` is not `#[repr(C)]`, so another program may have its {} elsewhere: add `#[repr(C)]`",
                first_field(fields)
            ),
        ));
    }
    let members: Vec<Member> = fields.iter().enumerate().map(|(i, field)| Member::new(i, field)).collect();
    for member in &members {
        refuse(name, member)?;
    }

    let generics = with_bounds(&input.generics, krate);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let bits = format_ident!("__{}Bits", name.unraw());
    let repr = &attributes.repr;
    let places: Vec<_> = members.iter().map(|member| &member.place).collect();
    let texts: Vec<_> = members.iter().map(|member| &member.text).collect();
    let types: Vec<_> = members.iter().map(|member| member.ty).collect();
    // An error about a field points at its declaration.
    let bits_types = members.iter().map(|Member { ty, span, .. }| {
        quote_spanned! {*span=> <#ty as #krate::Message>::Bits }
    });
    // The last field has no bytes. It keeps the compiler from repeating an error about the last real one for each impl.
    let bits_body = match fields {
        Fields::Named(_) | Fields::Unit => quote! { { #(#places: #bits_types,)* __end: [(); 0] } },
        Fields::Unnamed(_) => quote! { ( #(#bits_types,)* [(); 0] ) #where_clause; },
    };
    let bits_where = (!matches!(fields, Fields::Unnamed(_))).then_some(where_clause);
    let gaps = gaps(&name.unraw().to_string(), &members, krate);
    let schema_name = schema_name(input, krate);
    let check_now = input.generics.params.is_empty().then(|| {
        quote! { const _: () = <#name as #krate::Message>::CHECKED; }
    });
    let (bytemuck, allow) = (crate::bytemuck(input, attributes), allow());

    Ok(quote! {
        #allow
        const _: () = {
            #[doc(hidden)]
            #(#repr)*
            pub struct #bits #impl_generics #bits_where #bits_body

            impl #impl_generics ::std::clone::Clone for #bits #type_generics #where_clause {
                #[inline]
                fn clone(&self) -> Self {
                    *self
                }
            }
            impl #impl_generics ::std::marker::Copy for #bits #type_generics #where_clause {}
            // SAFETY: each field is AnyBitPattern, which includes zero.
            unsafe impl #impl_generics #krate::__private::bytemuck::Zeroable for #bits #type_generics #where_clause {}
            // SAFETY: each field is AnyBitPattern.
            unsafe impl #impl_generics #krate::__private::bytemuck::AnyBitPattern for #bits #type_generics #where_clause {}

            // SAFETY: Bits repeats the repr and has for each field one of equal size and alignment (and one of no
            // bytes), so it has the same layout; a struct is valid if each field is; CHECKED compiles only if there
            // is no gap between the fields.
            unsafe impl #impl_generics #krate::Message for #name #type_generics #where_clause {
                type Bits = #bits #type_generics;
                const ANY_BITS: bool = true #(&& <#types as #krate::Message>::ANY_BITS)*;
                const ZERO_VALID: bool = true #(&& <#types as #krate::Message>::ZERO_VALID)*;
                const CHECKED: () = {
                    #(let () = <#types as #krate::Message>::CHECKED;)*
                    #gaps
                };

                #[inline]
                fn is_valid_bits(bits: &Self::Bits) -> bool {
                    true #(&& <#types as #krate::Message>::is_valid_bits(&bits.#places))*
                }

                fn schema() -> #krate::Schema {
                    let () = <Self as #krate::Message>::CHECKED;
                    #krate::__private::structure::<Self>(
                        #schema_name,
                        ::std::vec![#(
                            #krate::__private::field::<#types>(#texts, ::std::mem::offset_of!(Self, #places))
                        ),*],
                    )
                }
            }

            #check_now
            #bytemuck
        };
    })
}

/// One field.
struct Member<'a> {
    /// As after a dot: `price`, `0`.
    place: TokenStream,
    /// As in the schema.
    text: String,
    ty: &'a Type,
    span: Span,
}

impl Member<'_> {
    fn new(position: usize, field: &Field) -> Member<'_> {
        let (place, text) = match &field.ident {
            Some(ident) => (ident.to_token_stream(), ident.unraw().to_string()),
            None => (Index::from(position).to_token_stream(), position.to_string()),
        };
        Member { place, text, ty: &field.ty, span: field.ty.span() }
    }
}

fn first_field(fields: &Fields) -> String {
    match fields.iter().next() {
        Some(Field { ident: Some(ident), .. }) => format!("field `{ident}`"),
        _ => "fields".to_owned(),
    }
}

/// Types that can be told by their spelling, for an error that names the field. The others must be messages anyway.
fn refuse(name: &syn::Ident, member: &Member<'_>) -> Result<()> {
    let mut ty = member.ty;
    while let Type::Array(array) = ty {
        ty = &array.elem;
    }
    let reason = match ty {
        Type::Reference(_) => {
            "is a reference, which means nothing in another process: put the value itself".to_owned()
        }
        Type::Ptr(_) | Type::BareFn(_) => {
            "is a pointer, which means nothing in another process: put the value itself, or an index"
                .to_owned()
        }
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            "is a tuple, whose layout Rust does not fix: use a `#[repr(C)]` struct".to_owned()
        }
        Type::Path(path) if path.path.is_ident("usize") => {
            "is a `usize`, whose size differs between platforms: use `u64`".to_owned()
        }
        Type::Path(path) if path.path.is_ident("isize") => {
            "is an `isize`, whose size differs between platforms: use `i64`".to_owned()
        }
        Type::Path(path) if path.path.is_ident("String") || path.path.is_ident("str") => {
            "is a string, which points into its own process: use an array such as `[u8; 64]`".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::new(member.span, format!("field `{}` of `{name}` {reason}", member.text)))
}

/// Every type parameter is a message.
fn with_bounds(generics: &Generics, krate: &syn::Path) -> Generics {
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        param.bounds.push(parse_quote!(#krate::Message));
    }
    generics
}

/// The assertions that no byte lies between the fields or behind them.
fn gaps(name: &str, members: &[Member<'_>], krate: &syn::Path) -> TokenStream {
    let mut checks = TokenStream::new();
    let mut end = quote!(0);
    for Member { place, text, ty, span } in members {
        let before = format!("padding in `{name}` before field `{text}`: ");
        let after = format!(" bytes that nobody writes; put in front of `{text}` the field ");
        checks.extend(quote_spanned! {*span=>
            if let ::core::option::Option::Some(gap) =
                #krate::__private::gap(#end, ::core::mem::offset_of!(Self, #place), #before, #after)
            {
                ::core::panic!("{}", gap.text());
            }
        });
        end = quote!(::std::mem::offset_of!(Self, #place) + ::std::mem::size_of::<#ty>());
    }
    let (before, after, span) = match members.last() {
        Some(Member { text, span, .. }) => (
            format!("padding in `{name}` after its last field `{text}`: "),
            format!(" bytes that nobody writes; put behind `{text}` the field "),
            *span,
        ),
        None => (
            format!("padding in `{name}`: "),
            " bytes that nobody writes; add the field ".to_owned(),
            Span::call_site(),
        ),
    };
    checks.extend(quote_spanned! {span=>
        if let ::core::option::Option::Some(gap) =
            #krate::__private::gap(#end, ::core::mem::size_of::<Self>(), #before, #after)
        {
            ::core::panic!("{}", gap.text());
        }
    });
    checks
}

/// An expression for the name with its arguments, which are known when the type is used.
fn schema_name(input: &DeriveInput, krate: &syn::Path) -> TokenStream {
    let text = input.ident.unraw().to_string();
    if input.generics.params.is_empty() {
        return quote! { ::std::string::String::from(#text) };
    }
    let arguments = input.generics.params.iter().map(|param| match param {
        GenericParam::Type(param) => {
            let ident = &param.ident;
            quote! { #krate::__private::name_of::<#ident>() }
        }
        GenericParam::Const(param) => {
            let ident = &param.ident;
            let is_char = matches!(&param.ty, Type::Path(path) if path.path.is_ident("char"));
            let number = if is_char { quote!(#ident as u32) } else { quote!(#ident) };
            quote! { ::std::string::ToString::to_string(&(#number)) }
        }
        GenericParam::Lifetime(_) => TokenStream::new(), // refused before
    });
    quote! { #krate::__private::generic_name(#text, &[#(#arguments),*]) }
}
