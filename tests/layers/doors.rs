//! Where a presentity or an inbox is, here or elsewhere, is asked by one room: everybody else asks or brings
//! by its door.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::sources::sources;

/// Who asks whether an address is of a domain that is hosted here, outside of `core`, and why that is
/// another question.
const HOSTED: &[(&str, &str)] = &[
    ("front/control/removal.rs", "is there somebody to remove, and a record of the other end"),
    ("messages/held.rs", "in whose lane of the store"),
    ("session/things/delegations.rs", "who can be a delegate"),
    ("session/things/rules.rs", "who can be a delegate"),
    ("session/things/watchers.rs", "how somebody has proven who they are"),
];

/// The files outside of `core` that say this, one token behind the other.
fn saying(phrase: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let mut found = Vec::new();
    for source in sources(&root) {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        if !path.starts_with("core/") && says(source.file.to_token_stream(), phrase) {
            found.push(path);
        }
    }
    found
}

fn says(tokens: TokenStream, phrase: &[&str]) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_said = |tokens: &[TokenTree]| {
        let mut words = tokens.iter().zip(phrase);
        words.all(|(token, word)| {
            !matches!(token, TokenTree::Group(_)) && token.to_string() == *word
        })
    };
    let is_inside = |token: &TokenTree| match token {
        TokenTree::Group(group) => says(group.stream(), phrase),
        _ => false,
    };
    tokens.windows(phrase.len()).any(is_said) || tokens.iter().any(is_inside)
}

#[test]
fn here_or_elsewhere_is_asked_by_one_room() {
    assert_eq!(saying(&["Where"]), ["reach/inboxes.rs", "reach/mod.rs"]);
}

#[test]
fn who_asks_whether_a_domain_is_hosted_asks_something_else() {
    let listed: Vec<&str> = HOSTED.iter().map(|(path, _)| *path).collect();
    assert_eq!(saying(&[".", "is_local"]), listed, "where somebody is, `reach` says");
}

/// For sessions and links alike.
#[test]
fn following_is_made_a_change_in_one_place() {
    for change in ["Follow", "Release"] {
        assert_eq!(saying(&["Change", ":", ":", change]), ["reach/here.rs"], "{change}");
    }
}

#[test]
fn what_is_said_is_found_wherever_it_stands() {
    let text = "fn f() { match a.b(Where::Here, &[c.is_local(d)]) { _ => e } }";
    for (phrase, wanted) in [
        (&["Where"][..], true),
        (&[".", "is_local"], true),
        (&["Where", ":", ":", "Here"], true),
        (&["Where", ":", ":", "There"], false),
        (&["a", "c"], false),
    ] {
        assert_eq!(says(text.parse().unwrap(), phrase), wanted, "{phrase:?}");
    }
}
