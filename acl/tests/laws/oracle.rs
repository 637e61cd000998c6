//! D1: a second, slow evaluator, written from the rules' description alone, agrees on every cell
//! of watcher, field and part.

use std::sync::Arc;

use impp_acl::{DeliveryAction, Grant, Handling, Purpose, Watcher, decide, decide_delivery};
use impp_protocol::Address;
use impp_protocol::presence::{Document, FieldName, Fields, PartId};
use proptest::prelude::*;

use super::any::{self, Asking, RuleSpec, Spec};

fn named(spec: &Spec, list: &[&str], asking: &Asking) -> bool {
    let Watcher::Principal(watcher) = &asking.watcher else {
        return list.contains(&"anonymous") || list.contains(&"anyone");
    };
    list.iter().any(|item| match *item {
        "contacts" => asking.contact != Grant::None,
        "authenticated" | "anyone" => true,
        "anonymous" => false,
        item => match item.split_once(':') {
            Some(("group", name)) => {
                spec.groups[name].iter().any(|member| Address::parse(member).unwrap() == *watcher)
            }
            Some((_, domain)) => watcher.domain_str() == domain.to_lowercase(),
            None => Address::parse(item).unwrap() == *watcher,
        },
    })
}

fn matches(spec: &Spec, rule: &RuleSpec, asking: &Asking) -> bool {
    let valid = rule.valid.is_empty()
        || rule.valid.iter().any(|(from, until)| (*from..*until).contains(&asking.now));
    let sphere = rule.sphere.is_empty()
        || asking.sphere.is_some_and(|own| {
            rule.sphere.iter().any(|word| word.to_lowercase() == own.to_lowercase())
        });
    named(spec, &rule.who, asking) && !named(spec, &rule.except, asking) && valid && sphere
}

fn is_owner(asking: &Asking) -> bool {
    asking.watcher == Watcher::Principal(asking.owner.clone())
}

fn handling(spec: &Spec, asking: &Asking) -> usize {
    let of = |rule: &RuleSpec| match asking.purpose {
        Purpose::Subscribe => rule.handling,
        Purpose::Fetch => rule.fetch.unwrap_or(rule.handling),
    };
    let matching = spec.rules.iter().filter(|rule| matches(spec, rule, asking));
    // Nobody is asked about somebody without a name.
    let of = |rule: &RuleSpec| match (of(rule), &asking.watcher) {
        (1, Watcher::Anonymous) => 0,
        (handling, _) => handling,
    };
    if is_owner(asking) { 3 } else { matching.map(of).max().unwrap_or(0) }
}

fn field_granted(spec: &Spec, asking: &Asking, name: &str) -> bool {
    let matching = spec.rules.iter().filter(|rule| matches(spec, rule, asking));
    is_owner(asking) || matching.into_iter().any(|rule| granted_by(rule, asking, name))
}

/// Whether one rule that matches grants a field, or a step of one.
fn granted_by(rule: &RuleSpec, asking: &Asking, name: &str) -> bool {
    match &rule.fields {
        Some(fields) => fields.contains(&"all") || fields.contains(&name),
        None if rule.who.contains(&"contacts") && asking.watcher != Watcher::Anonymous => {
            match asking.contact {
                Grant::None => false,
                Grant::Status => name == "status",
                Grant::All => true,
            }
        }
        None => false,
    }
}

/// What is left of a field's value, by its grants: of user-input the largest step counts.
fn left(spec: &Spec, asking: &Asking, name: &str, value: &str) -> Option<String> {
    if field_granted(spec, asking, name) {
        return Some(value.to_owned());
    }
    let known = any::INPUTS[..3].contains(&value) && name == "user-input";
    let words: Vec<&str> = value.split(' ').collect();
    if known && field_granted(spec, asking, "user-input:thresholds") {
        let kept = words.iter().copied().filter(|word| !word.starts_with("last-input"));
        return Some(kept.collect::<Vec<_>>().join(" "));
    }
    (known && field_granted(spec, asking, "user-input:bare")).then(|| words[0].to_owned())
}

/// Whether the person or a device shows, and whether a rule selects it by its class: each selector
/// of a matching rule opens it, and so does a field of it that a matching rule grants while some rule
/// that grants any field leaves these parts unsaid.
fn part_granted(
    spec: &Spec,
    asking: &Asking,
    list: &dyn Fn(&RuleSpec) -> Option<&Vec<&'static str>>,
    part: (&str, &Fields),
    any: bool,
) -> (bool, bool) {
    let (id, fields) = part;
    let value = |name: &str| fields.get(name).map_or("", |value| &**value);
    let (mut granted, mut by_class) = (is_owner(asking), false);
    for rule in spec.rules.iter().filter(|rule| !is_owner(asking) && matches(spec, rule, asking)) {
        let Some(selectors) = list(rule) else {
            let mut words = any::GRANTED.iter().chain(["org.example.unheard-of"].iter());
            granted |= any && words.any(|name| granted_by(rule, asking, name));
            continue;
        };
        for selector in selectors {
            match selector.split_once(':') {
                None => granted = true,
                Some(("id", own)) => granted |= own == id,
                Some(("device-id", urn)) => granted |= value("device-id") == urn,
                Some((_, class)) => by_class |= value("class") == class,
            }
        }
    }
    (granted || by_class, by_class)
}

