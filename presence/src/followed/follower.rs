//! A principal of this server who follows a presentity of another domain: what keeps that here, and
//! how it stands there.
//!
//! Groups and contents are left to `cache`, whom to ask what to the machine.

use std::time::Duration;

use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};
use smallvec::SmallVec;

use super::Terms;
use super::cache::GroupId;
use crate::bonds::{Bond, Bonds, Keeper};
use crate::ids::ListenerId;
use crate::presentity::{Pace, PaceLimit};
use crate::watching::Kept;

/// Between two times that the home says that a lease has run out there: else the two would ask and
/// end in a circle.
const LAPSE_PAUSE: Duration = Duration::from_secs(1);
/// The first wait after the home could not answer, and the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// However long the home asks to be left alone, it is asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A home that has failed is asked again by its followers one after the other, and not by all in one
/// instant: up to half as long again after the wait, in so many steps.
const SHARES: u32 = 512;

/// A follower's place among the others, as good as by chance and always the same.
fn share_of(who: &Address) -> u32 {
    let digest = impp_protocol::presence::Version::of(who.as_str().as_bytes());
    u32::from(digest.0[0])
}

/// See the module. All subscriptions of one principal stand alike.
#[derive(Clone, Debug)]
pub struct Follower {
    /// How they stand.
    pub state: SubscriptionState,
    /// What brought them there.
    pub event: SubscriptionEvent,
    /// Since when.
    pub since: Timestamp,
    /// What keeps them; nothing if they have ended and the home has still to hear of it.
    pub bonds: Bonds,
    /// Sessions that get notifications.
    pub listeners: SmallVec<[ListenerId; 1]>,
    pub(super) group: Option<GroupId>,
    pub(super) upstream: Upstream,
    /// Until when the home keeps the subscription, as far as is known.
    pub(super) standing: Option<Timestamp>,
    /// Whether the home has answered over the link that is up.
    pub(super) placed: bool,
    /// Since when the home may see it otherwise than we do.
    pub(super) unsure: Option<Timestamp>,
    /// What the home believes to be held may not be: it is asked for all.
    pub(super) lost: bool,
    /// The home has answered once.
    pub(super) heard: bool,
    /// When the home was last asked again because it had said that its lease has run out.
    lapsed: Option<Timestamp>,
    pub(super) failures: u32,
    /// How fast it looks at what its home shows; full until it was shown something.
    pace: Option<Pace>,
    /// When it has to look, as more has come than that.
    late: Option<Timestamp>,
}

/// What goes on between the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The home is to be asked, not before then.
    Due(Timestamp),
    /// It was asked, and has not answered.
    Asked {
        /// To end it.
        ends: bool,
        /// For all, nothing held.
        bare: bool,
    },
    /// It has answered; the lease is refreshed then.
    Rests(Timestamp),
}

impl Follower {
    /// One who has just begun to follow.
    pub(super) fn new(now: Timestamp) -> Follower {
        Follower {
            state: SubscriptionState::Unknown,
            event: SubscriptionEvent::Subscribe,
            since: now,
            bonds: Bonds::default(),
            listeners: SmallVec::new(),
            group: None,
            upstream: Upstream::Due(now),
            standing: None,
            placed: false,
            unsure: None,
            lost: false,
            heard: false,
            lapsed: None,
            failures: 0,
            pace: None,
            late: None,
        }
    }

    /// One whom the store remembers. The home may keep it for up to a lease.
    pub(super) fn restored(now: Timestamp, kept: Kept, lease: Duration) -> Follower {
        let bonds = Bonds::restored(&kept.leases, kept.by_contact);
        let state = match kept.state {
            SubscriptionState::Pending => SubscriptionState::Pending,
            _ => SubscriptionState::Unknown,
        };
        let (event, since) = (kept.event, kept.since);
        let standing = Some(now.after(lease));
        // Whom the home never answered it may not know; but it is not ended by one bad answer.
        Follower { state, event, since, bonds, standing, heard: true, ..Follower::new(now) }
    }

