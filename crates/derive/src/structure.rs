//! Structs whose fields are messages, in the order of their declaration and without gaps.

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
                "`{name}` is not `#[repr(C)]`, so another program may have its \
                 {} elsewhere: add `#[repr(C)]`",
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
    let places = members.iter().map(|member| &member.place);
    let texts = members.iter().map(|member| &member.text);
    let types = members.iter().map(|member| member.ty);
    // An error about a field points at its declaration.
    let bits_types = members.iter().map(|Member { ty, span, .. }| {
        quote_spanned! {*span=> <#ty as #krate::Message>::Bits }
    });
    let bits_fields =
        members.iter().enumerate().map(|(i, member)| format_ident!("__{i}", span = member.span));
    let gaps = gaps(&name.unraw().to_string(), &members, krate);
    let schema_name = schema_name(input, krate);
    let bytemuck = attributes.bytemuck.then(|| quote!(bytemuck));
    let plain = input.generics.params.is_empty().then(|| quote!(#name #bytemuck));
    let allow = allow();

    Ok(quote! {
        #allow
        const _: () = {
            #krate::__private::message_struct! {
                struct #name #bits
                plain [#plain]
                #(#repr)*
                impl [#impl_generics] for [#type_generics] where [#where_clause]
                name { #schema_name }
                gaps { { #gaps } }
                fields { #(#places #bits_fields #texts #types, #bits_types,)* }
            }
        };
    })
}

/// One field of the struct.
struct Member<'a> {
    /// The field as it follows a dot: `price`, `0`.
    place: TokenStream,
    /// The field's name in the schema.
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

/// Returns the words by which an error refers to the first field.
fn first_field(fields: &Fields) -> String {
    match fields.iter().next() {
        Some(Field { ident: Some(ident), .. }) => format!("field `{ident}`"),
        _ => "fields".to_owned(),
    }
}

/// Refuses types that are recognised by their spelling, with an error that names the field. All
/// other types must implement `Message`.
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

/// Returns the generics with the bound that every type parameter is a message.
fn with_bounds(generics: &Generics, krate: &syn::Path) -> Generics {
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        param.bounds.push(parse_quote!(#krate::Message));
    }
    generics
}

/// Returns the assertions that no byte lies between the fields or after them.
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

/// Returns an expression for the name with its arguments, which are known when the type is used.
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
