//! Whom a change wakes: a session, or a link.

use impp_protocol::SessionId;

/// A link to a server of another domain, unique in this run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub [u8; 16]);

/// Who listens. All ids of sessions and links are drawn alike, from 128 random bits, so that none is
/// another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId([u8; 16]);

impl ListenerId {
    /// The session that it is, for who knows that it is one.
    pub(crate) fn as_session(self) -> SessionId {
        SessionId(self.0)
    }
}

/// What a session follows wakes it.
impl From<SessionId> for ListenerId {
    fn from(SessionId(session): SessionId) -> ListenerId {
        ListenerId(session)
    }
}

/// What the watchers beyond a link follow wakes the link.
impl From<LinkId> for ListenerId {
    fn from(LinkId(link): LinkId) -> ListenerId {
        ListenerId(link)
    }
}
