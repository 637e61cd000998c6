//! Random rules, questions and documents over a small world, where matches are frequent.

use std::collections::BTreeMap;

use impp_acl::{DeliveryQuestion, Grant, Handling, Purpose, Question, RuleSet, Watcher};
use impp_protocol::presence::{Document, FieldName, Fields, PartId};
use impp_protocol::{Address, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub(crate) const OWNER: &str = "alice@x.example";
/// Everybody who ever asks; the last is nobody.
pub(crate) const WATCHERS: [&str; 6] =
    ["a@x.example", "b@x.example", "c@y.example", "d@sub.x.example", "alice@x.example", ""];
const WHO: [&str; 11] = [
    "a@x.example",
    "b@x.example",
    "C@Y.example",
    "domain:x.example",
    "domain:Y.EXAMPLE",
    "contacts",
    "group:g",
    "group:h",
    "authenticated",
    "anyone",
    "anonymous",
];
pub(crate) const FIELDS: [&str; 8] =
    ["class", "contact", "device-id", "mood", "note", "status", "timestamp", "user-input"];
pub(crate) const GRANTED: [&str; 11] = [
    "class",
    "contact",
    "device-id",
    "mood",
    "note",
    "status",
    "timestamp",
    "user-input:bare",
    "user-input:thresholds",
    "user-input",
    "all",
];
const TUPLES: [&str; 7] =
    ["class:work", "class:home", "id:t1", "id:im", "scheme:sip", "uri:SIP:a@x.example", "all"];
const PERSONS: [&str; 3] = ["class:work", "class:home", "all"];
const DEVICES: [&str; 5] = ["class:work", "class:home", "id:p1", "device-id:p", "all"];
pub(crate) const INPUTS: [&str; 4] = [
    "idle",
    "active idle-threshold=60",
    "idle idle-threshold=60 last-input=1970-01-01T00:00:01Z",
    "x",
];
const SPHERES: [&str; 3] = ["work", "Home", "x"];

/// A rule before it is text; `handling` is the action of a delivery rule.
#[derive(Clone, Debug)]
pub(crate) struct RuleSpec {
    pub who: Vec<&'static str>,
    pub except: Vec<&'static str>,
    pub handling: usize,
    pub fetch: Option<usize>,
    pub fields: Option<Vec<&'static str>>,
    pub tuples: Option<Vec<&'static str>>,
    pub persons: Option<Vec<&'static str>>,
    pub devices: Option<Vec<&'static str>>,
    /// Spans in seconds.
    pub valid: Vec<(u64, u64)>,
    pub sphere: Vec<&'static str>,
}

/// Rules before they are text.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub groups: BTreeMap<&'static str, Vec<&'static str>>,
    pub rules: Vec<RuleSpec>,
    pub delivery: Vec<RuleSpec>,
}

/// A question that owns what it looks at.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub owner: Address,
    pub watcher: Watcher,
    pub purpose: Purpose,
    pub now: u64,
    pub sphere: Option<&'static str>,
    pub contact: Grant,
}

impl Asking {
    pub(crate) fn question(&self) -> Question<'_> {
        Question {
            owner: &self.owner,
            watcher: &self.watcher,
            purpose: self.purpose,
            now: Timestamp::from_millis(self.now * 1000),
            sphere: self.sphere,
            contact: self.contact,
            domain: impp_acl::DomainPolicy::none(),
        }
    }

    pub(crate) fn letter(&self) -> DeliveryQuestion<'_> {
        DeliveryQuestion {
            owner: &self.owner,
            sender: &self.watcher,
            now: Timestamp::from_millis(self.now * 1000),
            sphere: self.sphere,
            contact: self.contact,
        }
    }
}

impl Spec {
    pub(crate) fn text(&self) -> String {
        let mut text = "[groups]\n".to_owned();
        for (name, members) in &self.groups {
            text += &format!("{name} = {members:?}\n");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            text += &format!("[[rule]]\nid = \"r{index}\"\n{}", rule.conditions());
            text += &format!("handling = \"{}\"\n", Handling::EVERY[rule.handling]);
            if let Some(fetch) = rule.fetch {
                text += &format!("fetch = \"{}\"\n", Handling::EVERY[fetch]);
            }
            if let Some(fields) = &rule.fields {
                text += &format!("fields = {fields:?}\n");
            }
            let parts =
                [("tuples", &rule.tuples), ("persons", &rule.persons), ("devices", &rule.devices)];
            for (key, list) in parts {
                if let Some(list) = list {
                    text += &format!("{key} = {list:?}\n");
                }
            }
        }
        for (index, rule) in self.delivery.iter().enumerate() {
            let action = impp_acl::DeliveryAction::EVERY[rule.handling];
            text += &format!("[[delivery]]\nid = \"d{index}\"\n{}", rule.conditions());
            text += &format!("action = \"{action}\"\n");
        }
        text
    }

