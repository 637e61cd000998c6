//! Fates of messages between domains as their senders see them: in the log, and by `impp fate`.

use impp_protocol::command::{Fetch, Message};
use impp_protocol::state::{self, Fate, FateReport, ItemKind, Whereabouts};
use impp_protocol::{MessageId, What};
use serde_json::Value;

use crate::impp::Impp;
use crate::peer::{Peer, fetch, message};
use crate::server::Server;
use crate::wait::eventually;

/// Rules by which everybody who has signed in anywhere may write.
pub const OPEN_INBOX: &str =
    "[[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"accept\"\n";

impl Peer {
    /// Signs in and lets everybody write.
    pub async fn open_inbox(server: &Server, name: &str) -> Peer {
        let mut peer = Peer::sign_in(server, name).await;
        peer.set_rules(OPEN_INBOX).await;
        peer
    }

    /// Sends a text that the server has to queue; its id.
    pub async fn queue(&mut self, to: &str, text: &str) -> MessageId {
        let message = message(to, text);
        let id = message.id;
        let outcome = self.done(message).await.outcome;
        assert_eq!(outcome, Some(impp_protocol::command::Outcome::Queued));
        id
    }

    /// The fates in the own log, in order.
    pub async fn fates(&mut self) -> Vec<FateReport> {
        let log = self.log().await;
        let fates = log.into_iter().filter(|item| item.kind == ItemKind::Fate);
        fates.filter_map(|item| item.fate).collect()
    }

    /// The fate of a message, when it has one; it has one only.
    pub async fn fate(&mut self, id: MessageId) -> FateReport {
        eventually("a fate", async || {
            let mut fates = self.fates().await;
            fates.retain(|fate| fate.id == id);
            assert!(fates.len() <= 1, "two fates: {fates:?}");
            fates.pop()
        })
        .await
    }

    /// Waits until a message was delivered.
    pub async fn until_delivered(&mut self, id: MessageId) {
        let report = self.fate(id).await;
        assert_eq!(report.fate, Fate::Delivered, "{report:?}");
    }

    /// The same, by asking for that message alone, however long the log is.
    pub async fn until_ended(&mut self, id: MessageId) {
        let told = eventually("a fate", async || {
            let told = self.whereabouts(id).await;
            told.fate.is_some().then_some(told)
        });
        let told = told.await;
        assert_eq!(told.fate, Some(Fate::Delivered), "{told:?}");
    }

    /// Where a message is.
    pub async fn whereabouts(&mut self, id: MessageId) -> Whereabouts {
        let own = self.address.clone();
        let fetch = Fetch { id: Some(id), ..fetch(own.as_str(), What::Fate) };
        state::decode(self.done(fetch).await.content.expect("whereabouts")).unwrap()
    }

    /// Where a message waits, when there is a cause with these words.
    pub async fn held_up(&mut self, id: MessageId, words: &str) -> Whereabouts {
        eventually(words, async || {
            let told = self.whereabouts(id).await;
            assert_eq!(told.fate, None, "{told:?}");
            told.text.as_ref().is_some_and(|text| text.contains(words)).then_some(told)
        })
        .await
    }

    /// The messages received, when there are at least so many.
    pub async fn received(&mut self, count: usize) -> Vec<Message> {
        eventually("messages", async || {
            let inbox = self.inbox().await;
            (inbox.len() >= count).then_some(inbox)
        })
        .await
    }

    /// Their texts.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let text = |message: Message| String::from_utf8(message.body.to_vec()).unwrap();
        self.received(count).await.into_iter().map(text).collect()
    }
}

impl Impp {
    /// What `impp fate` says of a message.
    pub fn fate(&self, id: MessageId) -> Value {
        self.run(&["fate", &id.to_string()]).one()
    }
}
