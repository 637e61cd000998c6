//! D1: a second, slow evaluator, written from the rules' description alone, agrees on every cell
//! of watcher, field and part.

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
    if is_owner(asking) { 3 } else { matching.map(of).max().unwrap_or(0) }
}

fn field_granted(spec: &Spec, asking: &Asking, name: &str) -> bool {
    let grants = |rule: &RuleSpec| match &rule.fields {
        Some(fields) => fields.contains(&"all") || fields.contains(&name),
        None if rule.who.contains(&"contacts") && asking.watcher != Watcher::Anonymous => {
            match asking.contact {
                Grant::None => false,
                Grant::Status => name == "status",
                Grant::All => true,
            }
        }
        None => false,
    };
    is_owner(asking) || spec.rules.iter().any(|rule| matches(spec, rule, asking) && grants(rule))
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
    let keep = |fields: &Fields, always: &dyn Fn(&FieldName) -> bool| -> Fields {
        let visible = |name: &FieldName| field_granted(spec, asking, name.as_str()) || always(name);
        fields.clone().into_iter().filter(|(name, _)| visible(name)).collect()
    };
    let any_granted =
        |fields: &Fields| fields.keys().any(|n| field_granted(spec, asking, n.as_str()));
    let mut document = Document::default();
    if any_granted(&full.person) {
        document.person = keep(&full.person, &|name| name.as_str() == "timestamp");
    }
    for (id, fields) in &full.tuples {
        let (granted, by_class) = tuple_granted(spec, asking, id, fields);
        if granted {
            let always = |name: &FieldName| match name.as_str() {
                "contact" | "priority" | "service-class" | "status" | "timestamp" => true,
                "class" => by_class,
                _ => false,
            };
            document.tuples.insert(id.clone(), keep(fields, &always));
        }
    }
    for (id, fields) in &full.devices {
        if all || any_granted(fields) {
            let always = |name: &FieldName| matches!(name.as_str(), "timestamp" | "device-id");
            document.devices.insert(id.clone(), keep(fields, &always));
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
