//! What waits for an owner's decision: subscriptions and held messages. A decision becomes a
//! rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{
    Acting, DeliveryRuling, FieldSet, NotGrouped, RulesError, Ruling, scope, with_decision,
    with_delivery_decision, with_group,
};
use impp_presence::Follows;
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{
    self, Decision, HeldMessage, RequestEdit, RequestEntry, RequestKind, Requests,
};
use impp_protocol::{Address, Code, Error, SessionId};
use tokio::task::JoinError;

use super::lists;
use super::rules::{Rules, unusable};
use crate::core::answers::{Handled, Stored, after_others};
use crate::core::clock::Clock;
use crate::messages::{Delivery, Held};

/// What is decided about who asks to see.
enum Asked {
    Ruled(Ruling),
    /// They become a member of this group.
    Grouped(String),
}

/// See the module.
#[derive(Clone)]
pub(in crate::session) struct Waiting {
    pub(super) rules: Rules,
    pub(super) delivery: Arc<Delivery>,
    pub(super) clock: Clock,
}

impl Waiting {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Rules>, fetch: Fetch) -> Handled {
        if let Some(about) = &fetch.about {
            return self.fetch_about(acting, about, fetch.cursor.as_ref()).await;
        }
        let entries = self.entries(acting).await?;
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), by_sender);
        let requests = Requests { entries, more: false, messages: Vec::new() };
        Ok(lists::answer(state::encode(&requests), next))
    }

    /// Whoever waits, in the order of the list.
    pub(in crate::session) async fn entries(
        &self,
        acting: &Acting<scope::Rules>,
    ) -> Result<Vec<RequestEntry>, Error> {
        let mut entries = self.asking(acting).await?;
        let held = self.delivery.held(acting.owner()).await?;
        entries.extend(writing(&held));
        entries.sort_by_key(by_sender);
        Ok(entries)
    }

    /// What one asks for, and the messages that are held of it, in parts: in the order in which they came.
    async fn fetch_about(
        &self,
        acting: &Acting<scope::Rules>,
        about: &Address,
        after: Option<&Bytes>,
    ) -> Handled {
        let mut held = self.delivery.held(acting.owner()).await?;
        held.retain(|held| held.from == *about && held.is_read());
        let mut entries = self.asking(acting).await?;
        entries.retain(|entry| entry.from == *about);
        entries.extend(writing(&held));
        held.retain(|held| after.is_none_or(|after| held.place() > *after));
        let message =
            |held: &Held| HeldMessage { since: held.since, message: held.message().clone() };
        let messages = held.iter().map(message).collect();
        let (messages, next) = lists::part(messages, None, |_| Bytes::new());
        let last = messages.len().checked_sub(1).and_then(|last| held.get(last));
        let next = next.and(last.map(Held::place));
        let requests = Requests { entries, more: false, messages };
        Ok(lists::answer(state::encode(&requests), next))
    }

    /// A session follows what waits: it is woken when that may be otherwise.
    pub(in crate::session) async fn follow(
        &self,
        acting: &Acting<scope::Rules>,
        session: SessionId,
    ) -> Result<(), Error> {
        let look = self.rules.principals.look(acting.owner(), |principal, _| {
            principal.presentity.follow_watchers(session, Follows::Requests);
        });
        look.await.stored()
    }

    /// It does no more.
    pub(in crate::session) async fn unfollow(
        &self,
        acting: &Acting<scope::Rules>,
        session: SessionId,
    ) {
        let left = self.rules.principals.look(acting.owner(), |principal, _| {
            principal.presentity.unfollow_watchers(session, Follows::Requests);
        });
        if let Err(error) = left.await {
            tracing::warn!(%error, "that requests are followed no more could not be noted");
        }
    }

    pub(super) async fn publish(&self, acting: &Acting<scope::Rules>, publish: Publish) -> Handled {
        let edit: RequestEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let asks = self.asking(acting).await?.iter().any(|entry| entry.from == edit.from);
        let held = self.has_held(acting, &edit.from).await?;
        if !asks && !held {
            let text = format!("{} does not wait for a decision", edit.from);
            return Err(Error::new(Code::NotFound, text));
        }
        if edit.group.is_some() && edit.decision != Decision::Allow {
            return Err(Error::new(Code::Malformed, "group: only who is allowed becomes a member"));
        }
        let (ruling, delivery) = match edit.decision {
            Decision::Allow => (Ruling::Allow(FieldSet::status()), DeliveryRuling::Accept),
            Decision::Polite => (Ruling::Polite, DeliveryRuling::Drop),
            Decision::Deny => (Ruling::Deny, DeliveryRuling::Refuse),
        };
        // To its end also if who asks is gone: until then what comes from there waits, and what is on
        // its way to being held would stay behind.
        // Into a group comes also who has only written.
        let asked = match edit.group {
            Some(group) => Some(Asked::Grouped(group)),
            None => asks.then_some(Asked::Ruled(ruling)),
        };
        let (waiting, acting, from) = (self.clone(), acting.clone(), edit.from);
        let decided =
            tokio::spawn(
                async move { waiting.decide(&acting, &from, asked, delivery, held).await },
            );
        let failed = |error: JoinError| Error::new(Code::Internal, error.to_string());
        decided.await.map_err(failed)??;
        Ok(Done::empty())
    }

    /// Does what is decided about who asks to follow, or of whom messages are `held`.
    async fn decide(
        &self,
        acting: &Acting<scope::Rules>,
        from: &Address,
        asked: Option<Asked>,
        delivery: DeliveryRuling,
        held: bool,
    ) -> Result<(), Error> {
        if held {
            return self.carry_out(acting, from, asked.as_ref(), delivery).await;
        }
        self.rule(acting, from, asked.as_ref(), None).await?;
        // Also what was judged by the rules of before just now, and is on its way: it would stay behind
        // as a request of somebody about whom is decided.
        if self.has_held(acting, from).await? {
            self.carry_out(acting, from, None, delivery).await.map_err(after_others)?;
        }
        Ok(())
    }

    /// Makes rules of a decision, all in one step: about who asks to follow, and about who writes.
    async fn rule(
        &self,
        acting: &Acting<scope::Rules>,
        from: &Address,
        asked: Option<&Asked>,
        delivery: Option<DeliveryRuling>,
    ) -> Result<(), Error> {
        let edit = |text: &str| {
            let text = match asked {
                None => text.to_owned(),
                Some(Asked::Ruled(ruling)) => with_decision(text, from, ruling).map_err(unfit)?,
                Some(Asked::Grouped(group)) => with_group(text, from, group).map_err(ungrouped)?,
            };
            match delivery {
                None => Ok(text),
                Some(ruling) => with_delivery_decision(&text, from, ruling).map_err(unfit),
            }
        };
        self.rules.edit(acting, edit).await
    }

    /// Makes rules of a decision, and does by them with what is held.
    async fn carry_out(
        &self,
        acting: &Acting<scope::Rules>,
        from: &Address,
        asked: Option<&Asked>,
        ruling: DeliveryRuling,
    ) -> Result<(), Error> {
        let (owner, principals) = (acting.owner(), &self.rules.principals);
        let moves = principals.look(owner, |principal, _| principal.held.begin_moving(from));
        let moving = moves.await.stored()?;
        self.rule(acting, from, asked, Some(ruling)).await?;
        let decided = principals.look(owner, |principal, _| principal.held.decided(from));
        decided.await.stored()?;
        let moved = self.delivery.move_held(owner, from, moving).await;
        if !matches!(moved, Ok(true)) {
            // What is left is moved as soon as it can be, whoever is told what.
            self.delivery.go_on(owner).await;
        }
        moved.map(drop).map_err(after_others)
    }

    async fn asking(&self, acting: &Acting<scope::Rules>) -> Result<Vec<RequestEntry>, Error> {
        let look = self.rules.principals.look(acting.owner(), |principal, _| {
            let watchers = principal.presentity.watchers();
            watchers
                .filter(|(_, watching)| watching.is_waiting())
                .map(|(from, watching)| RequestEntry {
                    kind: RequestKind::Subscribe,
                    from: from.clone(),
                    since: self.clock.told(watching.since),
                    count: None,
                })
                .collect()
        });
        look.await.stored()
    }

    /// Whether anything of a sender is held, or on the way to it.
    async fn has_held(&self, acting: &Acting<scope::Rules>, from: &Address) -> Result<bool, Error> {
        let look = self.rules.principals.look(acting.owner(), |p, _| p.held.has(from));
        look.await.stored()
    }
}

fn unfit(error: RulesError) -> Error {
    unusable(&error)
}

fn ungrouped(error: NotGrouped) -> Error {
    match error {
        NotGrouped::Unusable(error) => unusable(&error),
        NotGrouped::Unknown { .. } => Error::new(Code::NotFound, error.to_string()),
        NotGrouped::ShutOut { .. } => Error::new(Code::Refused, error.to_string()),
    }
}

/// Who has written and is held, and how often.
fn writing(held: &[Held]) -> impl Iterator<Item = RequestEntry> {
    let mut by_sender = BTreeMap::new();
    for held in held.iter().filter(|held| held.is_read()) {
        let (since, count) = by_sender.entry(held.from.clone()).or_insert((held.since, 0));
        (*since, *count) = (held.since.min(*since), *count + 1);
    }
    let entry = |(from, (since, count))| {
        let kind = RequestKind::Message;
        RequestEntry { kind, from, since, count: Some(count) }
    };
    by_sender.into_iter().map(entry)
}

/// What the list is sorted by.
pub(in crate::session) fn by_sender(entry: &RequestEntry) -> Bytes {
    Bytes::from(format!("{} {}", entry.from.as_str(), entry.kind.number()))
}
