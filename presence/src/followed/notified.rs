//! NOTIFY from the home: who sees the same, and what.
//!
//! A content reaches a group only if the home and this server agree on who is in it: the version of
//! the set says so. What does not fit is asked for again.

use std::time::Duration;

use impp_acl::View;
use impp_protocol::command::Notify;
use impp_protocol::presence::{DOCUMENT_BYTES_MAX, Document, Patch, Version};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};

use super::cache::{GroupId, Kept};
use super::{Effects, Follower, Mirror, Terms};
use crate::presentity::PaceLimit;

/// After the home was asked for all because something did not fit, it is not asked so again for so
/// long.
pub(super) const REPAIR_PAUSE: Duration = Duration::from_secs(10);

/// What a NOTIFY makes of what a group sees.
enum Seen {
    /// Nothing new.
    Same,
    /// This.
    New(Kept),
    /// There is no telling.
    Broken,
}

impl Mirror {
    /// The home says something unasked; `room` is how many bytes more may be kept. It is true at once;
    /// who follows looks at it at the pace of [`Terms::pace`].
    pub fn notified(
        &mut self,
        now: Timestamp,
        notify: &Notify,
        terms: Terms,
        room: usize,
    ) -> Effects {
        let mut effects = Effects::default();
        match notify.group {
            None => {
                for watcher in &notify.watchers {
                    self.told_one(now, watcher, notify, terms.pace, &mut effects);
                }
            }
            Some(handle) if notify.state == SubscriptionState::Active => {
                self.told_group(now, handle, notify, (terms.pace, room), &mut effects);
            }
            Some(_) => effects.unsolicited += 1,
        }
        effects
    }

    /// Whether it may not fit for a while: the home was or will be asked for all.
    fn is_in_repair(&self) -> bool {
        self.repair_at.is_some() || self.followers.values().any(|follower| follower.lost)
    }

    /// How one follower stands.
    fn told_one(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        notify: &Notify,
        pace: PaceLimit,
        effects: &mut Effects,
    ) {
        let before = self.kept(watcher);
        let found = self.followers.get_mut(watcher);
        let Some(follower) = found.filter(|follower| follower.placed) else {
            // A lease that runs out on both sides at once is no surprise.
            effects.unsolicited += u64::from(!is_lapse(notify));
            return;
        };
        let wake = follower.listeners.clone();
        let changed = match (notify.state, notify.event) {
            // Between the servers only: it is asked for again if anybody keeps it here.
            _ if is_lapse(notify) => {
                self.detach(watcher);
                if let Some(follower) = self.followers.get_mut(watcher) {
                    follower.lapsed(now);
                }
                effects.asks |= self.asks_for(now, watcher);
                false
            }
            (SubscriptionState::Pending, event) => {
                self.cache.leave(watcher, follower.group.take());
                let event = event.or(Some(SubscriptionEvent::Subscribe));
                follower.is_kept()
                    && !follower.is_ending()
                    && follower.turn(now, SubscriptionState::Pending, event)
            }
            // Nothing is shown yet.
            (SubscriptionState::Active, _) => {
                follower.is_kept() && !follower.is_ending() && follower.activate(now)
            }
            (SubscriptionState::Terminated, event) => {
                let event = event.unwrap_or(SubscriptionEvent::Deactivated);
                if follower.is_asked() {
                    self.detach(watcher);
                }
                self.ended(now, watcher, event, None, effects);
                true
            }
            _ => {
                effects.unsolicited += 1;
                false
            }
        };
        // What it may not see any more it loses at once.
        let paced = |follower: &mut Follower| {
            follower.state != SubscriptionState::Active || follower.may_look(now, pace)
        };
        if changed && self.followers.get_mut(watcher).is_none_or(paced) {
            effects.wake.extend(wake);
        }
        self.note(watcher, before, effects);
        self.tidy(watcher);
    }

