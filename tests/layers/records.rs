//! What is written to the store is made in one place of the server: keys and operations in `core/records`.

use std::collections::BTreeMap;
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

/// The log names a damaged record by its number; what that means, an operator reads in the documents.
#[test]
fn the_numbers_of_records_are_those_that_the_documents_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let code = std::fs::read_to_string(root.join("server/src/core/records/mod.rs")).unwrap();
    let document = std::fs::read_to_string(root.join("docs/operating.md")).unwrap();
    let of_code = |line: &str| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": Table = Table(")?;
        Some((rest.strip_suffix(");")?.parse::<u32>().unwrap(), name.to_owned()))
    };
    let listed = document.split_once("| record | of |").unwrap().1.split("\n\n").next().unwrap();
    let of_document = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [number, words, name] = cells[..] else { return None };
        let number = number.parse::<u32>().ok()?;
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        assert!(!words.is_empty(), "{line}");
        Some((number, name.to_owned()))
    };
    let table = |found: Vec<(u32, String)>| {
        let by_number: BTreeMap<u32, String> = found.iter().cloned().collect();
        assert_eq!(by_number.len(), found.len(), "a number twice: {found:?}");
        by_number
    };
    let made = code.matches("Table(").count();
    let code = table(code.lines().filter_map(of_code).collect());
    assert_eq!(code.len(), made, "a table is made in another way than is read here");
    assert_eq!(table(listed.lines().filter_map(of_document).collect()), code);
}
