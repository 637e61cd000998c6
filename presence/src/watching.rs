//! A watcher of a presentity: what keeps the subscription, how it stands, what was decided
//! (RFC 3857 4.7.1).

use std::collections::BTreeMap;
use std::time::Duration;

use impp_acl::{Decision, Handling};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{DeviceId, Timestamp};
use smallvec::smallvec;

use crate::bonds::{Bond, Bonds, Keeper};
use crate::ids::ListenerId;
use crate::presentity::{Pace, PaceLimit};
use crate::ties::Ties;

/// How long a request waits that nobody keeps any more, and about which the owner does not decide (RFC 3857
/// 4.7.1, giveup): longer than a long absence, so that it is found at the return.
pub const GIVEUP_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// However long it has waited, it is not given up so soon after it was read from the store: while the
/// server was off its owner could not decide. Longer than a weekend, and shorter than a week, as servers
/// that start anew each week have to give up too.
pub const SPARED_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What of a watcher, or of one who follows elsewhere, survives the server: its record changes when
/// this does.
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
    /// Until when the server of the watcher's domain keeps it.
    pub server: Option<Timestamp>,
    /// Whether the watcher's contact list asks for it.
    pub by_contact: bool,
}

/// One watcher. All subscriptions of one principal stand alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// How they stand.
    pub state: SubscriptionState,
    /// What brought them there.
    pub event: SubscriptionEvent,
    /// Since when.
    pub since: Timestamp,
    /// What the rules say.
    pub decision: Decision,
    /// What keeps them, and who is told.
    pub(crate) ties: Ties,
    /// None, of nearly all.
    pub(crate) seldom: Option<Box<Seldom>>,
}

