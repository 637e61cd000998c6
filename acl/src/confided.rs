//! Decisions and documents as a delegate is told of them who may edit rules: what becomes of somebody, and
//! which fields they see by name. What these say is shown to it as far as it sees that itself; what rules look
//! at beside their text, contacts and the sphere, is named nowhere.

use impp_protocol::presence::{Document, Fields, PartId};

use crate::conditions::Conditions;
use crate::explain::{DeliveryExplanation, Explanation, RuleTrace};
use crate::rules::RuleSet;
use crate::view::View;

impl Explanation {
    /// The same, of these rules, for a delegate: without what was made of the domain's policy, and of
    /// rules for contacts or a sphere.
    #[must_use]
    pub fn confided(self, rules: &RuleSet) -> Explanation {
        let conditions = rules.rules().iter().map(|rule| &rule.conditions);
        Explanation { rules: confided(self.rules, conditions), ..self }
    }
}

impl DeliveryExplanation {
    /// The same, of these rules, for a delegate.
    #[must_use]
    pub fn confided(self, rules: &RuleSet) -> DeliveryExplanation {
        let conditions = rules.delivery().iter().map(|rule| &rule.conditions);
        DeliveryExplanation { rules: confided(self.rules, conditions), ..self }
    }
}

/// Each trace is of the rule in its place; those of the domain come behind.
fn confided<'a>(
    traces: Vec<RuleTrace>,
    conditions: impl Iterator<Item = &'a Conditions>,
) -> Vec<RuleTrace> {
    let looks_only_at_names = |of: &Conditions| of.looks_beside_names().is_none();
    let told = traces.into_iter().zip(conditions);
    told.filter(|(trace, of)| !trace.by_domain && looks_only_at_names(of))
        .map(|(trace, _)| trace)
        .collect()
}

impl View {
    /// What of this somebody else sees too who has that view, with the same values; and the names of the
    /// fields that this one shows beside it, of parts that it does not see and that are not `named` to it
    /// anyway without their ids. What everybody is shown who is offline is nobody's word.
    pub fn within(
        self,
        own: Option<&View>,
        named: impl Fn(&PartId) -> bool,
    ) -> (View, Vec<String>) {
        if *self.document() == Document::offline() {
            return (self, Vec::new());
        }
        let nothing = Document::default();
        let (mut document, mut names) = (self.into_document(), Vec::new());
        let own = own.map_or(&nothing, View::document);
        keep(&mut document.person, &own.person, "", &mut names);
        let kinds = [
            ("tuples", &mut document.tuples, &own.tuples),
            ("devices", &mut document.devices, &own.devices),
        ];
        for (kind, parts, own) in kinds {
            for (id, fields) in parts.iter_mut() {
                // An id is a word of the owner's too.
                let of = match own.contains_key(id) || named(id) {
                    true => format!("{kind}:{id}:"),
                    false => format!("{kind}:*:"),
                };
                keep(fields, own.get(id).unwrap_or(&Fields::default()), &of, &mut names);
            }
            parts.retain(|id: &PartId, _| own.contains_key(id));
        }
        (View::less(document), names)
    }
}

