//! Hearing answers, and what it is told unasked.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Done, Notify, Outcome};
use impp_protocol::presence::{Document, Patch, Version};
use impp_protocol::state::{self, Page, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Command, Error, Request, What};
use tokio::time::Instant;

use super::{Asked, Device, Seen};
use crate::world::readings;

impl Device {
    pub(super) async fn hear(&mut self, request: Request) {
        let Some(session) = &mut self.session else { return };
        (session.heard, session.pinged) = (Instant::now(), false);
        match request.command {
            Command::Ping(_) => self.say(request.number, Done::empty()).await,
            Command::Bye(bye) => {
                if matches!(bye.reason, ByeReason::Protocol | ByeReason::Revoked) {
                    self.wrong(&format!("it was told {bye:?}"));
                }
                self.lose("goodbye");
                if let Some(after) = bye.retry_after {
                    self.next_try += after;
                }
            }
            Command::Notify(notify) => self.told(notify).await,
            Command::Ok(done) => match session.open.remove(&request.number) {
                Some(asked) => self.done(asked, &done),
                None => self.wrong(&format!("{} was answered and not asked", request.number)),
            },
            Command::Error(error) => match session.open.remove(&request.number) {
                Some(asked) => self.refused(asked, &error),
                None => self.wrong(&format!("{error} to {}, not asked", request.number)),
            },
            other => self.wrong(&format!("it was told {other:?}")),
        }
    }

    pub(super) fn done(&mut self, asked: Asked, done: &Done) {
        let now = self.net.millis();
        match asked {
            Asked::Message(index) => {
                self.outbox.retain(|other| *other != index);
                let outcome = done.outcome.unwrap_or(Outcome::Sent);
                self.facts.lock().messages[index].answer = Some(Ok(outcome));
            }
            Asked::Layer(value, asked) => self.layer_done(value, (asked, now), done),
            Asked::RulesVersion => self.rules_base = done.number,
            Asked::Rules(index, _) => {
                self.rules_base = done.number;
                self.rules_due.take_if(|due| *due == index);
                self.facts.lock().rules_hold(&self.who, index, now);
            }
            Asked::Peek(who, since) => {
                let document = done.content.clone().and_then(|c| Document::decode(c).ok());
                if let Some(document) = document {
                    let mut facts = self.facts.lock();
                    facts.shown(&self.who, &who, &document);
                    facts.stands(&self.who, &who, &document, since);
                }
            }
            Asked::Follow(who) => self.answered(&who, done),
            Asked::Unfollow(who) => {
                self.leaves.remove(&who);
                if let Some(session) = &mut self.session {
                    session.subscribed.remove(&who);
                }
            }
            Asked::Log => {
                if let Some(session) = &mut self.session {
                    session.log = true;
                }
            }
            Asked::Acknowledge => self.ack_due = false,
            Asked::Delete(cursor, id) => {
                self.deletes.retain(|(other, _)| *other != cursor);
                self.facts.lock().deleted(&self.who, id);
            }
            Asked::Other => {}
        }
    }

    /// The layer stands as it was asked for, and its lease is as long as a reading of the settings says.
    fn layer_done(&mut self, value: Option<(String, bool)>, times: (u64, u64), done: &Done) {
        let value = value.map(|(value, _)| value);
        let mut facts = self.facts.lock();
        if let Some(lease) = done.lease.filter(|lease| !lease.is_zero()) {
            let reading = readings::of_lease(lease.as_secs());
            facts.answered_by(&self.who.domain(), times, &[reading]);
        }
        facts.layer_stands(&self.name, value.as_ref(), times.1);
        self.layer_due &= self.layer.as_ref().map(|(now, _)| now) != value.as_ref();
    }

    pub(super) fn answered(&mut self, who: &Address, done: &Done) {
        if !self.follows.contains(who) {
            return;
        }
        if let Some(session) = &mut self.session {
            session.subscribed.insert(who.clone());
        }
        let seen = self.seen.entry(who.clone()).or_default();
        seen.state = done.state;
        use SubscriptionState::{Active, Stale};
        if !matches!(done.state, Some(Active | Stale)) {
            seen.held = None;
        }
    }