    /// What of it survives the server. That a domain cannot be reached is found out anew.
    pub fn kept(&self) -> Option<Kept> {
        let leases = self.bonds.leases();
        let by_contact = self.bonds.of(Keeper::Contact).is_some();
        let state = match self.state {
            SubscriptionState::Terminated => return None,
            SubscriptionState::Pending => SubscriptionState::Pending,
            _ => SubscriptionState::Active,
        };
        let (event, since) = (self.event, self.since);
        let keep = by_contact || !leases.is_empty();
        keep.then_some(Kept { state, event, since, leases, server: None, by_contact })
    }

    /// Something more keeps it; whether it stands otherwise by that.
    pub(super) fn keep(&mut self, now: Timestamp, bond: Bond) -> bool {
        let mut turned = false;
        if !self.is_kept() {
            // The end of what was before may still be on its way.
            let subscribe = Some(SubscriptionEvent::Subscribe);
            turned = self.turn(now, SubscriptionState::Unknown, subscribe);
            (self.failures, self.heard) = (0, false);
            if matches!(self.upstream, Upstream::Rests(_)) {
                self.upstream = Upstream::Due(now);
            }
        }
        self.bonds.keep(bond);
        turned
    }

    /// Whether it may be shown what its group sees.
    pub fn sees(&self) -> bool {
        matches!(self.state, SubscriptionState::Active | SubscriptionState::Stale)
    }

    /// Whether somebody waits for the home's first answer.
    pub fn waits(&self) -> bool {
        self.state == SubscriptionState::Unknown && self.failures == 0
    }

    /// Whether anybody here keeps it.
    pub(super) fn is_kept(&self) -> bool {
        !self.bonds.is_empty()
    }

