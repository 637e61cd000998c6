//! PING and BYE: liveness, and the orderly end of a connection.

use std::time::Duration;

use crate::schema::{fields, numbers};

fields! {
    /// PING: answered by OK.
    pub struct Ping {
        /// From a client that has named `repeats`: it has the answers to all its requests up to this
        /// number.
        1 answered: Option<u64>,
    }
}

impl Ping {
    /// A PING that says nothing.
    pub fn empty() -> Ping {
        Ping { answered: None }
    }
}

numbers! {
    /// Why a connection ends.
    pub open enum ByeReason {
        /// The sender has nothing more to do; from a client it ends the session too.
        Done = 1, "done";
        /// The other side broke the protocol; the ERROR before it says how.
        Protocol = 2, "protocol";
        /// The server stops or restarts.
        Stopping = 3, "stopping";
        /// Nothing was heard for too long.
        Timeout = 4, "timeout";
        /// The account, its password or its device was taken away.
        Revoked = 5, "revoked";
        /// The session goes on on another connection, where it was resumed.
        Replaced = 6, "replaced";
        /// Too many connections.
        Busy = 7, "busy";
        /// Links: nothing was to be said for long; it opens again when something is.
        Idle = 8, "idle";
        /// Links: another link between the same two servers is kept.
        Redundant = 9, "redundant";
    }
}

fields! {
    /// BYE: the connection ends after this frame.
    pub struct Bye {
        /// Why.
        1 reason: ByeReason,
        /// For people.
        2 text: Option<String>,
        /// Come back after so many seconds, not before.
        3 retry_after: Option<Duration>,
        /// Another address to come back to, host:port.
        4 server: Option<String>,
    }
}

impl Bye {
    /// A BYE without further advice.
    pub fn new(reason: ByeReason, text: &str) -> Bye {
        Bye { reason, text: Some(text.to_owned()), retry_after: None, server: None }
    }

    /// The server stops, and can be come back to after that time.
    pub fn stopping(retry_after: Duration) -> Bye {
        let bye = Bye::new(ByeReason::Stopping, "the server is stopping");
        Bye { retry_after: Some(retry_after), ..bye }
    }
}
