//! How something is added, as CONTRIBUTING says it: in no more words than it once took, and of files that
//! are there.

use std::path::Path;

/// So many words it took to say where everything of one was, when all of the server was one room. Rooms are
/// to make it no longer.
const WORDS_MAX: &[(&str, usize)] =
    &[("A command", 95), ("A thing", 32), ("A record", 19), ("A setting", 73)];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What it says of each, by name.
fn ways() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let ways = text.split_once("## How to add\n").unwrap().1.split("\n## ").next().unwrap();
    let begun = ways.split("\n**").skip(1);
    let named = begun.map(|way| (way.split("**").next().unwrap().to_owned(), way.to_owned()));
    named.collect()
}

#[test]
fn to_add_something_takes_no_more_words_than_it_did() {
    let ways = ways();
    for (name, words_max) in WORDS_MAX {
        let (_, way) = ways.iter().find(|(known, _)| known == name).unwrap();
        let words = way.split_whitespace().count();
        assert!(words <= *words_max, "{name} takes {words} words, and {words_max} is the most");
    }
}

#[test]
fn files_by_which_something_is_added_are_there() {
    let mut read = 0;
    for (name, way) in ways() {
        for path in way.split('`').skip(1).step_by(2) {
            let begins = path.split_once('/').is_some_and(|(first, _)| root().join(first).is_dir());
            if begins && !path.contains("NAME") {
                read += 1;
                assert!(root().join(path).exists(), "{name}: there is no {path}");
            }
        }
    }
    assert!(read > 20, "{read}");
}
