//! The table of things: what there is to know of each before it is touched, and which permit it asks for.
//!
//! What a thing holds is left to whoever serves it.

use std::sync::Arc;

use impp_protocol::{Address, What};

use crate::delegation::{Mandate, Needs};
use crate::permit::{Acting, NotYours, scope};

/// A service of an account that a thing belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Presence.
    Presence,
    /// Messages.
    Messages,
}

/// How a thing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is something at any time: reading it again gives what is then.
    State,
    /// It grows: it is read from a place on, and nobody writes into it but by what it tells of.
    Series,
    /// It answers a question, and is nowhere before it is asked.
    Answer,
}

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
    /// How it is read.
    pub shape: Shape,
    /// The service that its owner has to have, if it belongs to one.
    pub service: Option<Service>,
    /// What may be asked of it.
    asks: &'static [Ask],
    /// How fast its changes are told.
    pub pace: Pace,
}

impl Thing {
    /// Whether this may be asked of it.
    pub fn takes(&self, ask: Ask) -> bool {
        self.asks.contains(&ask)
    }

    /// Whether its columns fit each other.
    const fn is_consistent(&self) -> bool {
        let (mut at, mut published) = (0, false);
        while at < self.asks.len() {
            published |= matches!(self.asks[at], Ask::Publish);
            at += 1;
        }
        match self.shape {
            Shape::State => true,
            // Of a series nothing is passed over.
            Shape::Series => !published && matches!(self.pace, Pace::Each),
            Shape::Answer => !published,
        }
    }
}

macro_rules! things {
    ($($thing:ident: $shape:ident, $service:expr, $scope:ident, $asks:expr, $pace:ident;)*) => {
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
            use {Ask::*, Service::*};
            match what {
                $(What::$thing => {
                    const ROW: Thing = Thing {
                        shape: Shape::$shape,
                        service: $service,
                        asks: &$asks,
                        pace: Pace::$pace,
                    };
                    ROW
                })*
            }
        }

        $(const _: () = assert!(thing(What::$thing).is_consistent());)*
    };
}

// Presence is read and followed by watchers too, without a permit: what they see, its owner's rules say.
// That of all contacts is followed by their list.
things! {
    // thing:      shape,  service,        permit over, what may be asked,        pace
    Presence:      State,  Some(Presence), Presence,    [Fetch, Publish, Follow], Newest;
    Layer:         State,  Some(Presence), Presence,    [Fetch],                  Each;
    Watchers:      State,  Some(Presence), Watchers,    [Fetch, Publish, Follow], Seldom;
    Subscriptions: State,  Some(Presence), Contacts,    [Fetch, Publish],         Each;
    Contacts:      State,  None,           Contacts,    [Fetch, Publish, Follow], Each;
    Rules:         State,  None,           Rules,       [Fetch, Publish],         Each;
    Requests:      State,  None,           Rules,       [Fetch, Publish, Follow], Seldom;
    Explain:       Answer, None,           Rules,       [Fetch],                  Each;
    Devices:       State,  None,           Account,     [Fetch, Publish],         Each;
    Acts:          State,  None,           Rules,       [Fetch],                  Each;
    Delegations:   State,  None,           Rules,       [Fetch],                  Each;
    Log:           Series, Some(Messages), Inbox,       [Fetch, Follow],          Each;
    Fate:          Answer, Some(Messages), Inbox,       [Fetch],                  Each;
    ReadMarks:     State,  Some(Messages), Inbox,       [],                       Each;
}

/// The right by which a delegate may ask this of a thing, if any does. All else is the owner's alone.
pub const fn needs(what: What, ask: Ask) -> Option<Needs> {
    match (what, ask) {
        // Of layers it is the delegate's own.
        (What::Presence, Ask::Publish) | (What::Layer, Ask::Fetch) => Some(Needs::Publish),
        // What rules look at beside their text, contacts and the sphere, is no part of the right: so no
        // explanations.
        (What::Rules, Ask::Fetch | Ask::Publish) => Some(Needs::Rules),
        // Whom the owner blocks politely is for the owner alone.
        (What::Watchers, Ask::Fetch) => Some(Needs::Watchers),
        // Custody is taken by devices of the owner's alone.
        (What::Log, Ask::Fetch) => Some(Needs::InboxRead),
        _ => None,
    }
}
