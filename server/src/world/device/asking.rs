//! Asking for what is wanted and was not answered yet.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Ack, Fetch, Message, Publish, Subscribe};
use impp_protocol::presence::{Document, Patch};
use impp_protocol::state::{self, Deletion, ItemKind};
use impp_protocol::{Command, Request, What};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Asked, Device, PATIENCE};
use crate::world::facts::Place;
use crate::world::line::DELAY_MAX_MILLIS;
use crate::world::readings::LEASE_WISHED_SECONDS;
use crate::world::ruling::layer;

impl Device {
    pub(super) async fn say(&mut self, number: u64, command: impl Into<Command>) {
        let Some(session) = &mut self.session else { return };
        let mut bytes = BytesMut::new();
        Request { number, command: command.into() }.put(&mut bytes).unwrap();
        let written = timeout(PATIENCE, session.end.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            self.lose("nothing could be written");
        }
    }

    pub(super) async fn request(&mut self, command: impl Into<Command>, asked: Asked) {
        let Some(session) = &mut self.session else { return };
        session.number += 1;
        let number = session.number;
        session.open.insert(number, asked);
        self.say(number, command).await;
    }

    /// Where the next request will be among the others.
    fn place(&self) -> Place {
        let number = self.session.as_ref().map_or(0, |session| session.number + 1);
        (format!("{} {}", self.name, self.sessions), number)
    }

    pub(super) fn is_out(&self, which: impl Fn(&Asked) -> bool) -> bool {
        self.session.as_ref().is_none_or(|session| session.open.values().any(which))
    }

    pub(super) async fn ask_for_what_is_wanted(&mut self) {
        if self.session.as_ref().is_none_or(|session| session.rest.is_some()) {
            return;
        }
        self.ask_layer().await;
        self.ask_rules().await;
        self.ask_follows().await;
        self.ask_log().await;
        self.ask_deletes().await;
        for index in self.outbox.clone() {
            if !self.is_out(|asked| matches!(asked, Asked::Message(other) if *other == index)) {
                let sent = self.facts.lock().messages[index].clone();
                let message = Message::new(sent.id, sent.to, Bytes::from(format!("{index}")));
                self.request(message, Asked::Message(index)).await;
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what a client publishes")]
    pub(super) async fn ask_layer(&mut self) {
        let out = |asked: &Asked| matches!(asked, Asked::Layer(..));
        if !self.layer_due || self.is_out(out) {
            return;
        }
        let publish = Publish::of(self.who.clone(), What::Presence, None);
        let Some((value, leased)) = self.layer.clone() else {
            self.facts.lock().layer(&self.who, &self.name, None);
            let end = Publish { lease: Some(Duration::ZERO), ..publish };
            return self.request(end, Asked::Layer(None, self.net.millis())).await;
        };
        let (now, place) = (self.net.millis(), self.place());
        let first = {
            let mut facts = self.facts.lock();
            facts.layer(&self.who, &self.name, leased.then(|| value.clone()));
            facts.says(&self.who, &value, now, place)
        };
        let patch = Patch::between(&Document::default(), &layer(&self.name, &value)).encode();
        let lease = leased.then_some(Duration::from_secs(LEASE_WISHED_SECONDS));
        let publish = Publish { content: Some(patch), replace: true, lease, ..publish };
        self.request(publish, Asked::Layer(Some((value, leased && first)), now)).await;
    }

    pub(super) async fn ask_rules(&mut self) {
        let out = |asked: &Asked| matches!(asked, Asked::Rules(..) | Asked::RulesVersion);
        let Some(index) = self.rules_due else { return };
        if self.is_out(out) {
            return;
        }
        let Some(base) = self.rules_base else {
            let fetch = Fetch::of(self.who.clone(), What::Rules);
            return self.request(fetch, Asked::RulesVersion).await;
        };
        let (text, first) = {
            let (now, place) = (self.net.millis(), self.place());
            let alone = !self.is_out(|_| true);
            let arrives_by = alone.then_some(now + DELAY_MAX_MILLIS);
            let mut facts = self.facts.lock();
            let first = facts.rules(&self.who, index, now, place, arrives_by);
            (facts.rulings[&self.who][index].text(), first)
        };
        let publish = Publish::of(self.who.clone(), What::Rules, Some(text.into()));
        self.request(Publish { base: Some(base), ..publish }, Asked::Rules(index, first)).await;
    }

    pub(super) async fn ask_follows(&mut self) {
        for who in self.leaves.clone() {
            if self.is_out(|asked| matches!(asked, Asked::Unfollow(other) if *other == who)) {
                continue;
            }
            let end = Subscribe::of(who.clone(), What::Presence);
            let end = Subscribe { lease: Some(Duration::ZERO), ..end };
            self.request(end, Asked::Unfollow(who)).await;
        }
        for who in self.follows.clone() {
            let seen = self.seen.entry(who.clone()).or_default();
            let version = seen.held.as_ref().map(|(version, _)| *version);
            let refused = seen.refused;
            let known = self.session.as_ref().is_none_or(|s| s.subscribed.contains(&who));
            let out = self.is_out(|asked| match asked {
                Asked::Follow(other) | Asked::Unfollow(other) => *other == who,
                _ => false,
            });
            if known || out || refused {
                continue;
            }
            let follow = Subscribe { version, ..Subscribe::of(who.clone(), What::Presence) };
            self.request(follow, Asked::Follow(who)).await;
        }
    }

    /// Makes up its mind which message is to go.
    pub(super) fn choose_to_delete(&mut self) {
        let received = self.items.iter().filter(|item| item.kind == ItemKind::Received);
        let messages = received.filter_map(|item| {
            let message = Message::decode(item.message.clone()?).ok()?;
            Some((item.cursor.clone(), message.id))
        });
        self.deletes.extend(self.dice.choice(messages.collect::<Vec<_>>()));
    }

    async fn ask_deletes(&mut self) {
        for (cursor, id) in self.deletes.clone() {
            let out = |asked: &Asked| matches!(asked, Asked::Delete(other, _) if *other == cursor);
            if !self.is_out(out) {
                self.facts.lock().deletes(&self.who, id);
                let deletion = state::encode(&Deletion { cursor: cursor.clone() });
                let publish = Publish::of(self.who.clone(), What::Log, Some(deletion));
                self.request(publish, Asked::Delete(cursor, id)).await;
            }
        }
    }

    pub(super) async fn ask_log(&mut self) {
        let follows = self.session.as_ref().is_none_or(|session| session.log);
        if !follows && !self.is_out(|asked| matches!(asked, Asked::Log)) {
            let follow = Subscribe::of(self.who.clone(), What::Log);
            let follow = Subscribe { cursor: self.cursor.clone(), ..follow };
            self.request(follow, Asked::Log).await;
        }
        if self.ack_due && !self.is_out(|asked| matches!(asked, Asked::Acknowledge)) {
            let Some(cursor) = self.cursor.clone() else { return };
            self.request(Ack { address: self.who.clone(), cursor }, Asked::Acknowledge).await;
        }
    }
}
