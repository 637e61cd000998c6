//! Laws of delegation: who is permitted what has a right to just that, by an entry that is not over.

use std::sync::Arc;

use impp_acl::{Ask, By, Needs, Permit, Right, RuleSet, needs};
use impp_protocol::presence::{Document, FieldName, PartId};
use impp_protocol::{Address, Timestamp, What};
use proptest::collection::vec;
use proptest::prelude::*;

const WHO: [&str; 3] = ["cal@a.example", "help@a.example", "eve@a.example"];
const RIGHTS: [&str; 7] = [
    "publish:activities",
    "publish:note",
    "publish-tuple:desk",
    "rules",
    "watchers",
    "inbox-read",
    "send-as",
];

/// An entry: whom it names, to what, and until when, in seconds.
type Entry = (Vec<usize>, Vec<usize>, Option<u64>);

fn entry() -> impl Strategy<Value = Entry> {
    (vec(0..WHO.len(), 0..3), vec(0..RIGHTS.len(), 0..4), prop::option::of(1..6u64))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

fn text(entries: &[Entry]) -> String {
    let words = |of: &[usize], all: &[&str]| {
        of.iter().map(|index| format!("{:?}", all[*index])).collect::<Vec<_>>().join(", ")
    };
    let entries = entries.iter().enumerate().map(|(id, (who, rights, until))| {
        let until = until.map_or(String::new(), |until| format!("until = \"{}\"\n", at(until)));
        format!(
            "[[delegate]]\nid = \"{id}\"\nwho = [{}]\nrights = [{}]\n{until}",
            words(who, &WHO),
            words(rights, &RIGHTS)
        )
    });
    entries.collect()
}

/// Decided a second time: whether somebody has a right then.
fn has(entries: &[Entry], who: usize, right: usize, now: u64) -> bool {
    entries.iter().any(|(names, rights, until)| {
        names.contains(&who) && rights.contains(&right) && until.is_none_or(|until| now < until)
    })
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Somebody who says these things.
fn said(fields: &[&str], tuple: bool) -> Document {
    let mut said = Document::default();
    for name in fields {
        said.person.insert(FieldName::parse(name).unwrap(), "x".into());
    }
    if tuple {
        said.tuples.insert(PartId::parse("desk").unwrap(), Default::default());
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn d_4_a_right_that_is_over_or_unknown_permits_nothing(
        entries in vec(entry(), 0..5), who in 0..WHO.len(), now in 0..7u64,
    ) {
        let (owner, delegate) = (address("alice@a.example"), address(WHO[who]));
        let rules = RuleSet::parse(&text(&entries)).unwrap();
        let mandate = rules.mandate(&owner, &delegate, at(now)).map(Arc::new);
        let held = (0..RIGHTS.len()).filter(|right| has(&entries, who, *right, now));
        let held: Vec<&str> = held.map(|right| RIGHTS[right]).collect();
        let rights = mandate.iter().flat_map(|mandate| mandate.rights());
        let mut words: Vec<_> = rights.map(|(right, _): (&Right, _)| right.to_string()).collect();
        words.sort_by_key(|word| RIGHTS.iter().position(|right| right == word));
        prop_assert_eq!(&words, &held);
        for what in What::ALL.iter().map(|of| of.0) {
            for ask in [Ask::Fetch, Ask::Publish, Ask::Follow] {
                let permit = mandate.as_ref().and_then(|m| Permit::delegate(m, what, ask));
                let needed = needs(what, ask).is_some_and(|needs| held.iter().any(|right| {
                    match needs {
                        Needs::Publish => right.starts_with("publish"),
                        Needs::Rules => *right == "rules",
                        Needs::Watchers => *right == "watchers",
                        Needs::InboxRead => *right == "inbox-read",
                        Needs::SendAs => *right == "send-as",
                    }
                }));
                prop_assert_eq!(permit.is_some(), needed, "{} {:?}", what, ask);
                // No right is one over devices, contacts, or what the owner sends.
                prop_assert!(permit.is_none() || !matches!(what, What::Devices | What::Contacts));
                if let Some(Permit::Presence(acting)) = permit {
                    prop_assert_eq!(acting.owner(), &owner);
                    let By::Delegate(by) = acting.by() else { panic!("{acting:?}") };
                    prop_assert_eq!(by.delegate(), &delegate);
                }
            }
        }
    }

    #[test]
    fn d_4_what_a_delegate_says_is_granted_to_the_last_word_and_ends_with_the_first_right(
        entries in vec(entry(), 1..5), who in 0..WHO.len(), now in 0..7u64,
        activities in any::<bool>(), note in any::<bool>(), tuple in any::<bool>(),
    ) {
        let (owner, delegate) = (address("alice@a.example"), address(WHO[who]));
        let rules = RuleSet::parse(&text(&entries)).unwrap();
        let Some(mandate) = rules.mandate(&owner, &delegate, at(now)) else { return Ok(()) };
        let used: Vec<usize> = [activities, note, tuple]
            .iter().enumerate().filter(|(_, used)| **used).map(|(right, _)| right).collect();
        let fields: Vec<&str> =
            [("activities", activities), ("note", note)].iter().filter(|f| f.1).map(|f| f.0).collect();
        // Who says nothing has a right to say something.
        let may_any = |now| (0..RIGHTS.len()).any(|right| {
            RIGHTS[right].starts_with("publish") && has(&entries, who, right, now)
        });
        let may_all =
            |now| may_any(now) && used.iter().all(|right| has(&entries, who, *right, now));
        match mandate.ends(&said(&fields, tuple)) {
            Err(_) => prop_assert!(!may_all(now)),
            Ok(None) => prop_assert!((now..20).all(may_all)),
            Ok(Some(until)) => {
                prop_assert!((now..20).all(|then| may_all(then) == (at(then) < until)));
            }
        }
    }
}
