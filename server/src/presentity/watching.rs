//! A watcher of a presentity: what keeps the subscription, how it stands, what was decided
//! (RFC 3857 4.7.1).

use std::collections::BTreeMap;

use crate::ids::{DeviceId, SessionId};
use impp_acl::{Decision, Handling};
use impp_protocol::Timestamp;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};

/// Stands for a device where the watcher's own server keeps a subscription, for a watcher of
/// another domain: it refreshes the lease, whatever keeps the subscription there.
pub const THEIR_SERVER: DeviceId = [0; 16];

/// What keeps a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// A session, as long as it lives.
    Session(SessionId),
    /// A lease of a device, until then.
    Lease(DeviceId, Timestamp),
    /// The watcher's contact list, as long as the entry follows.
    Contact,
}

impl Bond {
    /// Whether both are of the same session, device or contact list.
    pub(crate) fn is_same(self, other: Bond) -> bool {
        match (self, other) {
            (Bond::Session(a), Bond::Session(b)) => a == b,
            (Bond::Lease(a, _), Bond::Lease(b, _)) => a == b,
            (Bond::Contact, Bond::Contact) => true,
            _ => false,
        }
    }
}

/// What of a watcher survives the server: its record changes when this does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How it stands.
    pub state: SubscriptionState,
    /// What brought it there.
    pub event: SubscriptionEvent,
    /// Since when.
    pub since: Timestamp,
    /// Leases by device.
    pub leases: BTreeMap<DeviceId, Timestamp>,
    /// Whether the watcher's contact list asks for it.
    pub by_contact: bool,
}

/// One watcher. All subscriptions of one principal stand alike.
#[derive(Clone, Debug)]
pub struct Watching {
    /// How they stand.
    pub state: SubscriptionState,
    /// What brought them there.
    pub event: SubscriptionEvent,
    /// Since when.
    pub since: Timestamp,
    /// What the rules say.
    pub decision: Decision,
    /// What keeps them; none if only word of them is kept.
    pub bonds: Vec<Bond>,
    /// Sessions that get notifications; of a watcher of another domain, the link.
    pub listeners: Vec<SessionId>,
}

impl Watching {
    /// A watcher that has just asked; `None` if the decision is to refuse.
    pub fn asked(now: Timestamp, decision: Decision) -> Option<Watching> {
        let state = match decision.handling() {
            Handling::Block => return None,
            Handling::Confirm => SubscriptionState::Pending,
            Handling::PoliteBlock | Handling::Allow => SubscriptionState::Active,
        };
        let event = SubscriptionEvent::Subscribe;
        let (bonds, listeners) = (Vec::new(), Vec::new());
        Some(Watching { state, event, since: now, decision, bonds, listeners })
    }

    /// What survives of it. An active subscription that only a session keeps ends with the server;
    /// a request waits.
    pub fn kept(&self) -> Option<Kept> {
        let leases = self.bonds.iter().filter_map(|bond| match bond {
            Bond::Lease(device, until) => Some((*device, *until)),
            Bond::Session(_) | Bond::Contact => None,
        });
        let leases: BTreeMap<DeviceId, Timestamp> = leases.collect();
        let by_contact = self.bonds.contains(&Bond::Contact);
        let keep = match self.state {
            // The latter two are for watchers elsewhere to say of us.
            SubscriptionState::Terminated
            | SubscriptionState::Stale
            | SubscriptionState::Unknown => false,
            SubscriptionState::Active => by_contact || !leases.is_empty(),
            SubscriptionState::Pending | SubscriptionState::Waiting => true,
        };
        let (state, event, since) = (self.state, self.event, self.since);
        keep.then_some(Kept { state, event, since, leases, by_contact })
    }

    /// Adds or renews what keeps the subscription.
    pub fn keep(&mut self, bond: Bond) {
        self.bonds.retain(|other| !other.is_same(bond));
        self.bonds.push(bond);
    }

    /// Removes what keeps it; whether it was there.
    pub fn release(&mut self, bond: Bond) -> bool {
        let before = self.bonds.len();
        self.bonds.retain(|other| !other.is_same(bond));
        self.bonds.len() != before
    }

    /// Makes this link the only listener: a watcher of another domain has one, the newest.
    pub fn listen_only(&mut self, link: SessionId) {
        self.listeners.clear();
        self.listeners.push(link);
    }

    /// Adds a session that gets notifications.
    pub fn listen(&mut self, session: SessionId) {
        if !self.listeners.contains(&session) {
            self.listeners.push(session);
        }
    }

    /// Lets leases end; whether any did.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.bonds.len();
        self.bonds.retain(|bond| !matches!(bond, Bond::Lease(_, until) if *until <= now));
        self.bonds.len() != before
    }

    /// Whether the watcher's own server, of another domain, keeps it.
    pub fn is_kept_by_server(&self) -> bool {
        self.bonds.iter().any(|bond| matches!(bond, Bond::Lease(THEIR_SERVER, _)))
    }

    /// Whether it ended because nobody kept it, and not by the owner's will.
    pub fn is_lapsed(&self) -> bool {
        matches!(self.state, SubscriptionState::Terminated | SubscriptionState::Waiting)
            && self.event == SubscriptionEvent::Timeout
    }

    /// Whether time has changed what was decided.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.decision.until().is_some_and(|until| until <= now)
    }

    /// When the next lease ends, or the decision may change by time alone.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let leases = self.bonds.iter().filter_map(|bond| match bond {
            Bond::Lease(_, until) => Some(*until),
            Bond::Session(_) | Bond::Contact => None,
        });
        leases.chain(self.decision.until()).min()
    }

    /// Takes a new decision; whether the state changed.
    pub fn decide(&mut self, now: Timestamp, decision: Decision) -> bool {
        use SubscriptionEvent::{Approved, Rejected};
        use SubscriptionState::{Active, Pending, Terminated, Waiting};
        let next = match (self.state, decision.handling()) {
            (Active | Pending | Waiting, Handling::Block) => Some((Terminated, Rejected)),
            (Active, Handling::Confirm) => Some((Pending, SubscriptionEvent::Subscribe)),
            (Pending, Handling::PoliteBlock | Handling::Allow) => Some((Active, Approved)),
            (Waiting, Handling::PoliteBlock | Handling::Allow) => Some((Terminated, Approved)),
            _ => None,
        };
        self.decision = decision;
        match next {
            Some((state, event)) => {
                self.turn(now, state, event);
                true
            }
            None => false,
        }
    }

    /// After a bond went: nobody keeps the subscription any more, so it ends, or waits if the
    /// owner has not decided.
    pub fn settle(&mut self, now: Timestamp) {
        if !self.bonds.is_empty() {
            return;
        }
        match self.state {
            SubscriptionState::Active => {
                self.turn(now, SubscriptionState::Terminated, SubscriptionEvent::Timeout);
            }
            SubscriptionState::Pending => {
                self.turn(now, SubscriptionState::Waiting, SubscriptionEvent::Timeout);
            }
            SubscriptionState::Waiting
            | SubscriptionState::Terminated
            | SubscriptionState::Stale
            | SubscriptionState::Unknown => {}
        }
    }

    /// Ends all subscriptions of the watcher.
    pub fn terminate(&mut self, now: Timestamp, event: SubscriptionEvent) {
        self.turn(now, SubscriptionState::Terminated, event);
    }

    fn turn(&mut self, now: Timestamp, state: SubscriptionState, event: SubscriptionEvent) {
        (self.state, self.event, self.since) = (state, event, now);
        if state == SubscriptionState::Terminated {
            self.bonds.clear();
        }
    }
}
