//! The closed table of errors, and the ERROR frame that carries one.
//!
//! `docs/protocol.md` lists the same table; a test keeps them equal.

use std::time::Duration;

use crate::address::Address;
use crate::schema::{fields, numbers};

numbers! {
    /// What went wrong.
    pub open enum Code {
        /// The bytes are no frame, or a field, content or sign-in message is wrong; `text` names it.
        Malformed = 1, "malformed";
        /// A frame, body, document or list exceeds its limit.
        TooLarge = 2, "too-large";
        /// A kind, field or thing that this server does not serve.
        Unsupported = 3, "unsupported";
        /// The domain or the account does not have this service.
        NotOffered = 4, "not-offered";
        /// The request does not belong in this state of the connection.
        WrongState = 5, "wrong-state";
        /// Sign in first.
        NotSignedIn = 6, "not-signed-in";
        /// The sign-in failed; nothing says why.
        AuthFailed = 7, "auth-failed";
        /// Policy or the other person's rules say no.
        Refused = 8, "refused";
        /// There is no such address, thing or item here.
        NotFound = 9, "not-found";
        /// The version named is not the newest one, or the id or number was used for other content.
        Conflict = 10, "conflict";
        /// Too late: its time has passed.
        Expired = 11, "expired";
        /// The message's id is too old or too far ahead; it was definitely not accepted. With `forgotten` the
        /// request's number is meant.
        OutOfWindow = 12, "out-of-window";
        /// A lease shorter than the least one granted; `minimum` names that.
        TooShort = 13, "too-short";
        /// The cursor is not one of this series.
        BadCursor = 14, "bad-cursor";
        /// The version is none that this server has issued for this thing.
        BadVersion = 15, "bad-version";
        /// The recipient's inbox, or another quota, is full; nothing was stored.
        Full = 16, "full";
        /// Too many requests; try again after `retry_after`.
        RateLimited = 17, "rate-limited";
        /// The server has no room for more just now.
        Busy = 18, "busy";
        /// The server is stopping.
        Stopping = 19, "stopping";
        /// The store cannot take it: the disk is full, or has failed.
        Storage = 20, "storage";
        /// The address has another home now; `address` names it.
        Moved = 21, "moved";
        /// No such domain can be found.
        UnknownDomain = 22, "unknown-domain";
        /// The domain's server cannot be reached.
        Unreachable = 23, "unreachable";
        /// The other side could not prove its domain.
        Untrusted = 24, "untrusted";
        /// The hops are spent.
        Loop = 25, "loop";
        /// A fault of the server's own.
        Internal = 26, "internal";
    }
}

numbers! {
    /// Who says so.
    pub open enum By {
        /// The server that the request was sent to.
        Server = 1, "server";
        /// The home server of the other domain.
        Home = 2, "home";
        /// The recipient, by rules or decision.
        Recipient = 3, "recipient";
    }
}

impl Code {
    /// Whether the same request will be answered the same however often it is repeated.
    pub fn is_permanent(self) -> bool {
        !matches!(
            self,
            Code::Full
                | Code::RateLimited
                | Code::Busy
                | Code::Stopping
                | Code::Storage
                | Code::Unreachable
                | Code::Internal
        )
    }
}

fields! {
    /// ERROR: the answer to a request that was not done.
    pub struct Error {
        /// What went wrong, a number of the table of errors.
        1 code: Code,
        /// Who says so.
        2 by: By,
        /// For people: what, where, and what to do.
        3 text: Option<String>,
        /// Try again after so many seconds, not before.
        4 retry_after: Option<Duration>,
        /// With too-short: the least lease granted, in seconds.
        5 minimum: Option<Duration>,
        /// With conflict: the newest version.
        6 version: Option<u64>,
        /// With moved: the new address.
        7 address: Option<Address>,
        /// With out-of-window: nothing is kept any more of what was asked under this number; it may have been
        /// done. Nothing is said of a message's id.
        8 forgotten: bool,
    }
}

impl Error {
    /// An error that this server says, with a text for people.
    pub fn new(code: Code, text: impl Into<String>) -> Error {
        Error {
            code,
            by: By::Server,
            text: Some(text.into()),
            retry_after: None,
            minimum: None,
            version: None,
            address: None,
            forgotten: false,
        }
    }

    /// What is said of a request under a number of which nothing is kept: it may have been done.
    pub fn forgotten(text: impl Into<String>) -> Error {
        Error { forgotten: true, ..Error::new(Code::OutOfWindow, text) }
    }

    /// The same error, said by somebody else.
    #[must_use]
    pub fn by(mut self, by: By) -> Error {
        self.by = by;
        self
    }

    /// The same error with a time before which trying again is useless.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Error {
        self.retry_after = Some(after);
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {text}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

impl std::error::Error for Error {}
