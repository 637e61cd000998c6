//! What an owner's rules say of somebody, and why; or would say, were the rules, the time or the sphere
//! others. It is the decision that is acted on, never one made beside it.
//!
//! Reading and replacing rules is `rules`'.

use std::sync::Arc;

use impp_acl::{
    Decision, DeliveryQuestion, Purpose, Question, RuleSet, Watcher, explain, explain_delivery,
    explain_delivery_unsure, explain_unsure,
};
use impp_presence::{Fetched, Policy, Presentity, Sphere};
use impp_protocol::command::{Done, Fetch};
use impp_protocol::state::{self, Explanation, RuleTrace, SubscriptionState};
use impp_protocol::{Address, Code, Error, Timestamp};

use super::rules::unusable;
use crate::core::answers::Handled;
use crate::core::notify;

/// A question of an owner's about its rules.
pub(super) struct Supposed {
    about: Address,
    delivery: bool,
    /// The document, as it is seen by who looks once or follows, instead of why.
    view: Option<Purpose>,
    rules: Option<Arc<RuleSet>>,
    /// By the clock on the wall.
    at: Option<Timestamp>,
    sphere: Option<String>,
}

impl Supposed {
    /// Reads it, and the rules in it.
    pub(super) fn of(fetch: Fetch) -> Result<Supposed, Error> {
        let wrong = |text: &str| Error::new(Code::Malformed, text);
        let about = fetch.about.ok_or_else(|| wrong("about: missing"))?;
        if fetch.delivery && fetch.view {
            return Err(wrong("view: not of delivery rules"));
        }
        let rules = match fetch.rules {
            None => None,
            Some(text) => {
                let text = str::from_utf8(&text).map_err(|_| wrong("rules: not UTF-8"))?;
                Some(Arc::new(RuleSet::parse(text).map_err(|error| unusable(&error))?))
            }
        };
        let purpose = if fetch.once { Purpose::Fetch } else { Purpose::Subscribe };
        Ok(Supposed {
            about,
            delivery: fetch.delivery,
            view: fetch.view.then_some(purpose),
            rules,
            at: fetch.at,
            sphere: fetch.sphere,
        })
    }

    /// Answers it, for a presentity of this owner.
    pub(super) fn answer(self, owner: &Address, of: &Presentity, now: Timestamp) -> Handled {
        let mut policy = of.policy().clone();
        if let Some(rules) = self.rules {
            policy.rules = rules;
        }
        let sphere = match &self.sphere {
            Some(sphere) => Sphere::Is(Some(&**sphere).filter(|sphere| !sphere.is_empty())),
            None if of.sphere_lost_until().is_some() => Sphere::Lost,
            None => Sphere::Is(of.sphere()),
        };
        let now = self.at.map_or(now, |at| at.shifted(-policy.ahead));
        let asked = Asked { owner, of, about: self.about, policy, now, sphere };
        if let Some(purpose) = self.view {
            return asked.view(purpose);
        }
        let explanation = if self.delivery { asked.delivery() } else { asked.access() };
        Ok(Done { content: Some(state::encode(&explanation)), ..Done::empty() })
    }
}

/// All that the answer is made of.
struct Asked<'a> {
    owner: &'a Address,
    of: &'a Presentity,
    about: Address,
    policy: Policy,
    now: Timestamp,
    sphere: Sphere<'a>,
}

impl Asked<'_> {
    fn decide(&self, purpose: Purpose) -> Decision {
        let watcher = Watcher::Principal(self.about.clone());
        let stands = self.of.watcher(&self.about).map(|watching| watching.state);
        self.policy.decide_for(self.owner, &watcher, purpose, self.now, self.sphere, stands)
    }

    /// What they see. Who is refused is told so; the owner is told that they would be.
    fn view(&self, purpose: Purpose) -> Handled {
        match self.of.seen_by(&self.decide(purpose)) {
            Fetched::Refused => {
                Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() })
            }
            seen => notify::fetched(self.owner, seen),
        }
    }

    /// Following and looking once may be handled apart: each by the decision that serves.
    fn access(self) -> Explanation {
        let (policy, wall) = (&self.policy, self.policy.wall(self.now));
        let watcher = &Watcher::Principal(self.about.clone());
        let (owner, domain, contact) = (self.owner, &*policy.domain, policy.grant(watcher));
        let told = |purpose| {
            let question =
                |sphere| Question { owner, watcher, purpose, now: wall, sphere, contact, domain };
            match (self.sphere, self.of.sphere_lost_until()) {
                (Sphere::Lost, Some(until)) => {
                    let (decision, until) = (self.decide(purpose), policy.wall(until));
                    explain_unsure(&policy.rules, &question(None), decision, until)
                }
                (Sphere::Is(sphere), _) => explain(&policy.rules, &question(sphere)),
                (Sphere::Lost, None) => explain(&policy.rules, &question(None)),
            }
        };
        let (follow, once) = (told(Purpose::Subscribe), told(Purpose::Fetch));
        Explanation {
            owner: self.owner.clone(),
            decision: follow.decision.handling().to_string(),
            fields: follow.fields,
            rules: traces(follow.rules),
            fetch_decision: Some(once.decision.handling().to_string()),
            fetch_fields: once.fields,
            fetch_rules: traces(once.rules),
            parts: follow.parts,
            fetch_parts: once.parts,
            rate: None,
            watcher: self.about,
        }
    }

    fn delivery(self) -> Explanation {
        let (policy, now) = (&self.policy, self.policy.wall(self.now));
        let sender = &Watcher::Principal(self.about.clone());
        let (owner, contact) = (self.owner, policy.grant(sender));
        let question = |sphere| DeliveryQuestion { owner, sender, now, sphere, contact };
        let told = match (self.sphere, self.of.sphere_lost_until()) {
            (Sphere::Lost, Some(until)) => {
                explain_delivery_unsure(&policy.rules, &question(None), policy.wall(until))
            }
            (Sphere::Is(sphere), _) => explain_delivery(&policy.rules, &question(sphere)),
            (Sphere::Lost, None) => explain_delivery(&policy.rules, &question(None)),
        };
        Explanation {
            owner: self.owner.clone(),
            decision: told.decision.action().to_string(),
            fields: vec![],
            rules: traces(told.rules),
            fetch_decision: None,
            fetch_fields: vec![],
            fetch_rules: vec![],
            parts: vec![],
            fetch_parts: vec![],
            rate: told.decision.rate().map(|rate| rate.to_string()),
            watcher: self.about,
        }
    }
}

fn traces(rules: Vec<impp_acl::RuleTrace>) -> Vec<RuleTrace> {
    let trace = |rule: impp_acl::RuleTrace| RuleTrace {
        id: rule.id,
        matched: rule.matched,
        why: rule.why,
        grants: rule.grants,
    };
    rules.into_iter().map(trace).collect()
}
