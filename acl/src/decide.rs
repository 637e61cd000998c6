//! May this watcher see, and what: access rules into a decision (RFC 4745 10, RFC 5025 3).
//!
//! What the decision does to a document is in [`crate::view`], its words for the owner in
//! [`crate::explain`]; asking again when rules, contacts, sphere or time change is the server's.

use impp_protocol::{Address, Timestamp};

use crate::conditions::{Asked, Conditions, Outcome};
use crate::domain::DomainPolicy;
use crate::grants::Grants;
use crate::identity::{By, Grant, Watcher};
use crate::matched::Matched;
use crate::rules::{Handling, Rule, RuleSet};

/// What the watcher wants (RFC 2779 2.3.2 has them decided apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To follow.
    Subscribe,
    /// To look once.
    Fetch,
}

/// All that a decision looks at beside the rules.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose presence it is.
    pub owner: &'a Address,
    /// Who asks.
    pub watcher: &'a Watcher,
    /// What for.
    pub purpose: Purpose,
    /// The time.
    pub now: Timestamp,
    /// The owner's sphere, if it is known.
    pub sphere: Option<&'a str>,
    /// What the owner's contact list grants to the watcher.
    pub contact: Grant,
    /// What the owner's domain lays down.
    pub domain: &'a DomainPolicy,
}

/// What becomes of a question. Which rules made it so is reckoned anew where somebody asks
/// ([`crate::explain`]): every watcher has one of these.
///
/// Rules alone make it:
///
/// ```compile_fail
/// # use impp_acl::{Decision, Grants, Handling};
/// let _ = Decision { handling: Handling::Allow, grants: Grants::everything() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(crate) handling: Handling,
    pub(crate) grants: Grants,
    /// The end of all times, if there is none.
    until: Timestamp,
}

/// Which rules made a decision, each by its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    /// Of [`RuleSet::rules`], those that match.
    pub matched: Matched,
    /// Of the domain's floor.
    pub floors: Matched,
    /// Of the domain's ceiling.
    pub ceilings: Matched,
    /// No rule was asked, because the owner looks at itself.
    pub by_owner: bool,
}

impl Decision {
    /// What becomes of the subscription or fetch.
    pub fn handling(&self) -> Handling {
        self.handling
    }

    /// What matching rules grant together. It shows only if the handling is allow.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The next moment at which time alone may change the decision.
    pub fn until(&self) -> Option<Timestamp> {
        (self.until < Timestamp::MAX).then_some(self.until)
    }

    /// The same decision, with its moment by a clock that is so many milliseconds ahead of the one by
    /// which it was made.
    #[must_use]
    pub fn by_clock_ahead(self, millis: i64) -> Decision {
        let until = self.until().map(|until| until.shifted(millis));
        Decision { until: until.unwrap_or(Timestamp::MAX), ..self }
    }

    /// The same, to be looked at again by then.
    #[must_use]
    pub fn until_at_most(self, at: Timestamp) -> Decision {
        Decision { until: self.until.min(at), ..self }
    }

    /// The same put off: it waits for its owner, or else is taken and shown nothing.
    pub fn put_off(self, waits: bool) -> Decision {
        let handling = if waits { Handling::Confirm } else { Handling::PoliteBlock };
        Decision { handling, ..self }
    }
}

/// Decides by the rules; without a matching one the answer is block.
///
/// Fields and parts are united over all matching rules, whatever each does with the watcher
/// (RFC 4745 10.2), so a fetch shows what a subscription would. The domain's floor is rules beside
/// the owner's; its ceiling cuts what all of them have made. The owner sees everything.
pub fn decide(rules: &RuleSet, question: &Question<'_>) -> Decision {
    reasoned(rules, question).0
}

/// Decides, and keeps which rules did it.
pub(crate) fn reasoned(rules: &RuleSet, question: &Question<'_>) -> (Decision, Reasons) {
    let (decision, mut reasons) = united(rules, question);
    (decision.beneath_ceiling(question, &mut reasons), reasons)
}

/// What the owner's rules and the floor make together.
fn united(rules: &RuleSet, question: &Question<'_>) -> (Decision, Reasons) {
    let mut decision =
        Decision { handling: Handling::Block, grants: Grants::nothing(), until: Timestamp::MAX };
    let mut reasons = Reasons::default();
    if matches!(question.watcher, Watcher::Principal(address) if address == question.owner) {
        decision.handling = Handling::Allow;
        decision.grants = Grants::everything();
        reasons.by_owner = true;
        return (decision, reasons);
    }
    let asked = question.asked();
    for (index, rule) in rules.rules.iter().enumerate() {
        if decision.matches(&rule.conditions, asked) {
            decision.add(rule, question);
            reasons.matched.add(index);
        }
    }
    for (index, rule) in question.domain.floors.iter().enumerate() {
        if decision.matches(&rule.conditions, asked) {
            decision.add(rule, question);
            reasons.floors.add(index);
        }
    }
    (decision, reasons)
}

