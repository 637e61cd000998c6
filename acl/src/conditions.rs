//! The conditions of a rule, all of which must hold: identity, sphere, validity (RFC 4745 7).
//!
//! What a rule grants once they hold is left to the modules of access and delivery.

use impp_protocol::Timestamp;

use crate::identity::{By, Grant, Who};
use crate::named::Sought;

/// A span of time: from its first moment, until just before its last (RFC 4745 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Validity {
    /// The first moment inside.
    pub from: Timestamp,
    /// The first moment behind.
    pub until: Timestamp,
}

/// When a rule applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Whom it is about.
    pub who: Who,
    /// Who is left out although `who` names them.
    pub except: Who,
    /// When; any of the spans, or always if there is none.
    pub valid: Vec<Validity>,
    /// In which spheres of the owner, in lower case; any of them, or all if there is none.
    pub spheres: Vec<String>,
}

/// What conditions look at.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Whose identity is proven, if it is.
    pub(crate) watcher: Option<Sought<'a>>,
    pub(crate) contact: Grant,
    pub(crate) now: Timestamp,
    pub(crate) sphere: Option<&'a str>,
}

/// How a rule took it; only the first of these makes it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    Matched(By<'a>),
    NotNamed,
    Excepted(By<'a>),
    SphereUnknown,
    OtherSphere,
    NotNow,
}

impl Conditions {
    /// Whether all of them hold, and if not, the first that does not. Validity comes last, so
    /// that `NotNow` says that time alone is missing.
    pub(crate) fn test(&self, asked: Asked<'_>) -> Outcome<'_> {
        let Some(by) = self.who.find(asked.watcher, asked.contact) else {
            return Outcome::NotNamed;
        };
        if let Some(by) = self.except.find(asked.watcher, asked.contact) {
            return Outcome::Excepted(by);
        }
        self.test_rest(asked, by)
    }

    /// Whether they would hold if nobody were left out.
    pub(crate) fn hold_but_for_exceptions(&self, asked: Asked<'_>) -> bool {
        let by = self.who.find(asked.watcher, asked.contact);
        by.is_some_and(|by| matches!(self.test_rest(asked, by), Outcome::Matched(_)))
    }

    fn test_rest<'a>(&'a self, asked: Asked<'_>, by: By<'a>) -> Outcome<'a> {
        if !self.spheres.is_empty() {
            let Some(sphere) = asked.sphere else { return Outcome::SphereUnknown };
            if !self.spheres.iter().any(|own| equal_but_case(own, sphere)) {
                return Outcome::OtherSphere;
            }
        }
        let inside = |v: &Validity| v.from <= asked.now && asked.now < v.until;
        if self.valid.is_empty() || self.valid.iter().any(inside) {
            Outcome::Matched(by)
        } else {
            Outcome::NotNow
        }
    }

    /// Whether they would hold now in some sphere of the owner, and not in every one.
    pub(crate) fn hang_on_sphere(&self, asked: Asked<'_>) -> bool {
        let anywhere = self.spheres.first().map(|sphere| Asked { sphere: Some(sphere), ..asked });
        anywhere.is_some_and(|asked| matches!(self.test(asked), Outcome::Matched(_)))
    }

    /// What they look at that only the owner knows, if anything: contacts, or the sphere.
    pub(crate) fn looks_beside_names(&self) -> Option<&'static str> {
        let contacts = (self.who.contacts || self.except.contacts).then_some("contacts");
        contacts.or((!self.spheres.is_empty()).then_some("the sphere"))
    }

    /// The next moment after `now` at which a span begins or ends.
    pub(crate) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.valid.iter().flat_map(|v| [v.from, v.until]).filter(|moment| *moment > now).min()
    }

    /// Whether the rule could match a watcher at some time, in some sphere, with some grant.
    pub(crate) fn may_match(&self, watcher: Sought<'_>) -> bool {
        Grant::EVERY.iter().any(|&contact| {
            self.who.find(Some(watcher), contact).is_some()
                && self.except.find(Some(watcher), contact).is_none()
        })
    }
}

fn equal_but_case(own: &str, other: &str) -> bool {
    own.chars().eq(other.trim().chars().flat_map(char::to_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(conditions: &Conditions, now: u64, sphere: Option<&str>) -> bool {
        let asked =
            Asked { watcher: None, contact: Grant::None, now: Timestamp::from_millis(now), sphere };
        matches!(conditions.test(asked), Outcome::Matched(_))
    }

    fn anyone() -> Conditions {
        Conditions { who: Who { anyone: true, ..Who::default() }, ..Conditions::default() }
    }

    fn span(from: u64, until: u64) -> Validity {
        Validity { from: Timestamp::from_millis(from), until: Timestamp::from_millis(until) }
    }

    #[test]
    fn validity_includes_its_start_and_excludes_its_end() {
        let conditions = Conditions { valid: vec![span(10, 20), span(30, 40)], ..anyone() };
        let when: Vec<u64> = (0..50).filter(|now| outcome(&conditions, *now, None)).collect();
        assert_eq!(when, (10..20).chain(30..40).collect::<Vec<_>>());
        let next = |now| conditions.next_change(Timestamp::from_millis(now));
        assert_eq!(next(5).map(Timestamp::as_millis), Some(10));
        assert_eq!(next(10).map(Timestamp::as_millis), Some(20));
        assert_eq!(next(40), None);
    }

    #[test]
    fn a_sphere_is_compared_without_case_and_unknown_never_matches() {
        let spheres = vec!["work".to_owned(), "büro".to_owned()];
        let conditions = Conditions { spheres, ..anyone() };
        assert!(outcome(&conditions, 0, Some("Work")));
        assert!(outcome(&conditions, 0, Some("BÜRO")));
        assert!(!outcome(&conditions, 0, Some("workshop")));
        assert!(!outcome(&conditions, 0, None));
    }

    #[test]
    fn an_exception_takes_back_what_who_names() {
        let except = Who { anonymous: true, ..Who::default() };
        assert!(!outcome(&Conditions { except, ..anyone() }, 0, None));
    }
}
