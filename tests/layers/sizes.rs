//! How large things may be: what is larger today is listed, and may only shrink.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{FnArg, ImplItem, Item, Signature, TraitItem};

use crate::sources::{Source, sources};

/// Lines of a source file; with tests in it, so many more.
const FILE_LINES_MAX: usize = 400;
const FILE_AND_TESTS_LINES_MAX: usize = 600;
/// Lines and tokens of a function.
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_TOKENS_MAX: usize = 500;
/// Who has more fields is handed to so many functions at most: nobody holds everything.
const FIELDS_MAX: usize = 8;
const FUNCTIONS_MAX: usize = 20;

const CRATES: &[&str] = &[
    "protocol",
    "acl",
    "presence",
    "convert",
    "storage",
    "locate",
    "federation",
    "trust",
    "server",
    "quickstart",
    "imppd",
    "client",
    "bench",
];

/// What is larger today, and how large.
type Exceptions = &'static [(&'static str, usize)];

const LARGE_FILES: Exceptions = &[];
const LARGE_FUNCTIONS: Exceptions = &[];
const HANDED_ABOUT: Exceptions = &[];

/// Everything of these crates, by the name of the folder.
pub(crate) fn all() -> Vec<(String, Source)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &&str| sources(&root.join(name).join("src"));
    let named = |source: Source| {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        (path, source)
    };
    CRATES.iter().flat_map(read).map(named).collect()
}

/// Compares what is too large with what is listed, which may only shrink.
fn compare(what: &str, found: &BTreeMap<String, usize>, listed: Exceptions) {
    let most = |name: &str| listed.iter().find(|(known, _)| *known == name).map(|(_, most)| *most);
    let over = found.iter().filter(|(name, size)| most(name).is_none_or(|most| **size > most));
    let over: Vec<_> = over.map(|(name, size)| format!("{name} has {size}")).collect();
    assert!(over.is_empty(), "{what}: too large, split them: {}", over.join(", "));
    for (name, _) in listed {
        assert!(found.contains_key(*name), "{what}: {name} is none any more: take it off the list");
    }
}

fn tokens(stream: TokenStream) -> usize {
    let one = |token: TokenTree| match token {
        TokenTree::Group(group) => 2 + tokens(group.stream()),
        _ => 1,
    };
    stream.into_iter().map(one).sum()
}

/// A function of a file: where it is, its head, and its whole text.
pub(crate) struct Function<'a> {
    pub name: String,
    pub signature: &'a Signature,
    pub whole: TokenStream,
    lines: usize,
}

/// The functions of a file, those of its blocks and traits too.
pub(crate) fn functions<'a>(items: &'a [Item], within: &str, found: &mut Vec<Function<'a>>) {
    let mut push = |signature: &'a Signature, within: &str, whole: TokenStream, lines: usize| {
        let name = format!("{within}{}", signature.ident);
        found.push(Function { name, signature, whole, lines });
    };
    let lines = |span: proc_macro2::Span| span.end().line + 1 - span.start().line;
    for item in items {
        match item {
            Item::Fn(item) => {
                push(&item.sig, within, item.to_token_stream(), lines(item.block.span()));
            }
            Item::Impl(block) => {
                let of = block.self_ty.to_token_stream().to_string().replace(' ', "");
                for item in &block.items {
                    if let ImplItem::Fn(item) = item {
                        let within = format!("{within}{of}::");
                        push(&item.sig, &within, item.to_token_stream(), lines(item.block.span()));
                    }
                }
            }
            Item::Trait(item) => {
                let of = format!("{within}{}::", item.ident);
                for item in &item.items {
                    if let TraitItem::Fn(item) = item {
                        let size = item.default.as_ref().map_or(1, |block| lines(block.span()));
                        push(&item.sig, &of, item.to_token_stream(), size);
                    }
                }
            }
            _ => {}
        }
    }
}

#[test]
fn files_are_short() {
    let mut large = BTreeMap::new();
    for (path, source) in all() {
        let tests =
            std::fs::read_to_string(&source.path).unwrap().contains("#[cfg(test)]\nmod tests {");
        let most = if tests { FILE_AND_TESTS_LINES_MAX } else { FILE_LINES_MAX };
        if source.lines > most {
            large.insert(path, source.lines);
        }
    }
    compare("files", &large, LARGE_FILES);
}

#[test]
fn functions_are_short() {
    let (mut large, all) = (BTreeMap::new(), all());
    for (path, source) in &all {
        let mut found = Vec::new();
        functions(&source.file.items, "", &mut found);
        for function in found {
            let size = tokens(function.whole);
            if function.lines > FUNCTION_LINES_MAX || size > FUNCTION_TOKENS_MAX {
                large.insert(format!("{path} {}", function.name), size);
            }
        }
    }
    compare("functions, by tokens", &large, LARGE_FUNCTIONS);
}

/// A structure with many fields that everybody is handed is everything to everybody.
#[test]
fn nobody_holds_everything() {
    let all = all();
    let mut wide: BTreeMap<String, usize> = BTreeMap::new();
    for (path, source) in &all {
        for item in &source.file.items {
            if let Item::Struct(item) = item
                && path.starts_with("server/")
                && item.fields.len() > FIELDS_MAX
            {
                wide.insert(item.ident.to_string(), 0);
            }
        }
    }
    for (path, source) in &all {
        let mut found = Vec::new();
        functions(&source.file.items, "", &mut found);
        for function in found.iter().filter(|_| path.starts_with("server/")) {
            let mut named: Vec<String> = Vec::new();
            for input in &function.signature.inputs {
                if let FnArg::Typed(input) = input {
                    idents(input.ty.to_token_stream(), &mut named);
                }
            }
            named.sort_unstable();
            named.dedup();
            for name in named {
                if let Some(count) = wide.get_mut(&name) {
                    *count += 1;
                }
            }
        }
    }
    wide.retain(|_, count| *count > FUNCTIONS_MAX);
    compare("structures, by functions they are handed to", &wide, HANDED_ABOUT);
}

fn idents(stream: TokenStream, found: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Ident(ident) => found.push(ident.to_string()),
            TokenTree::Group(group) => idents(group.stream(), found),
            _ => {}
        }
    }
}