impl Decision {
    /// Whether conditions hold; and when time alone may change that.
    fn matches(&mut self, conditions: &Conditions, asked: Asked<'_>) -> bool {
        let outcome = conditions.test(asked);
        if matches!(outcome, Outcome::Matched(_) | Outcome::NotNow) {
            let next = conditions.next_change(asked.now);
            self.until = next.into_iter().fold(self.until, Timestamp::min);
        }
        matches!(outcome, Outcome::Matched(_))
    }

    fn add(&mut self, rule: &Rule, question: &Question<'_>) {
        let handling = rule.handling_for(question.purpose);
        // About somebody without a name nobody can be asked.
        let unnamed = *question.watcher == Watcher::Anonymous && handling == Handling::Confirm;
        let handling = if unnamed { Handling::Block } else { handling };
        self.handling = self.handling.max(handling);
        self.grants.unite(rule.grants_for(question));
    }

    fn beneath_ceiling(mut self, question: &Question<'_>, reasons: &mut Reasons) -> Decision {
        let ceilings = &question.domain.ceilings;
        if reasons.by_owner || ceilings.is_empty() {
            return self;
        }
        let asked = question.asked();
        for (index, ceiling) in ceilings.iter().enumerate() {
            if self.matches(&ceiling.conditions, asked) {
                self.handling = self.handling.beneath(ceiling.handling_for(question.purpose));
                self.grants = self.grants.cut(&ceiling.fields);
                reasons.ceilings.add(index);
            }
        }
        self
    }
}

/// Decides where the owner's sphere is not known for now: as where there is none; and whether it hangs
/// on the sphere, so that in some sphere more is allowed, or shown.
///
/// Rules only grant, so where no rule of a sphere adds anything, the decision is that of every sphere.
pub fn decide_unsure(rules: &RuleSet, question: &Question<'_>) -> (Decision, bool) {
    let question = &Question { sphere: None, ..*question };
    let (united, mut reasons) = united(rules, question);
    let decision = united.clone().beneath_ceiling(question, &mut reasons);
    let by_owner = reasons.by_owner;
    let adds = |rule: &Rule| {
        let mut with = united.clone();
        with.add(rule, question);
        let with = with.beneath_ceiling(question, &mut reasons);
        let shows = || !decision.grants.includes(&with.grants);
        with.handling > decision.handling || (with.handling == Handling::Allow && shows())
    };
    let asked = question.asked();
    let mut more = rules.rules.iter().filter(|rule| rule.conditions.hang_on_sphere(asked));
    let hangs = !by_owner && more.any(adds);
    (decision, hangs)
}

impl<'a> Question<'a> {
    pub(crate) fn asked(&self) -> Asked<'a> {
        let watcher = self.watcher.sought();
        Asked { watcher, contact: self.contact, now: self.now, sphere: self.sphere }
    }
}

impl Rule {
    pub(crate) fn handling_for(&self, purpose: Purpose) -> Handling {
        match purpose {
            Purpose::Subscribe => self.handling,
            Purpose::Fetch => self.fetch(),
        }
    }

    /// What the rule, if it matches, grants: what it says, or for contacts what the entry grants.
    pub(crate) fn grants_for(&self, question: &Question<'_>) -> &Grants {
        match (&self.by_entry, question.watcher, question.contact) {
            (Some([status, _]), Watcher::Principal(_), Grant::Status) => status,
            (Some([_, all]), Watcher::Principal(_), Grant::All) => all,
            _ => &self.grants,
        }
    }