/// Keeps those that are the same there, and names the others.
fn keep(fields: &mut Fields, own: &Fields, of: &str, names: &mut Vec<String>) {
    fields.retain(|name, value| {
        let same = own.get(name) == Some(value);
        if !same {
            let name = format!("{of}{name}");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use impp_protocol::presence::FieldName;
    use impp_protocol::{Address, Timestamp};

    use super::*;
    use crate::{
        DeliveryQuestion, DomainPolicy, Grant, Purpose, Question, Watcher, decide, explain,
        explain_delivery,
    };

    const RULES: &str = r#"
[[rule]]
id = "bob"
who = ["bob@a.example"]
handling = "allow"
fields = ["note", "mood", "user-input"]
tuples = ["id:desk"]

[[rule]]
id = "help"
who = ["help@a.example"]
handling = "allow"
fields = ["note", "user-input:bare"]
tuples = []

[[rule]]
id = "polite"
who = ["ex@a.example"]
handling = "polite-block"

[[rule]]
id = "contacts"
who = ["contacts"]
handling = "allow"

[[rule]]
id = "at home"
who = ["bob@a.example"]
handling = "allow"
sphere = ["hideout"]
"#;

    fn address(name: &str) -> Address {
        Address::parse(&format!("{name}@a.example")).unwrap()
    }

    fn asked<R>(name: &str, act: impl FnOnce(&RuleSet, &Question<'_>) -> R) -> R {
        let (owner, watcher) = (address("alice"), Watcher::Principal(address(name)));
        let question = Question {
            owner: &owner,
            watcher: &watcher,
            purpose: Purpose::Subscribe,
            now: Timestamp::from_millis(0),
            sphere: Some("hideout"),
            contact: Grant::All,
            domain: DomainPolicy::none(),
        };
        act(&RuleSet::parse(RULES).unwrap(), &question)
    }

    /// Alice, with what each of the fields says.
    fn full() -> Document {
        let name = |text| FieldName::parse(text).unwrap();
        let mut full = Document::default();
        for (field, value) in
            [("note", "here"), ("mood", "sad"), ("user-input", "idle idle-threshold=6")]
        {
            full.person.insert(name(field), value.into());
        }
        let desk = [(name("status"), "open".into())].into_iter().collect();
        full.tuples.insert(PartId::parse("desk").unwrap(), desk);
        full
    }

    fn view(rules: &str, name: &str) -> Option<View> {
        asked(name, |_, question| {
            let question = Question { contact: Grant::None, sphere: None, ..*question };
            decide(&RuleSet::parse(rules).unwrap(), &question).view(&full())
        })
    }

    #[test]
    fn d_4_a_delegate_sees_the_values_that_it_sees_itself_and_names_of_the_rest() {
        let own = view(RULES, "help");
        let (seen, names) = view(RULES, "bob").unwrap().within(own.as_ref(), |_| true);
        let note = FieldName::parse("note").unwrap();
        assert_eq!(seen.document().person.keys().collect::<Vec<_>>(), [&note]);
        assert!(seen.document().tuples.is_empty());
        assert_eq!(names, ["mood", "user-input", "tuples:desk:status"]);
        let (seen, names) = view(RULES, "bob").unwrap().within(None, |_| false);
        assert_eq!(seen.document(), &Document::default());
        assert_eq!(names, ["mood", "note", "user-input", "tuples:*:status"]);
        // Of what is hidden from all alike nothing is hidden from it.
        let (seen, names) = view(RULES, "ex").unwrap().within(own.as_ref(), |_| true);
        assert_eq!((seen.document(), names.len()), (&Document::offline(), 0));
    }

    #[test]
    fn d_4_what_rules_look_at_beside_their_text_is_not_explained_to_a_delegate() {
        let told = asked("bob", |rules, question| explain(rules, question).confided(rules));
        let ids: Vec<&str> = told.rules.iter().map(|rule| &*rule.id).collect();
        assert_eq!(ids, ["bob", "help", "polite"]);
        let whole = asked("bob", explain);
        assert_eq!((told.decision, told.fields), (whole.decision, whole.fields));
        let words = format!("{:?}", told.rules);
        assert!(!words.contains("hideout") && !words.contains("contact"), "{words}");
    }

    #[test]
    fn d_4_nor_is_what_delivery_rules_look_at() {
        let of = |id: &str, rest: &str| {
            format!("[[delivery]]\nid = \"{id}\"\naction = \"accept\"\n{rest}\n")
        };
        let rules = of("named", "who = [\"bob@a.example\"]")
            + &of("contacts", "who = [\"contacts\"]")
            + &of("but contacts", "who = [\"anyone\"]\nexcept = [\"contacts\"]")
            + &of("at home", "who = [\"anyone\"]\nsphere = [\"hideout\"]");
        let rules = RuleSet::parse(&rules).unwrap();
        let question = DeliveryQuestion {
            owner: &address("alice"),
            sender: &Watcher::Principal(address("bob")),
            now: Timestamp::from_millis(0),
            sphere: Some("hideout"),
            contact: Grant::All,
        };
        let told = explain_delivery(&rules, &question).confided(&rules).rules;
        assert_eq!(told.iter().map(|rule| &*rule.id).collect::<Vec<_>>(), ["named"]);
    }
}