    /// Whether the home was asked something and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.upstream, Upstream::Asked { .. })
    }

    /// Whether the home is being told that it ends.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.upstream, Upstream::Asked { ends: true, .. })
    }

    /// Whether nothing has to be known of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.bonds.is_empty()
            && self.listeners.is_empty()
            && self.standing.is_none()
            && !self.is_asked()
    }

    /// The request that is to be made now: to end it or not.
    pub(super) fn request(&self, now: Timestamp) -> Option<bool> {
        match (self.is_kept(), self.upstream) {
            (_, Upstream::Asked { .. }) => None,
            (true, Upstream::Due(at) | Upstream::Rests(at)) => (at <= now).then_some(false),
            (false, Upstream::Due(at)) => (self.standing.is_some() && at <= now).then_some(true),
            (false, Upstream::Rests(_)) => self.standing.is_some().then_some(true),
        }
    }

    /// When [`Follower::request`] has something, if nothing happens before.
    pub(super) fn request_at(&self, now: Timestamp) -> Option<Timestamp> {
        match (self.is_kept(), self.upstream) {
            (_, Upstream::Asked { .. }) => None,
            (true, Upstream::Due(at) | Upstream::Rests(at)) => Some(at),
            (false, _) if self.standing.is_none() => None,
            (false, Upstream::Due(at)) => Some(at),
            (false, Upstream::Rests(_)) => Some(now),
        }
    }

    /// The link is new or gone: what was asked is not answered any more.
    pub(super) fn unlink(&mut self, now: Timestamp, lease: Duration) {
        if let Upstream::Asked { ends, .. } = self.upstream
            && (!ends || self.standing.is_some())
        {
            // It may have been done.
            self.standing = Some(now.after(lease));
        }
        (self.upstream, self.placed, self.lost) = (Upstream::Due(now), false, false);
        self.unsure = self.unsure.or(Some(now));
    }

    /// The home has answered that it stands, for `lease`.
    pub(super) fn stands(&mut self, now: Timestamp, lease: Duration, bare: bool) {
        (self.standing, self.placed, self.failures) = (Some(now.after(lease)), true, 0);
        (self.unsure, self.heard) = (None, true);
        self.lost &= !bare;
        let refresh = if self.lost { now } else { now.after(lease / 2) };
        self.upstream = Upstream::Rests(refresh);
    }

    /// The home could not answer: it is asked again later. It knows of nothing held any more, so
    /// nothing is lost.
    pub(super) fn failed(&mut self, now: Timestamp, who: &Address, after: Option<Duration>) {
        (self.lost, self.heard) = (false, true);
        let after = after.map(|after| after.min(RETRY_AFTER_MAX));
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = wait.max(after.unwrap_or_default());
        self.upstream = Upstream::Due(now.after(wait + wait * share_of(who) / SHARES));
        self.unsure = self.unsure.or(Some(now));
    }

    /// The home's lease has run out, and it is asked again; what was shown is kept for as long as ours.
    pub(super) fn lapsed(&mut self, now: Timestamp) {
        self.standing = self.standing.filter(|_| self.group.is_some());
        self.unsure = self.unsure.or(Some(now));
        if !self.is_asked() {
            let again = self.lapsed.map_or(now, |last| last.after(LAPSE_PAUSE).max(now));
            self.upstream = Upstream::Due(again);
            self.lapsed = Some(again);
        }
    }

    /// Turns to a state that the home has named, or that follows from its silence; whether it is
    /// another.
    pub(super) fn turn(
        &mut self,
        now: Timestamp,
        state: SubscriptionState,
        event: Option<SubscriptionEvent>,
    ) -> bool {
        if self.state == state {
            return false;
        }
        if let Some(event) = event {
            (self.event, self.since) = (event, now);
        }
        self.state = state;
        true
    }

    /// It is active now, as the home says.
    pub(super) fn activate(&mut self, now: Timestamp) -> bool {
        let approved = self.state == SubscriptionState::Pending;
        self.unsure = None;
        self.turn(now, SubscriptionState::Active, approved.then_some(SubscriptionEvent::Approved))
    }

    /// Nobody here follows any more.
    pub(super) fn end(&mut self, now: Timestamp, event: SubscriptionEvent) {
        self.bonds.clear();
        self.turn(now, SubscriptionState::Terminated, Some(event));
    }

    /// When something is due of it, if nothing happens before.
    pub(super) fn next_deadline(
        &self,
        now: Timestamp,
        linked: Option<Timestamp>,
        terms: Terms,
    ) -> Option<Timestamp> {
        let stale = self.stale_at(linked, terms);
        // What is due already waits for the link, not for the time.
        let request = self.request_at(now).filter(|at| linked.is_some() && *at > now);
        [self.bonds.next_end(), self.standing, stale, request, self.late]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a time has come for it, other than that of its next request.
    pub(super) fn is_due(&self, now: Timestamp, linked: Option<Timestamp>, terms: Terms) -> bool {
        let stale = self.stale_at(linked, terms);
        let times = [self.bonds.next_end(), self.standing, stale, self.late];
        times.into_iter().flatten().any(|at| at <= now)
    }

    /// Its home shows it something: whether it looks now, or later at the newest that there is then.
    pub(super) fn may_look(&mut self, now: Timestamp, limit: PaceLimit) -> bool {
        if self.late.is_none() {
            let pace = self.pace.get_or_insert_with(|| Pace::rested(now, limit));
            self.late = pace.waits_until(now, limit);
            if self.late.is_none() {
                pace.spend();
            }
        }
        self.late.is_none()
    }

    /// Whether it has to look now, as it could not when something came.
    pub(super) fn looks_late(&mut self, now: Timestamp, limit: PaceLimit) -> bool {
        self.late.take_if(|at| *at <= now).is_some() && self.may_look(now, limit)
    }

    /// When it is stale, if it is not confirmed before; with the time since when there is a link.
    pub(super) fn stale_at(&self, linked: Option<Timestamp>, terms: Terms) -> Option<Timestamp> {
        let since = self.unsure.filter(|_| self.state == SubscriptionState::Active)?;
        // Whoever only waits to be asked for is not told of a cut that is over.
        let answered = linked.map(|linked| linked.after(terms.answer));
        Some(since.after(terms.stale)).max(answered)
    }
}
