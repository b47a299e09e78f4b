//! An attribute that changes a type after the derives above it.
#![crate_type = "proc-macro"]

extern crate proc_macro;
use proc_macro::{Group, TokenStream, TokenTree};

/// `#[replace(word => tokens)]` puts `tokens` in place of each `word`.
#[proc_macro_attribute]
pub fn replace(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut arguments = arguments.into_iter();
    let word = arguments.next().unwrap().to_string();
    let tokens = arguments.skip(2).collect();
    replace_in(item, &word, &tokens)
}

fn replace_in(item: TokenStream, word: &str, tokens: &TokenStream) -> TokenStream {
    let mut replaced = TokenStream::new();
    for tree in item {
        match tree {
            TokenTree::Group(group) => {
                let inside = replace_in(group.stream(), word, tokens);
                replaced.extend([TokenTree::Group(Group::new(group.delimiter(), inside))]);
            }
            TokenTree::Ident(ident) if ident.to_string() == word => replaced.extend(tokens.clone()),
            other => replaced.extend([other]),
        }
    }
    replaced
}
