//! A function looks at the settings once: between two looks others may have come into force, and what is
//! done would fit neither.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::sizes::{Function, functions};
use crate::sources::sources;

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

#[test]
fn a_function_looks_at_the_settings_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let (mut all, mut twice) = (0, Vec::new());
    for source in sources(&root) {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        let mut found = Vec::new();
        functions(&source.file.items, "", &mut found);
        for Function { name, whole, .. } in found {
            let looks = looks(whole);
            all += looks;
            if looks > 1 {
                twice.push(format!("{path} {name}"));
            }
        }
    }
    assert!(all > 50, "{all}");
    assert!(twice.is_empty(), "what is asked once sees one configuration: {}", twice.join(", "));
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
