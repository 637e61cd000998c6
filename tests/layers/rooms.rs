//! The rooms of the server, and which way its paths lead: down this list, and never up.
//!
//! A path is any that begins with `crate` or `super`, wherever it stands: in a `use`, a body, a
//! macro, a re-export. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

use crate::sources::{Source, sources};

/// The rooms, from the ground up. A room may name those before it. Those of one rank do not name each
/// other.
const ROOMS: &[(&str, usize)] = &[
    ("core", 0),
    ("wire", 1),
    ("reach", 2),
    ("messages", 3),
    ("session", 4),
    ("link", 4),
    ("front", 5),
    ("life", 6),
    ("cli", 7),
    // Tests alone.
    ("world", 8),
];

/// The room of a module, which is its folder, and its rank. The root of the crate is in none.
fn room(module: &[String]) -> Option<(&'static str, usize)> {
    ROOMS.iter().find(|(name, _)| module.first().is_some_and(|first| first == name)).copied()
}

/// The module that a file is.
fn module_of(file: &Path, root: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root).unwrap().with_extension("");
    let mut names: Vec<String> =
        inside.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    names.pop_if(|last| matches!(&**last, "mod" | "lib" | "main"));
    names
}

/// All paths from `crate` or `super` in these tokens, as they lead from a module.
fn paths(tokens: TokenStream, module: &[String], found: &mut BTreeSet<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) => paths(group.stream(), module, found),
            TokenTree::Ident(ident) => {
                let begun = at > 2 && is_colons(&tokens, at - 3);
                let mut base = match ident.to_string().as_str() {
                    "crate" if !begun => Vec::new(),
                    "super" if !begun => above(module),
                    _ => continue,
                };
                while is_colons(&tokens, at)
                    && matches!(tokens.get(at + 2), Some(TokenTree::Ident(next)) if next == "super")
                {
                    base = above(&base);
                    at += 3;
                }
                if is_colons(&tokens, at) {
                    branches(&tokens[at + 2..], base, found);
                }
            }
            _ => {}
        }
    }
}

fn above(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// What follows `crate::`: names, and at the end a name or several in braces.
fn branches(tokens: &[TokenTree], mut base: Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    match tokens.first() {
        Some(TokenTree::Ident(ident)) => {
            base.push(ident.to_string());
            match is_colons(tokens, 1) {
                true => branches(&tokens[3..], base, found),
                false => drop(found.insert(base)),
            }
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            let is_comma =
                |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
            inside.split(is_comma).for_each(|branch| branches(branch, base.clone(), found));
        }
        _ => drop(found.insert(base)),
    }
}

/// Paths that lead to a room that is not below: from which module, to which module.
pub(crate) fn upward(root: &Path) -> BTreeSet<(String, String)> {
    let sources = sources(root);
    let modules: BTreeMap<Vec<String>, &Source> =
        sources.iter().map(|source| (module_of(&source.path, root), source)).collect();
    let mut upward = BTreeSet::new();
    for (module, source) in &modules {
        let Some((from, rank)) = room(module) else { continue };
        let mut found = BTreeSet::new();
        paths(source.file.to_token_stream(), module, &mut found);
        for path in found {
            // As far as it names modules.
            let named = (0..=path.len()).rev().map(|len| &path[..len]);
            let Some(target) = named.into_iter().find(|part| modules.contains_key(*part)) else {
                continue;
            };
            if let Some((to, above)) = room(target)
                && to != from
                && above >= rank
            {
                upward.insert((module.join("::"), target.join("::")));
            }
        }
    }
    upward
}

fn server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src")
}

#[test]
fn paths_inside_the_server_lead_down() {
    let upward = upward(&server());
    let list: Vec<String> = upward.iter().map(|(from, to)| format!("  {from} → {to}")).collect();
    assert!(
        list.is_empty(),
        "paths that lead up, each from a module to a room:\n{}",
        list.join("\n")
    );
}

/// Every module has a room.
#[test]
fn every_module_has_a_room() {
    let root = server();
    for source in sources(&root) {
        let module = module_of(&source.path, &root);
        assert!(module.is_empty() || room(&module).is_some(), "{} has no room", module.join("::"));
    }
}

/// A path that leads up is found wherever it stands.
#[test]
fn an_upward_path_is_found_wherever_it_stands() {
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Vec<_>>();
    for (text, wanted) in [
        ("use crate::cli::main;", &["cli::main"][..]),
        ("pub use crate::{cli::{self, zone}, net as n};", &["cli::self", "cli::zone", "net"]),
        (
            "fn f() { let x = super::super::session::open(crate::life::Server::new()); }",
            &["life::Server::new", "session::open"],
        ),
        ("fn f() { info!(\"{}\", crate::life::now()); }", &["life::now"]),
        ("type T = Box<dyn Fn(&crate::http::Answer)>;", &["http::Answer"]),
    ] {
        let mut found = BTreeSet::new();
        paths(text.parse().unwrap(), &module("presentity::due"), &mut found);
        let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
        assert_eq!(found, wanted, "{text}");
    }
}
