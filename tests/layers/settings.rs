//! A function looks at the settings once: between two looks others may have come into force, and what is
//! done would fit neither.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::permits::names;
use crate::sizes::{Function, functions};
use crate::sources::sources;

/// What is handed to a function by who has looked at the settings.
const HANDED: &[&str] = &["Config", "Snapshot", "Limits", "Times", "Inbox", "Federation"];

/// Who in `core`, on which every request stands, looks at the settings itself, and why nobody hands them.
const IN_CORE: &[(&str, &str)] = &[
    ("core/budgets.rs Budgets::owe", "what it costs is taken before it is done, or after"),
    ("core/budgets.rs Budgets::take", "what it costs is taken before it is done"),
    (
        "core/principals/ghosts.rs Principals::unplace_at_owner",
        "a task of its own, asked by nobody",
    ),
    ("core/principals/load.rs Principals::load_now", "an owner is read as it is in force then"),
    ("core/principals/recovery.rs Principals::recovering_until", "the time since a crash, of all"),
    (
        "core/principals/surroundings.rs Principals::surround",
        "the newest is decided by from then on",
    ),
    ("core/routes.rs Routes::federates", "a link is begun, or is not"),
    ("core/routes.rs Routes::new", "the start"),
];

/// How often these tokens have `settings` or `config` looked at: `settings.load()`, `settings().load_full()`.
fn looks(tokens: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = 0;
    let mut of_settings = false;
    for token in &tokens {
        match token {
            TokenTree::Ident(ident) if ident == "settings" => of_settings = true,
            TokenTree::Ident(ident) if ident == "load" || ident == "load_full" => {
                found += usize::from(of_settings);
                of_settings = false;
            }
            TokenTree::Punct(dot) if dot.as_char() == '.' => {}
            TokenTree::Group(group) => {
                found += looks(group.stream());
                of_settings &= group.stream().is_empty();
            }
            _ => of_settings = false,
        }
    }
    found
}

/// Each function of the server, and the file that it stands in.
fn each_function(mut look: impl FnMut(&str, Function)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    for source in sources(&root) {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        let mut found = Vec::new();
        functions(&source.file.items, "", &mut found);
        found.into_iter().for_each(|function| look(&path, function));
    }
}

#[test]
fn a_function_looks_at_the_settings_once() {
    let (mut all, mut twice) = (0, Vec::new());
    each_function(|path, Function { name, whole, .. }| {
        let looks = looks(whole);
        all += looks;
        if looks > 1 {
            twice.push(format!("{path} {name}"));
        }
    });
    assert!(all > 50, "{all}");
    assert!(twice.is_empty(), "what is asked once sees one configuration: {}", twice.join(", "));
}

#[test]
fn who_is_handed_settings_looks_at_no_others() {
    let (mut handed, mut wrong) = (0, Vec::new());
    each_function(|path, Function { name, signature, whole, .. }| {
        // What is to come into force is held against what is.
        if names(signature.inputs.to_token_stream(), HANDED) && !path.starts_with("life/") {
            handed += 1;
            if looks(whole) > 0 {
                wrong.push(format!("{path} {name}"));
            }
        }
    });
    assert!(handed > 30, "{handed}");
    assert!(wrong.is_empty(), "these are handed settings: {}", wrong.join(", "));
}

/// Whatever a session or a link asks, it asks by what is in `core`: there nobody looks for who has looked.
#[test]
fn what_all_stand_on_is_handed_the_settings() {
    let mut found_in = Vec::new();
    each_function(|path, Function { name, whole, .. }| {
        if path.starts_with("core/") && !path.contains("tests") && looks(whole) > 0 {
            found_in.push(format!("{path} {name}"));
        }
    });
    found_in.sort();
    let listed: Vec<&str> = IN_CORE.iter().map(|(name, _)| *name).collect();
    assert_eq!(found_in, listed, "hand it the settings that the caller has");
}

#[test]
fn a_look_is_found_however_it_is_written() {
    for (text, wanted) in [
        ("let a = self.settings.load().times; b(self.settings.load_full());", 2),
        ("self.principals.settings().load().limits", 1),
        ("load(settings); self.tails.load()", 0),
    ] {
        assert_eq!(looks(text.parse().unwrap()), wanted, "{text}");
    }
}