    /// Whether the rule's grants come from the watcher's entry.
    pub(crate) fn grants_by_entry(&self, by: By<'_>) -> bool {
        by == By::Contacts && self.fields.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [groups]
        friends = ["bob@localhost", "carol@localhost"]

        [[rule]]
        id = "friends"
        who = ["group:friends"]
        except = ["carol@localhost"]
        handling = "allow"
        fields = ["note"]
        tuples = ["class:work"]

        [[rule]]
        id = "contacts"
        who = ["contacts"]
        handling = "allow"

        [[rule]]
        id = "ask"
        who = ["authenticated"]
        handling = "confirm"
        fetch = "polite-block"

        [[rule]]
        id = "december"
        who = ["anyone"]
        handling = "polite-block"
        valid = ["2026-12-01T00:00:00Z/2026-12-24T00:00:00Z"]
    "#;

    fn ask(watcher: &str, purpose: Purpose, now: &str, contact: Grant) -> Decision {
        why(watcher, purpose, now, contact).0
    }

    /// The same, and the rules that match.
    fn why(watcher: &str, purpose: Purpose, now: &str, contact: Grant) -> (Decision, Matched) {
        let watcher = Address::parse(watcher).map_or(Watcher::Anonymous, Watcher::Principal);
        let question = Question {
            owner: &Address::parse("alice@localhost").unwrap(),
            watcher: &watcher,
            purpose,
            now: Timestamp::parse(now).unwrap(),
            sphere: None,
            contact,
            domain: DomainPolicy::none(),
        };
        let (decision, reasons) = reasoned(&RuleSet::parse(RULES).unwrap(), &question);
        (decision, reasons.matched)
    }

    const JUNE: &str = "2026-06-01T00:00:00Z";
    const ADVENT: &str = "2026-12-06T00:00:00Z";

    #[test]
    fn the_largest_handling_wins_and_grants_unite() {
        let (bob, matched) = why("bob@localhost", Purpose::Subscribe, JUNE, Grant::None);
        assert_eq!((bob.handling(), matched), (Handling::Allow, Matched::from_iter([0, 2])));
        assert_eq!(bob.grants().words(), ["note", "class:work"]);
        let contact = ask("bob@localhost", Purpose::Subscribe, JUNE, Grant::Status);
        assert_eq!(contact.grants().words(), ["note", "status"]);
        let (carol, matched) = why("carol@localhost", Purpose::Subscribe, JUNE, Grant::None);
        assert_eq!((carol.handling(), matched), (Handling::Confirm, Matched::from_iter([2])));
    }

    #[test]
    fn req_2_3_2_fetch_is_decided_apart() {
        let handling = |purpose| ask("x@b.example", purpose, JUNE, Grant::None).handling();
        assert_eq!(handling(Purpose::Subscribe), Handling::Confirm);
        assert_eq!(handling(Purpose::Fetch), Handling::PoliteBlock);
    }

    #[test]
    fn what_no_rule_grants_is_blocked() {
        let (nobody, matched) = why("", Purpose::Fetch, JUNE, Grant::None);
        assert_eq!((nobody.handling(), matched), (Handling::Block, Matched::default()));
        assert_eq!(nobody.grants(), &Grants::nothing());
    }

    #[test]
    fn until_is_when_time_alone_changes_it() {
        let at = |now| ask("", Purpose::Fetch, now, Grant::None);
        assert_eq!(at(JUNE).until(), Timestamp::parse("2026-12-01T00:00:00Z"));
        assert_eq!(at(ADVENT).handling(), Handling::PoliteBlock);
        assert_eq!(at(ADVENT).until(), Timestamp::parse("2026-12-24T00:00:00Z"));
        assert_eq!(at("2027-01-01T00:00:00Z").until(), None);
        // By another clock, and to be looked at sooner for another reason.
        let ends = Timestamp::parse("2026-12-24T00:00:00Z").unwrap();
        assert_eq!(at(ADVENT).by_clock_ahead(-7).until(), Some(ends.shifted(-7)));
        let [sooner, later] = [-1, 1].map(|millis| ends.shifted(millis));
        assert_eq!(at(ADVENT).until_at_most(sooner).until(), Some(sooner));
        assert_eq!(at(ADVENT).until_at_most(later).until(), Some(ends));
    }

    #[test]
    fn an_entry_grants_what_it_says() {
        let words = |contact| {
            let decision = ask("dana@b.example", Purpose::Subscribe, JUNE, contact);
            (decision.handling(), decision.grants().words())
        };
        assert_eq!(words(Grant::None), (Handling::Confirm, vec![]));
        assert_eq!(words(Grant::Status), (Handling::Allow, vec!["status".to_owned()]));
        assert_eq!(words(Grant::All), (Handling::Allow, vec!["all".to_owned()]));
    }

    #[test]
    fn the_owner_sees_everything_of_its_own() {
        let (own, matched) = why("alice@localhost", Purpose::Fetch, JUNE, Grant::None);
        assert_eq!(matched, Matched::default());
        assert_eq!((own.handling(), own.grants()), (Handling::Allow, &Grants::everything()));
        // Beneath a ceiling too.
        let ceiling = "[[ceiling]]\nid = \"c\"\nwho = [\"anyone\"]\nhandling = \"block\"";
        let owner = Address::parse("alice@localhost").unwrap();
        let beneath = Question {
            owner: &owner,
            watcher: &Watcher::Principal(owner.clone()),
            purpose: Purpose::Fetch,
            now: Timestamp::from_millis(0),
            sphere: None,
            contact: Grant::None,
            domain: &DomainPolicy::parse(ceiling).unwrap(),
        };
        assert_eq!(decide(&RuleSet::parse(RULES).unwrap(), &beneath), own);
    }
}
