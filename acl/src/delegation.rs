//! Delegation: who may act for an owner, in what, and until when (RFC 2779 2.3.4, 2.3.6).
//!
//! Reading it from text is in `parse`; which right a thing asks for, in `things`. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use impp_protocol::presence::{Document, FieldName, PartId};
use impp_protocol::{Address, Timestamp};

use crate::rules::RuleSet;

/// Somebody who acts for the owner, as the rules say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// The id.
    pub id: String,
    /// Who.
    pub who: BTreeSet<Address>,
    /// What they may do.
    pub rights: BTreeSet<Right>,
    /// Until when; for ever if not said.
    pub until: Option<Timestamp>,
}

/// What a delegate may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Publish one field of the person.
    Publish(FieldName),
    /// Publish one tuple, with any field.
    PublishTuple(PartId),
    /// Edit rules.
    Rules,
    /// See watcher information.
    Watchers,
    /// Read the inbox.
    InboxRead,
    /// Send in the owner's name.
    SendAs,
}

/// A kind of right, as a thing asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// To publish anything; what, is judged by [`Mandate::ends`].
    Publish,
    /// To edit rules.
    Rules,
    /// To see watcher information.
    Watchers,
    /// To read the inbox.
    InboxRead,
    /// To send in the owner's name.
    SendAs,
}

/// What somebody may do for an owner at a moment, by the owner's rules: all rights of all entries that
/// name them and are not over. Nothing makes one but [`RuleSet::mandate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mandate {
    owner: Address,
    delegate: Address,
    /// And until when each; for ever if not said.
    rights: BTreeMap<Right, Option<Timestamp>>,
}

/// Something that a delegate says and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond(String);

impl RuleSet {
    /// What a principal may do for the owner of these rules now, by the clock on the wall; nothing, if
    /// no entry that is not over names them.
    pub fn mandate(&self, owner: &Address, delegate: &Address, now: Timestamp) -> Option<Mandate> {
        let mut rights: BTreeMap<Right, Option<Timestamp>> = BTreeMap::new();
        let names = |entry: &&Delegate| {
            entry.who.contains(delegate) && entry.until.is_none_or(|until| now < until)
        };
        for entry in self.delegates().iter().filter(names) {
            for right in &entry.rights {
                let until = rights.entry(right.clone()).or_insert(entry.until);
                // What is granted without an end has none.
                *until = until.zip(entry.until).map(|(one, other)| one.max(other));
            }
        }
        let (owner, delegate) = (owner.clone(), delegate.clone());
        (!rights.is_empty()).then_some(Mandate { owner, delegate, rights })
    }
}

impl Mandate {
    /// For whom.
    pub fn owner(&self) -> &Address {
        &self.owner
    }

    /// Who.
    pub fn delegate(&self) -> &Address {
        &self.delegate
    }

    /// The rights, and until when each; for ever if not said.
    pub fn rights(&self) -> impl Iterator<Item = (&Right, Option<Timestamp>)> {
        self.rights.iter().map(|(right, until)| (right, *until))
    }

    /// Whether there is a right of this kind.
    pub fn has(&self, needs: Needs) -> bool {
        self.rights.keys().any(|right| right.kind() == needs)
    }

    /// Until when a delegate may say all of this in the owner's presence; for ever if not said.
    ///
    /// # Errors
    /// [`Beyond`] naming the first thing that it may not.
    pub fn ends(&self, said: &Document) -> Result<Option<Timestamp>, Beyond> {
        let fields = said.person.keys().cloned().map(Right::Publish);
        let tuples = said.tuples.keys().cloned().map(Right::PublishTuple);
        let mut ends: Option<Timestamp> = None;
        for right in fields.chain(tuples) {
            let Some(until) = self.rights.get(&right) else { return Err(self.beyond(&right)) };
            ends = ends.into_iter().chain(*until).min();
        }
        if let Some(id) = said.devices.keys().next() {
            return Err(Beyond(format!("the device {id}: no right says devices")));
        }
        // Who says nothing takes a place for it all the same, and has it no longer than anything to say.
        let says = self.rights.iter().filter(|(right, _)| right.kind() == Needs::Publish);
        let last = says.map(|(_, until)| *until).reduce(|one, other| Some(one?.max(other?)));
        match last {
            None => Err(Beyond("no right says anything".to_owned())),
            Some(last) if said.person.is_empty() && said.tuples.is_empty() => Ok(last),
            Some(_) => Ok(ends),
        }
    }

    fn beyond(&self, right: &Right) -> Beyond {
        let granted: Vec<String> = self.rights.keys().map(Right::to_string).collect();
        Beyond(format!("{}: you have {}", right.about(), granted.join(", ")))
    }
}

impl Needs {
    /// Each.
    const EVERY: [Needs; 5] =
        [Needs::Publish, Needs::Rules, Needs::Watchers, Needs::InboxRead, Needs::SendAs];

    /// The one with this word.
    pub fn from_name(name: &str) -> Option<Needs> {
        Needs::EVERY.into_iter().find(|needs| needs.as_str() == name)
    }