    pub(super) fn refused(&mut self, asked: Asked, error: &Error) {
        use Code::{Busy, RateLimited, Stopping, Storage, Unreachable};
        let transient = matches!(error.code, Busy | RateLimited | Storage | Stopping | Unreachable);
        if transient {
            let rest = error.retry_after.unwrap_or_default();
            let rest = rest + Duration::from_millis(self.dice.u64(200..3000));
            if let Some(session) = &mut self.session {
                session.rest = Some(Instant::now() + rest);
            }
        }
        match (asked, transient) {
            (Asked::Message(index), _) => {
                let mut facts = self.facts.lock();
                let sent = &mut facts.messages[index];
                sent.again |= transient;
                if !transient {
                    sent.answer = Some(Err(error.code));
                    self.outbox.retain(|other| *other != index);
                }
            }
            (Asked::Rules(index, first), _) => {
                self.rules_base = None;
                if first {
                    let text = error.text.as_deref().unwrap_or_default();
                    let known = error.code != Code::Storage || text.contains("nothing was stored");
                    let now = self.net.millis();
                    self.facts.lock().rules_fail(&self.who, index, now, known);
                }
            }
            (Asked::Layer(Some((value, true)), _), true) => self.facts.lock().not_stored(&value),
            (Asked::Follow(who), false) if error.code == Code::Refused => {
                let seen = self.seen.entry(who).or_default();
                *seen = Seen { refused: true, ..Seen::default() };
            }
            // It is asked for again, or looked at another time.
            (Asked::Peek(..), _) | (_, true) => {}
            (asked, false) => self.wrong(&format!("{asked:?} was answered {error}")),
        }
    }

    pub(super) async fn told(&mut self, notify: Notify) {
        match notify.what {
            What::Presence => self.told_presence(notify),
            What::Log => self.told_items(notify),
            other => self.wrong(&format!("it was told of {other:?}")),
        }
    }

    /// As section 10 says, step by step.
    pub(super) fn told_presence(&mut self, notify: Notify) {
        let of = notify.address.clone();
        let known = self.session.as_ref().is_some_and(|s| s.subscribed.contains(&of));
        if !known || !self.follows.contains(&of) {
            return;
        }
        let seen = self.seen.entry(of.clone()).or_default();
        seen.state = Some(notify.state);
        use SubscriptionState::{Active, Stale, Terminated};
        if !matches!(notify.state, Active | Stale) {
            seen.held = None;
            seen.refused |= notify.state == Terminated
                && matches!(notify.event, Some(SubscriptionEvent::Rejected));
            if notify.state == Terminated
                && let Some(session) = &mut self.session
            {
                session.subscribed.remove(&of);
            }
            return;
        }
        match fresh(&notify, seen.held.as_ref()) {
            Ok(None) => {}
            Ok(Some((version, document))) => {
                self.facts.lock().shown(&self.who, &of, &document);
                seen.held = Some((version, document));
            }
            Err(Astray::Lost) => self.lost_track(&of),
            Err(Astray::Wrong) => {
                self.wrong(&format!("a snapshot of {of} is not what its version says"));
            }
        }
    }

    /// It asks for a snapshot.
    pub(super) fn lost_track(&mut self, of: &Address) {
        self.seen.entry(of.clone()).or_default().held = None;
        if let Some(session) = &mut self.session {
            session.subscribed.remove(of);
        }
    }

    pub(super) fn told_items(&mut self, notify: Notify) {
        let page = notify.snapshot.and_then(|page| state::decode::<Page>(page).ok());
        let Some(page) = page else { return self.wrong("a page cannot be read") };
        self.cursor = Some(page.cursor);
        for item in page.items {
            if self.items.iter().any(|known| known.cursor == item.cursor) {
                self.wrong("an item was told twice");
            }
            self.items.push(item);
        }
    }

    pub(super) fn wrong(&mut self, what: &str) {
        let what = format!("{}: {what}", self.name);
        self.net.note(&format!("WRONG {what}"));
        self.facts.lock().wrong(what);
    }
}

/// Why a NOTIFY does not lead to a document.
enum Astray {
    /// What it starts from is not held.
    Lost,
    /// It is not what its version says.
    Wrong,
}

/// The document after a NOTIFY, if that changes it.
fn fresh(
    notify: &Notify,
    held: Option<&(Version, Document)>,
) -> Result<Option<(Version, Document)>, Astray> {
    let Some(version) = notify.version else { return Ok(None) };
    if let Some(snapshot) = &notify.snapshot {
        let document = Document::decode(snapshot.clone()).map_err(|_| Astray::Wrong)?;
        let right = Version::of(snapshot) == version;
        return if right { Ok(Some((version, document))) } else { Err(Astray::Wrong) };
    }
    let Some(patch) = &notify.patch else { return Ok(None) };
    let (held, document) = held.ok_or(Astray::Lost)?;
    if *held == version {
        return Ok(None);
    }
    let patch = Patch::decode(patch.clone()).ok().filter(|_| notify.base == Some(*held));
    let patched = patch.and_then(|patch| patch.applied(document.clone()).ok());
    #[expect(clippy::disallowed_methods, reason = "the digest that a client checks")]
    let patched = patched.filter(|fresh| Version::of(&fresh.encode()) == version);
    Ok(Some((version, patched.ok_or(Astray::Lost)?)))
}
