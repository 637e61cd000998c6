//! The table of things: what there is to know of each before it is touched, and which permit it asks for.
//!
//! Which service a thing belongs to, clients have to know too: that stands with its number
//! (`protocol/src/thing.rs`). What a thing holds is left to whoever serves it.

use std::sync::Arc;

use impp_protocol::{Address, Service, What};

use crate::delegation::{Mandate, Needs};
use crate::permit::{Acting, NotYours, scope};

/// What a client may ask of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To read it once.
    Fetch,
    /// To change it.
    Publish,
    /// To be told how it changes.
    Follow,
}

/// How fast whoever follows a thing is told its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each as soon as it is seen.
    Each,
    /// A few, then one in a while: between two that are told, the newest counts (`times.pace_burst`,
    /// `times.pace_milliseconds`).
    Newest,
    /// One in a long while, whatever is set: what has changed since the last comes with the next.
    Seldom,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thing {
    /// The service that its owner has to have, if it belongs to one.
    pub service: Option<Service>,
    /// What may be asked of it, but to follow it.
    asks: &'static [Ask],
    /// How fast its changes are told, if it can be followed.
    pub pace: Option<Pace>,
}

impl Thing {
    /// Whether this may be asked of it.
    pub fn takes(&self, ask: Ask) -> bool {
        match ask {
            Ask::Follow => self.pace.is_some(),
            Ask::Fetch | Ask::Publish => self.asks.contains(&ask),
        }
    }
}

macro_rules! things {
    ($($thing:ident: $scope:ident, $asks:expr, $pace:expr;)*) => {
        /// A permit, by the thing for which it was asked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Permit {
            $(#[doc = concat!("To [`What::", stringify!($thing), "`].")]
            $thing(Acting<scope::$scope>),)*
        }

        impl Permit {
            /// That of somebody who has signed in, to a thing of their own.
            ///
            /// # Errors
            /// [`NotYours`] if it is another's.
            pub fn oneself(
                signed_in: &Address,
                owner: &Address,
                what: What,
            ) -> Result<Permit, Box<NotYours>> {
                Ok(match what {
                    $(What::$thing => Permit::$thing(Acting::oneself(signed_in, owner)?),)*
                })
            }

            /// That of a delegate, to ask this of a thing of the owner's; none without the right for it.
            pub fn delegate(mandate: &Arc<Mandate>, what: What, ask: Ask) -> Option<Permit> {
                let needs = needs(what, ask)?;
                match what {
                    $(What::$thing => Acting::delegate(mandate, needs).map(Permit::$thing),)*
                }
            }
        }

        /// What there is to know of a thing.
        pub const fn thing(what: What) -> Thing {
            use {Ask::*, Pace::*};
            match what {
                $(What::$thing => {
                    const ROW: Thing = Thing {
                        service: What::$thing.service(),
                        asks: &$asks,
                        pace: $pace,
                    };
                    ROW
                })*
            }
        }
    };
}

// Presence is read and followed by watchers too, without a permit: what they see, its owner's rules say.
// That of all contacts is followed by their list.
things! {
    // thing:      permit over, what may be asked, and how fast who follows it is told
    Presence:      Presence,    [Fetch, Publish],  Some(Newest);
    Layer:         Presence,    [Fetch],           None;
    Watchers:      Watchers,    [Fetch, Publish],  Some(Seldom);
    Subscriptions: Contacts,    [Fetch, Publish],  None;
    Contacts:      Contacts,    [Fetch, Publish],  Some(Each);
    Rules:         Rules,       [Fetch, Publish],  None;
    Requests:      Rules,       [Fetch, Publish],  Some(Seldom);
    Explain:       Rules,       [Fetch],           None;
    Devices:       Account,     [Fetch, Publish],  None;
    Acts:          Rules,       [Fetch],           None;
    Delegations:   Rules,       [Fetch],           None;
    // It grows: nothing of it is passed over, and nobody writes into it but by what it tells of. Its owner
    // may take away from it.
    Log:           Inbox,       [Fetch, Publish],  Some(Each);
    Fate:          Inbox,       [Fetch],           None;
    Typing:        Inbox,       [Publish],         Some(Each);
    ReadMarks:     Inbox,       [Fetch, Publish],  Some(Seldom);
}

/// The right by which a delegate may ask this of a thing, if any does. All else is the owner's alone.
pub const fn needs(what: What, ask: Ask) -> Option<Needs> {
    match (what, ask) {
        // Of layers it is the delegate's own.
        (What::Presence, Ask::Publish) | (What::Layer, Ask::Fetch) => Some(Needs::Publish),
        // What is explained to a delegate is less than to the owner: see `confided`.
        (What::Rules, Ask::Fetch | Ask::Publish) | (What::Explain, Ask::Fetch) => {
            Some(Needs::Rules)
        }
        // Whom the owner blocks politely is for the owner alone.
        (What::Watchers, Ask::Fetch) => Some(Needs::Watchers),
        // Custody is taken by devices of the owner's alone, and nobody else deletes.
        (What::Log, Ask::Fetch) => Some(Needs::InboxRead),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_for_what_may_be_asked() {
        for what in What::EVERY.iter().copied() {
            for ask in [Ask::Fetch, Ask::Publish, Ask::Follow] {
                assert!(needs(what, ask).is_none() || thing(what).takes(ask), "{ask:?} {what}");
            }
        }
    }
}