    pub(crate) fn parse(&self) -> RuleSet {
        RuleSet::parse(&self.text()).unwrap()
    }
}

impl RuleSpec {
    fn conditions(&self) -> String {
        let mut text = format!("who = {:?}\nexcept = {:?}\n", self.who, self.except);
        if !self.valid.is_empty() {
            let moment = |second| Timestamp::from_millis(second * 1000);
            let span = |&(from, until): &(u64, u64)| format!("{}/{}", moment(from), moment(until));
            text += &format!("valid = {:?}\n", self.valid.iter().map(span).collect::<Vec<_>>());
        }
        if !self.sphere.is_empty() {
            text += &format!("sphere = {:?}\n", self.sphere);
        }
        text
    }
}

pub(crate) fn rule() -> impl Strategy<Value = RuleSpec> {
    let span = (0..8u64, 1..4u64).prop_map(|(from, length)| (from, from + length));
    let parts = |words: &[&'static str]| option::weighted(0.3, subsequence(words.to_vec(), 0..3));
    (
        (subsequence(WHO.to_vec(), 0..4), subsequence(WHO.to_vec(), 0..3)),
        (0..4usize, option::weighted(0.3, 0..4usize)),
        option::of(subsequence(GRANTED.to_vec(), 0..4)),
        (
            option::weighted(0.6, subsequence(TUPLES.to_vec(), 0..3)),
            parts(&PERSONS),
            parts(&DEVICES),
        ),
        prop_oneof![3 => Just(vec![]), 1 => vec(span, 1..3)],
        prop_oneof![3 => Just(vec![]), 1 => subsequence(SPHERES.to_vec(), 1..3)],
    )
        .prop_map(|((who, except), (handling, fetch), fields, parts, valid, sphere)| {
            let (tuples, persons, devices) = parts;
            RuleSpec {
                who,
                except,
                handling,
                fetch,
                fields,
                tuples,
                persons,
                devices,
                valid,
                sphere,
            }
        })
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let members = || subsequence(WATCHERS[..5].to_vec(), 0..4);
    (members(), members(), vec(rule(), 0..6), vec(rule(), 0..6)).prop_map(
        |(g, h, rules, delivery)| Spec {
            groups: BTreeMap::from([("g", g), ("h", h)]),
            rules,
            delivery,
        },
    )
}

pub(crate) fn asking() -> impl Strategy<Value = Asking> {
    (
        select(WATCHERS.to_vec()),
        prop_oneof![Just(Purpose::Subscribe), Just(Purpose::Fetch)],
        0..10u64,
        option::of(select(vec!["WORK", "home", "y"])),
        select(Grant::EVERY.to_vec()),
    )
        .prop_map(|(watcher, purpose, now, sphere, contact)| Asking {
            owner: Address::parse(OWNER).unwrap(),
            watcher: Address::parse(watcher).map_or(Watcher::Anonymous, Watcher::Principal),
            purpose,
            now,
            sphere,
            contact,
        })
}

fn fields() -> impl Strategy<Value = Fields> {
    subsequence(FIELDS.to_vec(), 0..=FIELDS.len()).prop_flat_map(|names| {
        let value = |name: &'static str| match name {
            "class" => select(vec!["work", "home"]),
            "contact" => select(vec!["sip:a@x.example", "im:a@x.example"]),
            "status" => select(vec!["open", "closed"]),
            "user-input" => select(INPUTS.to_vec()),
            _ => select(vec!["p", "q"]),
        };
        let pairs: Vec<_> = names
            .into_iter()
            .map(|name| value(name).prop_map(move |v| (FieldName::parse(name).unwrap(), v.into())))
            .collect();
        pairs.prop_map(|pairs| pairs.into_iter().collect())
    })
}

/// A document that has all that rules can grant.
pub(crate) fn full() -> Document {
    let one = |name: &&str| (FieldName::parse(name).unwrap(), "p".into());
    let all = || FIELDS.iter().map(one).collect();
    let part = |id| [(PartId::parse(id).unwrap(), all())].into_iter().collect();
    Document { person: all(), tuples: part("t1"), devices: part("p1") }
}

pub(crate) fn document() -> impl Strategy<Value = Document> {
    let id = |ids: Vec<&'static str>| select(ids).prop_map(|id| PartId::parse(id).unwrap());
    let random = (
        fields(),
        btree_map(id(vec!["im", "t1", "t2"]), fields(), 0..4),
        btree_map(id(vec!["p1", "p2"]), fields(), 0..3),
    )
        .prop_map(|(person, tuples, devices)| Document {
            person,
            tuples: tuples.into_iter().collect(),
            devices: devices.into_iter().collect(),
        });
    prop_oneof![9 => random, 1 => Just(Document::offline())]
}
