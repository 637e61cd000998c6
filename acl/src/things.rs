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
    /// What may be asked of it, and how much work that is.
    asks: &'static [(Ask, u64)],
    /// How fast its changes are told, if it can be followed.
    pub pace: Option<Pace>,
}

impl Thing {
    /// Whether this may be asked of it.
    pub fn takes(&self, ask: Ask) -> bool {
        self.work(ask).is_some()
    }

    /// How much work it is to ask this of it, where a look at one thing is 1; nothing, if it may not be asked.
    pub fn work(&self, ask: Ask) -> Option<u64> {
        self.asks.iter().find(|(asked, _)| *asked == ask).map(|(_, work)| *work)
    }
}

macro_rules! things {
    ($($thing:ident: $scope:ident, [$($ask:ident $work:literal),*], $pace:expr;)*) => {
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
                        asks: &[$(($ask, $work)),*],
                        pace: $pace,
                    };
                    ROW
                })*
            }
        }
    };
}

// Presence is read and followed by watchers too, without a permit: what they see, its owner's rules say.
// That of all contacts is followed by their list. What a request may cost more than this, by how it is
// asked, is in `server/src/session/costs.rs`.
things! {
    // thing:      permit over; what may be asked, and how much work that is; how fast who follows is told
    Presence:      Presence,    [Fetch 1, Publish 2, Follow 1],     Some(Newest);
    Layer:         Presence,    [Fetch 1],                          None;
    Watchers:      Watchers,    [Fetch 8, Publish 2, Follow 8],     Some(Seldom);
    Subscriptions: Contacts,    [Fetch 8, Publish 2],               None;
    Contacts:      Contacts,    [Fetch 8, Publish 4, Follow 32],    Some(Each);
    // All watchers are judged anew.
    Rules:         Rules,       [Fetch 1, Publish 8],               None;
    // Held messages are read whole.
    Requests:      Rules,       [Fetch 16, Publish 16, Follow 16],  Some(Seldom);
    // Rules are read as for a change of them.
    Explain:       Rules,       [Fetch 8],                          None;
    Devices:       Account,     [Fetch 1, Publish 2],               None;
    Acts:          Rules,       [Fetch 8],                          None;
    // Each owner for whom one may act is looked at.
    Delegations:   Rules,       [Fetch 32],                         None;
    // It grows: nothing of it is passed over, and nobody writes into it but by what it tells of. Its owner
    // may take away from it.
    Log:           Inbox,       [Fetch 2, Publish 2, Follow 1],     Some(Each);
    Fate:          Inbox,       [Fetch 1],                          None;
    Typing:        Inbox,       [Publish 1, Follow 1],              Some(Each);
    // Of a new conversation all others are looked at.
    ReadMarks:     Inbox,       [Fetch 8, Publish 4, Follow 8],     Some(Seldom);
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

    #[test]
    fn what_is_followed_has_a_pace_and_all_that_may_be_asked_is_work() {
        for thing in What::EVERY.iter().copied().map(thing) {
            assert_eq!(thing.takes(Ask::Follow), thing.pace.is_some(), "{thing:?}");
            for ask in [Ask::Fetch, Ask::Publish, Ask::Follow] {
                assert!(thing.work(ask) != Some(0), "{ask:?} {thing:?}");
            }
        }
    }
}
