//! Which names of users people take for one another: pure.
//!
//! Two canonical names may differ and still be one to whoever types or reads them. That names of mixed
//! scripts are none is left to `address`; what comes of a likeness, to who makes accounts.

use unicode_security::skeleton;

/// What a user part is known by to people: as it is typed, whatever case rules a keyboard or a language
/// has (letters in lower case one by one, then folded), and as it looks (the skeleton of UTS 39). Names of
/// which one of these is the same are alike.
pub fn likenesses(local: &str) -> [String; 2] {
    let lower: String = local.chars().flat_map(char::to_lowercase).collect();
    let typed = caseless::default_case_fold_str(&lower);
    let seen: String = skeleton(local).collect();
    // Of one namespace: how one is typed is not how another looks.
    [format!("typed {typed}"), format!("seen {seen}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_alike(one: &str, other: &str) -> bool {
        let (one, other) = (likenesses(one), likenesses(other));
        one.iter().zip(&other).any(|(one, other)| one == other)
    }

    #[test]
    fn a13_names_that_are_typed_or_look_alike_are_alike() {
        for (one, other) in [
            // Final sigma, and the one that stands elsewhere.
            ("σοφος", "σοφοσ"),
            // Dotless i, whose capital is I.
            ("ılgın", "ilgin"),
            ("straße", "strasse"),
            // Cyrillic throughout, and Latin throughout.
            ("сосо", "coco"),
            ("paypal", "paypa1"),
        ] {
            assert!(are_alike(one, other) && are_alike(other, one), "{one} {other}");
        }
        for (one, other) in
            [("alice", "alica"), ("u1", "u2"), ("bob", "bobo"), ("müller", "muller")]
        {
            assert!(!are_alike(one, other), "{one} {other}");
        }
    }
}
