//! Things: the states and series of a principal, named by its address and a small integer; and the two
//! services that they belong to.

use crate::schema::numbers;

numbers! {
    /// Which state or series of an address is meant.
    pub open enum What {
        /// State: the presence document, as the asker may see it.
        Presence = 1, "presence";
        /// State: who watches the caller's presence.
        Watchers = 2, "watchers";
        /// State: access rules and delivery rules, one TOML text.
        Rules = 3, "rules";
        /// State: the caller's contact list.
        Contacts = 5, "contacts";
        /// State: the caller's devices.
        Devices = 6, "devices";
        /// State: how far each conversation of the caller's was read.
        ReadMarks = 7, "read-marks";
        /// State: subscriptions and messages that wait for the caller's decision.
        Requests = 9, "requests";
        /// State: what the caller follows.
        Subscriptions = 10, "subscriptions";
        /// State: the caller's own layer of presence as published.
        Layer = 11, "layer";
        /// State: what delegates did for the caller.
        Acts = 12, "acts";
        /// State: who may act for the caller, and for whom the caller may.
        Delegations = 13, "delegations";
        /// State: who writes to the caller just now, and to whom the caller does.
        Typing = 14, "typing";
        /// Read once: what the caller's rules say about somebody, and why.
        Explain = 16, "explain";
        /// Read once: the fate of a message that the caller sent, or where it waits.
        Fate = 17, "fate";
        /// Series: the caller's log.
        Log = 32, "log";
    }
}

impl What {
    /// The service that it belongs to. What belongs to none is had with either, and where the two have
    /// different servers it is with presence.
    pub const fn service(self) -> Option<Service> {
        match self {
            What::Presence | What::Layer | What::Watchers | What::Subscriptions => {
                Some(Service::Presence)
            }
            What::Log | What::Fate | What::ReadMarks | What::Typing => Some(Service::Messages),
            What::Rules | What::Contacts | What::Devices | What::Requests => None,
            What::Acts | What::Delegations | What::Explain => None,
        }
    }
}

/// A service: an account has one of them or both, and a domain may have a server for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Presence.
    Presence,
    /// Instant messages.
    Messages,
}

impl Service {
    /// Both of them.
    pub const ALL: [Service; 2] = [Service::Presence, Service::Messages];

    /// Its word in settings and in HELLO: `pres` or `im`.
    pub const fn word(self) -> &'static str {
        match self {
            Service::Presence => "pres",
            Service::Messages => "im",
        }
    }

    /// The service of a word.
    pub fn from_word(word: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.word() == word)
    }
}
