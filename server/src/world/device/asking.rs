//! Asking for what is wanted and was not answered yet.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Ack, Fetch, Message, Publish, Subscribe};
use impp_protocol::presence::{Document, Patch};
use impp_protocol::{Command, Request, What};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Asked, Device, PATIENCE};
use crate::world::facts::layer;

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
        let out = |asked: &Asked| matches!(asked, Asked::Layer(_));
        if !self.layer_due || self.is_out(out) {
            return;
        }
        let Some((value, leased)) = self.layer.clone() else { return };
        self.facts.lock().says(&self.who, &value, self.net.millis());
        let patch = Patch::between(&Document::default(), &layer(&self.name, &value)).encode();
        let lease = leased.then_some(Duration::from_secs(86_400));
        let publish = Publish::of(self.who.clone(), What::Presence, Some(patch));
        let publish = Publish { replace: true, lease, ..publish };
        self.request(publish, Asked::Layer(value)).await;
    }

    pub(super) async fn ask_rules(&mut self) {
        let out = |asked: &Asked| matches!(asked, Asked::Rules(_) | Asked::RulesVersion);
        let Some(index) = self.rules_due else { return };
        if self.is_out(out) {
            return;
        }
        let Some(base) = self.rules_base else {
            let fetch = Fetch::of(self.who.clone(), What::Rules);
            return self.request(fetch, Asked::RulesVersion).await;
        };
        let text = {
            let mut facts = self.facts.lock();
            let now = self.net.millis();
            let rulings = facts.rulings.entry(self.who.clone()).or_default();
            rulings[index].asked.get_or_insert(now);
            rulings[index].text()
        };
        let publish = Publish::of(self.who.clone(), What::Rules, Some(text.into()));
        self.request(Publish { base: Some(base), ..publish }, Asked::Rules(index)).await;
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