/// Whether a tuple shows, and whether a rule selects it by its class.
fn tuple_granted(spec: &Spec, asking: &Asking, id: &PartId, fields: &Fields) -> (bool, bool) {
    let value = |name: &str| fields.get(name).map_or("", |value| &**value);
    let (mut granted, mut by_class) = (is_owner(asking), false);
    for rule in spec.rules.iter().filter(|rule| !is_owner(asking) && matches(spec, rule, asking)) {
        let Some(tuples) = &rule.tuples else {
            granted |= rule.handling == 3 || rule.fetch == Some(3);
            continue;
        };
        for selector in tuples {
            match selector.split_once(':') {
                None => granted = true,
                Some(("id", own)) => granted |= own == id.as_str(),
                Some(("scheme", scheme)) => {
                    granted |= value("contact").starts_with(&format!("{scheme}:"));
                }
                Some(("uri", uri)) => granted |= value("contact") == uri.to_lowercase(),
                Some((_, class)) => by_class |= value("class") == class,
            }
        }
    }
    (granted || by_class, by_class)
}

/// The document, cell by cell.
fn shown(spec: &Spec, asking: &Asking, full: &Document) -> Document {
    let all = any::FIELDS.iter().all(|name| field_granted(spec, asking, name))
        && field_granted(spec, asking, "org.example.unheard-of");
    let keep = |fields: &Fields, by_class: bool, always: &[&str]| -> Fields {
        let shown = |(name, value): (&FieldName, &Arc<str>)| {
            let name_str = name.as_str();
            let with_it = always.contains(&name_str) || (by_class && name_str == "class");
            let left =
                if with_it { Some(value.to_string()) } else { left(spec, asking, name_str, value) };
            left.map(|left| (name.clone(), left.into()))
        };
        fields.iter().filter_map(shown).collect()
    };
    let any = |fields: &Fields| {
        all || fields.iter().any(|(n, v)| left(spec, asking, n.as_str(), v).is_some())
    };
    let mut document = Document::default();
    let person = ("", &full.person);
    let (granted, by_class) =
        part_granted(spec, asking, &|rule| rule.persons.as_ref(), person, any(&full.person));
    if granted {
        document.person = keep(&full.person, by_class, &["timestamp"]);
    }
    for (id, fields) in &full.tuples {
        let (granted, by_class) = tuple_granted(spec, asking, id, fields);
        if granted {
            let always = ["contact", "priority", "service-class", "status", "timestamp"];
            document.tuples.insert(id.clone(), keep(fields, by_class, &always));
        }
    }
    for (id, fields) in &full.devices {
        let device = (id.as_str(), fields);
        let (granted, by_class) =
            part_granted(spec, asking, &|rule| rule.devices.as_ref(), device, any(fields));
        if granted {
            document
                .devices
                .insert(id.clone(), keep(fields, by_class, &["timestamp", "device-id"]));
        }
    }
    if document == Document::default() { Document::offline() } else { document }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn d1_the_oracle_agrees(
        spec in any::spec(), asking in any::asking(), full in any::document()
    ) {
        let rules = spec.parse();
        let decision = decide(&rules, &asking.question());
        let expected = Handling::EVERY[handling(&spec, &asking)];
        prop_assert_eq!(decision.handling(), expected);
        let view = decision.view(&full).map(|view| view.into_document());
        prop_assert_eq!(view, match expected {
            Handling::Block | Handling::Confirm => None,
            Handling::PoliteBlock => Some(Document::offline()),
            Handling::Allow => Some(shown(&spec, &asking, &full)),
        });
    }

    #[test]
    fn d1_the_oracle_agrees_about_messages(spec in any::spec(), asking in any::asking()) {
        let matching = spec.delivery.iter().filter(|rule| matches(&spec, rule, &asking));
        let largest = matching.map(|rule| rule.handling).max().unwrap_or(0);
        let expected = DeliveryAction::EVERY[if is_owner(&asking) { 3 } else { largest }];
        let decision = decide_delivery(&spec.parse(), &asking.letter());
        prop_assert_eq!(decision.action(), expected);
    }
}