/// What few watchers have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seldom {
    /// How often the owner's sphere may still grant it another view; none as long as it has rested.
    pace: Option<Pace>,
    /// Before that it is not given up, though it waits.
    spared_until: Timestamp,
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
        let (ties, seldom) = Default::default();
        Some(Watching { state, event, since: now, decision, ties, seldom })
    }

    /// A watcher whom the store remembers, read now. A request that only a session kept waits from when
    /// it is decided about again.
    pub fn restored(kept: &Kept, decision: Decision, now: Timestamp) -> Watching {
        let mut ties = Ties::default();
        ties.edit(|bonds, _| {
            *bonds = Bonds::restored(&kept.leases, kept.by_contact);
            kept.server.into_iter().for_each(|until| bonds.keep(Bond::Server(until)));
        });
        let Kept { state, event, since, .. } = *kept;
        // Whoever comes to wait later waits from then on, for longer than it would be spared.
        let waits = state == SubscriptionState::Waiting;
        let spared_until = now.after(SPARED_FOR);
        let seldom = waits.then(|| Box::new(Seldom { spared_until, ..Seldom::default() }));
        Watching { state, event, since, decision, ties, seldom }
    }

    /// What survives of it. An active subscription that only a session keeps ends with the server;
    /// a request waits.
    pub fn kept(&self) -> Option<Kept> {
        let bonds = self.bonds();
        let leases = bonds.leases();
        let server = bonds.of(Keeper::Server).and_then(Bond::until);
        let by_contact = bonds.of(Keeper::Contact).is_some();
        let keep = match self.state {
            // The latter two are for watchers elsewhere to say of us.
            SubscriptionState::Terminated
            | SubscriptionState::Stale
            | SubscriptionState::Unknown => false,
            SubscriptionState::Active => by_contact || !leases.is_empty() || server.is_some(),
            SubscriptionState::Pending | SubscriptionState::Waiting => true,
        };
        let (state, event, since) = (self.state, self.event, self.since);
        keep.then_some(Kept { state, event, since, leases, server, by_contact })
    }

    /// What keeps them; none if only word of them is kept.
    pub fn bonds(&self) -> Bonds {
        self.ties.bonds()
    }

    /// Sessions that get notifications; of a watcher of another domain, the link.
    pub fn listeners(&self) -> &[ListenerId] {
        self.ties.listeners()
    }

    /// Makes this link the only listener: a watcher of another domain has one, the newest.
    pub(crate) fn listen_only(&mut self, link: ListenerId) {
        self.ties.edit(|_, listeners| *listeners = smallvec![link]);
    }

    /// Adds a session that gets notifications.
    pub(crate) fn listen(&mut self, session: ListenerId) {
        if !self.tells(session) {
            self.ties.edit(|_, listeners| listeners.push(session));
        }
    }

    /// It is told over this session or link no more.
    pub(crate) fn unlisten(&mut self, listener: ListenerId) {
        self.ties.edit(|_, listeners| listeners.retain(|other| *other != listener));
    }

    /// Whether this session or link is told.
    pub(crate) fn tells(&self, listener: impl Into<ListenerId>) -> bool {
        self.listeners().contains(&listener.into())
    }

    /// Whether it waits for the owner, kept or not.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, SubscriptionState::Pending | SubscriptionState::Waiting)
    }

    /// Whether it is shown what its decision says.
    pub fn is_active(&self) -> bool {
        self.state == SubscriptionState::Active
    }

    /// Whether it has ended, and there is nobody left to be told.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == SubscriptionState::Terminated && self.listeners().is_empty()
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

    /// When the next lease ends, the decision may change by time alone, or nobody waits for one any more.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let ends = self.bonds().next_end().into_iter();
        ends.chain(self.decision.until()).chain(self.gives_up_at()).min()
    }

    fn gives_up_at(&self) -> Option<Timestamp> {
        let waits = self.state == SubscriptionState::Waiting;
        let spared_until = self.seldom.as_ref().map(|seldom| seldom.spared_until);
        let at = self.since.after(GIVEUP_AFTER);
        waits.then(|| spared_until.into_iter().fold(at, Timestamp::max))
    }

    /// Ends a request that has waited for too long.
    pub(crate) fn give_up(&mut self, now: Timestamp) {
        if self.gives_up_at().is_some_and(|at| at <= now) {
            self.terminate(now, SubscriptionEvent::Giveup);
        }
    }

    /// Whether this is decided of it, and it stands so: what is read from the store may not.
    pub(crate) fn stands_by(&self, decision: &Decision) -> bool {
        self.decision == *decision && self.turn_by(decision).is_none() && !self.is_deserted()
    }

    /// Whether it asks, and what kept it has ended with the server before this one.
    fn is_deserted(&self) -> bool {
        self.state == SubscriptionState::Pending && self.bonds().is_empty()
    }

    /// How it stands by a decision, if that is otherwise than now.
    fn turn_by(&self, decision: &Decision) -> Option<(SubscriptionState, SubscriptionEvent)> {
        use SubscriptionEvent::{Approved, Rejected};
        use SubscriptionState::{Active, Pending, Terminated, Waiting};
        match (self.state, decision.handling()) {
            (Active | Pending | Waiting, Handling::Block) => Some((Terminated, Rejected)),
            (Active, Handling::Confirm) => Some((Pending, SubscriptionEvent::Subscribe)),
            (Pending, Handling::PoliteBlock | Handling::Allow) => Some((Active, Approved)),
            (Waiting, Handling::PoliteBlock | Handling::Allow) => Some((Terminated, Approved)),
            _ => None,
        }
    }

    /// Whether it is shown something else by a decision. One that has ended, or waited in vain, is shown
    /// nothing by any: it asks anew.
    pub(crate) fn comes_by(&self, decision: &Decision) -> bool {
        let key = decision.view_key();
        let shows_it = self.is_active() && self.decision.view_key() == key;
        let follows = self.is_active() || self.state == SubscriptionState::Pending;
        key.is_some() && !shows_it && follows
    }

    /// When a sphere may grant it another view, if not now.
    pub(crate) fn waits_until(&self, now: Timestamp, limit: PaceLimit) -> Option<Timestamp> {
        let pace = self.seldom.as_ref().and_then(|seldom| seldom.pace);
        pace.and_then(|mut pace| pace.waits_until(now, limit))
    }

    /// A sphere grants it another view.
    pub(crate) fn spend(&mut self, now: Timestamp, limit: PaceLimit) {
        let seldom = self.seldom.get_or_insert_default();
        let pace = seldom.pace.get_or_insert_with(|| Pace::rested(now, limit));
        pace.waits_until(now, limit);
        pace.spend();
    }

    /// Takes a new decision.
    pub(crate) fn decide(&mut self, now: Timestamp, decision: Decision) {
        if self.is_deserted() {
            self.settle(now);
        }
        let next = self.turn_by(&decision);
        self.decision = decision;
        if let Some((state, event)) = next {
            self.turn(now, state, event);
        }
    }

    /// After a bond went: nobody keeps the subscription any more, so it ends, or waits if the
    /// owner has not decided.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        if !self.bonds().is_empty() {
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
    pub(crate) fn terminate(&mut self, now: Timestamp, event: SubscriptionEvent) {
        self.turn(now, SubscriptionState::Terminated, event);
    }

    fn turn(&mut self, now: Timestamp, state: SubscriptionState, event: SubscriptionEvent) {
        (self.state, self.event, self.since) = (state, event, now);
        if state == SubscriptionState::Terminated {
            self.ties.edit(|bonds, _| bonds.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each who follows each presentity.
    #[test]
    fn a_watcher_is_small() {
        assert!(size_of::<Watching>() <= 72, "{}", size_of::<Watching>());
    }
}
