//! The sessions that live: with a connection, or parked until they are resumed.

use std::sync::Arc;

use impp_protocol::command::{Bye, ByeReason};
use impp_protocol::{Address, SessionId};

use super::Session;
use crate::core::DashMap;
use crate::core::sessions::{Mailbox, Sessions};

/// See the module.
#[derive(Debug)]
pub struct Live {
    /// By id and account.
    pub sessions: Arc<Sessions>,
    /// Those that have lost their connection and can be resumed.
    parked: DashMap<SessionId, Session>,
}

impl Live {
    /// None is parked yet.
    pub fn new(sessions: Arc<Sessions>) -> Live {
        Live { sessions, parked: DashMap::default() }
    }

    /// A session has lost its connection.
    pub(super) fn park(&self, session: Session) {
        self.parked.insert(session.client.mailbox.id, session);
    }

    /// Takes a session that is parked.
    pub fn take(&self, id: SessionId) -> Option<Session> {
        self.parked.remove(&id).map(|(_, session)| session)
    }

    /// Takes the oldest one of an account.
    pub(super) fn take_oldest(&self, account: &Address) -> Option<Session> {
        self.sessions.of(account).into_iter().find_map(|mailbox| self.take(mailbox.id))
    }

    /// Ends one session, with or without a connection.
    pub async fn end(&self, mailbox: &Mailbox, bye: Bye) {
        mailbox.end(bye);
        if let Some(session) = self.take(mailbox.id) {
            Box::pin(session.end()).await;
        }
    }

    /// Ends all sessions of an account, with or without a connection.
    pub async fn end_all(&self, account: &Address, reason: ByeReason, text: &str) {
        for mailbox in self.sessions.of(account) {
            self.end(&mailbox, Bye::new(reason, text)).await;
        }
    }
}
