//! What an owner's rules say of somebody, and why; or would say, were the rules, the time or the sphere
//! others. It is the decision that is acted on, never one made beside it.
//!
//! Reading and replacing rules is `rules`'.

use std::sync::Arc;

use impp_acl::{
    Decision, DeliveryExplanation, DeliveryQuestion, Outline, Purpose, Question, RuleSet, Watcher,
    explain, explain_delivery, explain_delivery_unsure, explain_unsure,
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

    /// The rules that it supposes.
    pub(super) fn rules(&self) -> Option<&RuleSet> {
        self.rules.as_deref()
    }

    /// Answers it, for a presentity of this owner; to a delegate, if it is one who asks.
    pub(super) fn answer(
        self,
        owner: &Address,
        delegate: Option<&Address>,
        of: &Presentity,
        now: Timestamp,
    ) -> Handled {
        let own = delegate.map(|who| Asked::now(owner, of, Watcher::of(who), now));
        if own.is_some() && self.view.is_some() && self.about == *owner {
            let text = "view: what the owner sees is all that there is, and for nobody else";
            return Err(Error::new(Code::Refused, text));
        }
        let mut asked = Asked::now(owner, of, Watcher::of(&self.about), now);
        asked.confided = own.is_some();
        if let Some(rules) = self.rules {
            asked.policy.rules = rules;
        }
        if let Some(sphere) = &self.sphere {
            asked.sphere = Sphere::Is(Some(&**sphere).filter(|sphere| !sphere.is_empty()));
        }
        if let Some(at) = self.at {
            asked.now = at.shifted(-asked.policy.ahead);
        }
        if let Some(purpose) = self.view {
            return asked.view(purpose, own.as_ref());
        }
        let explanation = match self.delivery {
            true => asked.delivery(self.about),
            false => asked.access(self.about),
        };
        Ok(Done { content: Some(state::encode(&explanation)), ..Done::empty() })
    }
}

/// What becomes of somebody who follows, who looks once, and who writes, in names alone.
pub(super) fn outlines(
    owner: &Address,
    of: &Presentity,
    watcher: Watcher,
    now: Timestamp,
) -> [Outline; 3] {
    let asked = Asked::now(owner, of, watcher, now);
    let [follow, once] =
        [Purpose::Subscribe, Purpose::Fetch].map(|purpose| asked.seen(purpose).outline());
    [follow, once, asked.written().outline()]
}

/// All that the answer is made of.
struct Asked<'a> {
    owner: &'a Address,
    of: &'a Presentity,
    watcher: Watcher,
    policy: Policy,
    now: Timestamp,
    sphere: Sphere<'a>,
    /// A delegate asks about somebody, who is told less.
    confided: bool,
}

impl<'a> Asked<'a> {
    /// As things are.
    fn now(owner: &'a Address, of: &'a Presentity, watcher: Watcher, now: Timestamp) -> Asked<'a> {
        let sphere = match of.sphere_lost_until() {
            Some(_) => Sphere::Lost,
            None => Sphere::Is(of.sphere()),
        };
        let policy = of.policy().clone();
        Asked { owner, of, watcher, policy, now, sphere, confided: false }
    }

    fn decide(&self, purpose: Purpose) -> Decision {
        let stands = match &self.watcher {
            // Where the sphere is lost it makes a difference, which would tell a delegate who watches.
            Watcher::Principal(who) if !self.confided => {
                self.of.watcher(who).map(|watching| watching.state)
            }
            _ => None,
        };
        self.policy.decide_for(self.owner, &self.watcher, purpose, self.now, self.sphere, stands)
    }

    /// What they see. Who is refused is told so; the owner is told that they would be. A delegate, of whom
    /// `own` asks, is told what of it that sees as things are.
    fn view(&self, purpose: Purpose, own: Option<&Asked<'_>>) -> Handled {
        let own = own.map(|own| own.decide(purpose));
        match self.of.seen_by(&self.decide(purpose), own.as_ref()) {
            (Fetched::Refused, _) => {
                Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() })
            }
            (seen, names) => Ok(Done { names, ..notify::fetched(self.owner, seen)? }),
        }
    }

    /// Why somebody who follows, or who looks once, sees what they see.
    fn seen(&self, purpose: Purpose) -> impp_acl::Explanation {
        let (policy, now) = (&self.policy, self.policy.wall(self.now));
        let watcher = &self.watcher;
        let (owner, domain, contact) = (self.owner, &*policy.domain, policy.grant(watcher));
        let question = |sphere| Question { owner, watcher, purpose, now, sphere, contact, domain };
        match (self.sphere, self.of.sphere_lost_until()) {
            (Sphere::Lost, Some(until)) => {
                let (decision, until) = (self.decide(purpose), policy.wall(until));
                explain_unsure(&policy.rules, &question(None), decision, until)
            }
            (Sphere::Is(sphere), _) => explain(&policy.rules, &question(sphere)),
            (Sphere::Lost, None) => explain(&policy.rules, &question(None)),
        }
    }

    /// Following and looking once may be handled apart: each by the decision that serves.
    fn access(self, watcher: Address) -> Explanation {
        let [follow, once] = [Purpose::Subscribe, Purpose::Fetch].map(|purpose| {
            let told = self.seen(purpose);
            if self.confided { told.confided(&self.policy.rules) } else { told }
        });
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
            watcher,
        }
    }

    /// Why a message of theirs becomes what it becomes.
    fn written(&self) -> DeliveryExplanation {
        let (policy, now) = (&self.policy, self.policy.wall(self.now));
        let sender = &self.watcher;
        let (owner, contact) = (self.owner, policy.grant(sender));
        let question = |sphere| DeliveryQuestion { owner, sender, now, sphere, contact };
        match (self.sphere, self.of.sphere_lost_until()) {
            (Sphere::Lost, Some(until)) => {
                explain_delivery_unsure(&policy.rules, &question(None), policy.wall(until))
            }
            (Sphere::Is(sphere), _) => explain_delivery(&policy.rules, &question(sphere)),
            (Sphere::Lost, None) => explain_delivery(&policy.rules, &question(None)),
        }
    }

    fn delivery(self, watcher: Address) -> Explanation {
        let told = self.written();
        let told = if self.confided { told.confided(&self.policy.rules) } else { told };
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
            watcher,
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