    /// Who is in a group, and what it sees.
    fn told_group(
        &mut self,
        now: Timestamp,
        handle: u64,
        notify: &Notify,
        (pace, room): (PaceLimit, usize),
        effects: &mut Effects,
    ) {
        let placed = |watcher: &&Address| {
            self.followers.get(*watcher).is_some_and(|follower| follower.placed)
        };
        let joined: Vec<Address> = notify.watchers.iter().filter(placed).cloned().collect();
        effects.unsolicited += (notify.watchers.len() - joined.len()) as u64;
        if joined.is_empty() && self.cache.find(handle).is_none() {
            if !self.is_in_repair() {
                effects.unsolicited += 1;
            }
            return;
        }
        let group = self.cache.open(handle);
        for watcher in &joined {
            self.joins(now, watcher, group, pace, effects);
        }
        let fits = notify.set.is_some() && self.cache.set(group) == notify.set;
        if !fits && !self.is_in_repair() {
            return self.repair_soon(now, effects);
        }
        match self.seen(group, notify) {
            Seen::Same => {}
            Seen::New(kept) => self.show(now, (group, kept), pace, room, effects),
            // What was on the way when the home was asked for all.
            Seen::Broken if self.is_in_repair() => {
                // Whoever of them was answered since is not asked for all any more.
                let lost = |watcher: &Address| {
                    self.followers.get(watcher).is_some_and(|follower| follower.lost)
                };
                if !self.cache.members(group).all(lost) {
                    let last = self.repaired.unwrap_or(now);
                    self.repair_at.get_or_insert(last.after(REPAIR_PAUSE));
                }
            }
            Seen::Broken => self.repair_soon(now, effects),
        }
    }

    /// A follower is in this group from now on.
    fn joins(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        group: GroupId,
        pace: PaceLimit,
        effects: &mut Effects,
    ) {
        let before = self.kept(watcher);
        if let Some(follower) = self.followers.get_mut(watcher) {
            self.cache.enter(watcher, follower.group, group);
            // Who was in another one may see less from now on.
            let moves = follower.group.replace(group).is_some_and(|former| former != group);
            if follower.is_kept() && !follower.is_ending() {
                follower.activate(now);
                if moves || follower.may_look(now, pace) {
                    effects.wake.extend(&follower.listeners);
                }
            }
        }
        self.note(watcher, before, effects);
    }

    fn seen(&self, group: GroupId, notify: &Notify) -> Seen {
        let Some(version) = notify.version else { return Seen::Broken };
        let content = match (&notify.snapshot, &notify.patch, notify.base) {
            (Some(snapshot), None, None) if Version::of(snapshot) == version => {
                let document = Document::decode(snapshot.clone()).ok();
                document.map(|document| View::decided_at_home(document).content())
            }
            (None, Some(_), Some(_)) if self.cache.is_dropped(group) => return Seen::Same,
            (None, Some(patch), Some(base)) => self.cache.base(group, base).and_then(|base| {
                let patch = Patch::decode(patch.clone()).ok()?;
                let content = base.content.patched_at_home(&patch).ok()?;
                (content.version() == version).then_some(content)
            }),
            (None, None, None) => match self.cache.kept(Some(group)) {
                Some(kept) if kept.version == version => return Seen::Same,
                None if self.cache.is_dropped(group) => return Seen::Same,
                None => self.cache.base(group, version).map(|kept| kept.content.clone()),
                Some(_) => None,
            },
            _ => None,
        };
        // What is larger than a document can be would not fit what our clients are sent.
        match content.filter(|content| content.size() <= DOCUMENT_BYTES_MAX) {
            Some(content) => Seen::New(Kept { content, version }),
            None => Seen::Broken,
        }
    }

    /// A group sees something new, or what it saw is void because there is no room for it.
    fn show(
        &mut self,
        now: Timestamp,
        (group, kept): (GroupId, Kept),
        pace: PaceLimit,
        room: usize,
        effects: &mut Effects,
    ) {
        let put = self.cache.put(group, kept, room);
        for watcher in self.cache.members(group) {
            let Some(follower) = self.followers.get_mut(watcher) else { continue };
            if !follower.is_kept() || follower.is_ending() {
                continue;
            }
            if put {
                follower.activate(now);
            } else {
                follower.turn(now, SubscriptionState::Unknown, None);
            }
            match !put || follower.may_look(now, pace) {
                true => effects.wake.extend(&follower.listeners),
                false => self.agenda.changed(watcher),
            }
        }
    }
}

/// Whether the home says that a lease has run out there.
fn is_lapse(notify: &Notify) -> bool {
    notify.state == SubscriptionState::Waiting
        || (notify.state == SubscriptionState::Terminated
            && notify.event == Some(SubscriptionEvent::Timeout))
}
