//! Subscriptions from both ends: what I follow, and who watches me (RFC 3857, RFC 3858).

use std::time::Duration;

use crate::address::Address;
use crate::field::OrLater;
use crate::schema::{fields, numbers};
use crate::time::Timestamp;

numbers! {
    /// How a subscription stands (RFC 3857 4.7.1).
    pub open enum SubscriptionState {
        /// It waits for the owner's decision.
        Pending = 1, "pending";
        /// Notifications flow.
        Active = 2, "active";
        /// It ended before the owner decided; the owner still sees that somebody asked.
        Waiting = 3, "waiting";
        /// It has ended.
        Terminated = 4, "terminated";
        /// The presentity's domain cannot be reached; what was shown last may be old.
        Stale = 5, "stale";
        /// Nothing is known yet, or any more: what was shown before is void.
        Unknown = 6, "unknown";
    }
}

numbers! {
    /// What brought it there (RFC 3857 4.7.1).
    pub open enum SubscriptionEvent {
        /// It was asked for.
        Subscribe = 1, "subscribe";
        /// The owner or a rule allowed it.
        Approved = 2, "approved";
        /// Ended for now; ask again at once.
        Deactivated = 3, "deactivated";
        /// Ended for now; ask again later.
        Probation = 4, "probation";
        /// The owner or a rule refused it.
        Rejected = 5, "rejected";
        /// Its lease ended.
        Timeout = 6, "timeout";
        /// The owner never decided.
        Giveup = 7, "giveup";
        /// The presentity is gone.
        Noresource = 8, "noresource";
    }
}

fields! {
    /// What somebody follows.
    pub struct Subscription {
        /// Whose presence.
        1 presentity: Address,
        /// How it stands.
        2 state: SubscriptionState,
        /// Why.
        3 event: SubscriptionEvent,
        /// Seconds left of its lease; absent if bound to a session.
        4 expires_in: Option<Duration>,
    }
}

fields! {
    /// All that the caller follows.
    pub struct Subscriptions {
        /// By presentity.
        1 entries: Vec<Subscription>,
    }
}

numbers! {
    /// How a watcher has proven who it is.
    pub enum Proof {
        /// It has signed in here.
        SignIn = 1, "sign-in";
        /// The server of its domain says so, and has proven to be that.
        Domain = 2, "domain";
    }
}

fields! {
    /// Somebody who watches a presence, or has looked at it.
    pub struct WatcherEntry {
        /// Who.
        1 watcher: Address,
        /// How they stand.
        2 state: SubscriptionState,
        /// Why.
        3 event: SubscriptionEvent,
        /// Since when; absent in what a watcher reads of itself.
        4 since: Option<Timestamp>,
        /// Whether they have proven who they are.
        5 proven: bool,
        /// How, if they have.
        6 by: Option<OrLater<Proof>>,
        /// The owner's rules block them politely: they see somebody who is offline.
        7 polite: bool,
        /// How often they have looked once, or were refused, since they are listed for that; absent if
        /// they have not.
        8 looks: Option<u64>,
        /// When they did last.
        9 looked: Option<Timestamp>,
        /// How many they are: those who have proven no name are one entry, under `anonymous@anonymous.invalid`.
        10 sessions: Option<u64>,
    }
}

fields! {
    /// How many watchers stand alike.
    pub struct WatcherCount {
        /// How.
        1 state: SubscriptionState,
        /// How many.
        2 count: u64,
    }
}

fields! {
    /// Those who watch a presence, or a part of them; or what has changed of them.
    pub struct Watchers {
        /// By address. In a change, those that have come or stand otherwise.
        1 entries: Vec<WatcherEntry>,
        /// In a change: those that are not listed any more.
        2 gone: Vec<Address>,
        /// In NOTIFY: the next one goes on with this.
        3 more: bool,
        /// How many were let go of for lack of room before their time, since the server was started.
        4 dropped: Option<u64>,
        /// To a delegate: how many the owner blocks politely, who are not listed.
        5 counts: Vec<WatcherCount>,
    }
}

fields! {
    /// A change of the watchers.
    pub struct WatcherEdit {
        /// End this one's subscriptions (RFC 2779 5.1.16).
        1 remove: Address,
    }
}

fields! {
    /// A change of what the caller follows.
    pub struct SubscriptionEdit {
        /// End all subscriptions to this one, whichever session or device keeps them.
        1 cancel: Address,
    }
}