    /// The word for it: that of the rights, less what of the presence they are to.
    pub fn as_str(self) -> &'static str {
        match self {
            Needs::Publish => "publish",
            Needs::Rules => "rules",
            Needs::Watchers => "watchers",
            Needs::InboxRead => "inbox-read",
            Needs::SendAs => "send-as",
        }
    }
}

impl Right {
    fn kind(&self) -> Needs {
        match self {
            Right::Publish(_) | Right::PublishTuple(_) => Needs::Publish,
            Right::Rules => Needs::Rules,
            Right::Watchers => Needs::Watchers,
            Right::InboxRead => Needs::InboxRead,
            Right::SendAs => Needs::SendAs,
        }
    }

    /// What it is about, in the words of who asks.
    fn about(&self) -> String {
        match self {
            Right::Publish(field) => format!("the field {field}"),
            Right::PublishTuple(id) => format!("the tuple {id}"),
            other => other.to_string(),
        }
    }
}

/// The word that rules use.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Right::Publish(field) => write!(f, "publish:{field}"),
            Right::PublishTuple(id) => write!(f, "publish-tuple:{id}"),
            Right::Rules => f.write_str("rules"),
            Right::Watchers => f.write_str("watchers"),
            Right::InboxRead => f.write_str("inbox-read"),
            Right::SendAs => f.write_str("send-as"),
        }
    }
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[delegate]]
id = "calendar"
who = ["cal@a.example"]
rights = ["publish:activities", "publish-tuple:desk"]
until = "2026-12-04T18:00:00Z"

[[delegate]]
id = "also"
who = ["cal@a.example", "help@a.example"]
rights = ["publish:activities", "watchers"]
until = "2026-12-05T18:00:00Z"
"#;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn mandate(who: &str, now: &str) -> Option<Mandate> {
        let [owner, who] = ["alice@a.example", who].map(|text| Address::parse(text).unwrap());
        RuleSet::parse(TEXT).unwrap().mandate(&owner, &who, at(now))
    }

    fn says(field: Option<&str>, tuple: Option<&str>) -> Document {
        let mut said = Document::default();
        let field = field.map(|name| (FieldName::parse(name).unwrap(), "x".into()));
        let tuple = tuple.map(|id| (PartId::parse(id).unwrap(), Default::default()));
        said.person.extend(field);
        said.tuples.extend(tuple);
        said
    }

    #[test]
    fn r2_3_4_rights_of_all_entries_are_united_and_each_ends_with_its_last() {
        let cal = mandate("cal@a.example", "2026-12-04T12:00:00Z").unwrap();
        assert_eq!(cal.rights().count(), 3);
        assert_eq!(cal.ends(&says(Some("activities"), None)), Ok(Some(at("2026-12-05T18:00:00Z"))));
        let both = says(Some("activities"), Some("desk"));
        assert_eq!(cal.ends(&both), Ok(Some(at("2026-12-04T18:00:00Z"))));
        // Nothing may be said as long as anything may.
        assert_eq!(cal.ends(&Document::default()), Ok(Some(at("2026-12-05T18:00:00Z"))));
        let cal = mandate("cal@a.example", "2026-12-04T18:00:00Z").unwrap();
        assert!(cal.ends(&both).is_err() && cal.ends(&says(Some("activities"), None)).is_ok());
        assert_eq!(mandate("cal@a.example", "2026-12-05T18:00:00Z"), None);
    }

    #[test]
    fn r2_3_4_what_is_not_granted_is_named() {
        let help = mandate("help@a.example", "2026-12-01T00:00:00Z").unwrap();
        let beyond = |said| help.ends(&said).unwrap_err().to_string();
        let have = "you have publish:activities, watchers";
        assert_eq!(beyond(says(Some("note"), None)), format!("the field note: {have}"));
        assert_eq!(beyond(says(None, Some("desk"))), format!("the tuple desk: {have}"));
        let mut devices = Document::default();
        devices.devices.insert(PartId::parse("d1").unwrap(), Default::default());
        assert!(beyond(devices).starts_with("the device d1"));
        assert!(help.has(Needs::Watchers) && !help.has(Needs::Rules));
        // A right to something else is none to say nothing.
        let [owner, who] =
            ["alice@a.example", "help@a.example"].map(|a| Address::parse(a).unwrap());
        let text = TEXT.replace("\"publish:activities\", \"watchers\"", "\"watchers\"");
        let rules = RuleSet::parse(&text).unwrap();
        let help = rules.mandate(&owner, &who, at("2026-12-05T12:00:00Z")).unwrap();
        assert_eq!(
            help.ends(&Document::default()).unwrap_err().to_string(),
            "no right says anything"
        );
        assert_eq!(mandate("eve@a.example", "2026-12-01T00:00:00Z"), None);
    }

    /// Acts are kept, and told, by these words.
    #[test]
    fn each_kind_of_right_has_its_word() {
        let words = ["publish", "rules", "watchers", "inbox-read", "send-as"];
        assert_eq!(Needs::EVERY.map(Needs::as_str), words);
        assert_eq!(words.map(|word| Needs::from_name(word).unwrap()), Needs::EVERY);
        assert_eq!(Needs::from_name("publish:note"), None);
    }
}
