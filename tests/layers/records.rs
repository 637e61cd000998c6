//! What is written to the store is made in one place of the server: keys and operations in `core/records`.

use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

use crate::sources::sources;

/// What here makes an operation of the store or the key of a record; the types may be named anywhere.
fn made(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1)) {
            (TokenTree::Group(group), _) => made(group.stream(), found),
            (TokenTree::Ident(ident), Some(TokenTree::Punct(next)))
                if ident == "Op" && next.as_char() == ':' && next.spacing() == Spacing::Joint =>
            {
                found.push("Op::".to_owned());
            }
            (TokenTree::Ident(ident), Some(TokenTree::Group(group)))
                if ["RecordKey", "Append"].iter().any(|name| ident == name)
                    && group.delimiter() == Delimiter::Brace
                    && !is_returned(&tokens, at) =>
            {
                found.push(ident.to_string());
            }
            _ => {}
        }
    }
}

/// Whether the brace is that of a function that returns it.
fn is_returned(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    matches!(before, Some(TokenTree::Punct(arrow)) if arrow.as_char() == '>')
}

#[test]
fn what_is_written_is_made_by_records() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let mut inside = 0;
    for source in sources(&root) {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        let mut found = Vec::new();
        made(source.file.to_token_stream(), &mut found);
        // The doubles of the worlds are a store themselves.
        match path.starts_with("core/records/") || path.starts_with("world/") {
            true => inside += found.len(),
            false => assert!(found.is_empty(), "{path} makes {found:?}: core/records does that"),
        }
    }
    assert!(inside > 10, "{inside}");
}
