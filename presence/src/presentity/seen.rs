//! Watchers as their owner sees them, and who of them has changed since somebody who follows that has
//! looked (RFC 3857, 3858): with a change goes what it is about, not how many watch.
//!
//! The owner sees them as they are shown, those whom it blocks politely too. What of it is told to
//! whom, and how often, is left to the server.

use std::collections::{BTreeMap, BTreeSet};

use impp_acl::Handling;
use impp_protocol::hashing::HashMap;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, SessionId, Timestamp};

use super::Presentity;
use crate::ageing::WINDOW;
use crate::ids::ListenerId;
use crate::looks::{Look, Looks};
use crate::watching::Watching;

/// Changes of which those who follow are told one by one; if there were more since they have looked,
/// they are told all anew.
const CHANGES_MAX: usize = 1024;

/// A watcher, or one who has looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub who: Address,
    /// How they stand; who has only looked as if they had followed for no time.
    pub state: SubscriptionState,
    /// What brought them there.
    pub event: SubscriptionEvent,
    /// Since when.
    pub since: Timestamp,
    /// Whether they are shown somebody who is offline, whatever the owner says.
    pub polite: bool,
    /// Whether that may be so, or have been until they went: nobody but the owner is to know of them.
    pub hidden: bool,
    /// What they have looked once.
    pub look: Option<Look>,
    /// How many they are, if it is those without a name.
    pub sessions: Option<usize>,
}

/// What has changed since somebody has looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// More than is known: they look at all of it, and ask for what comes after this.
    Anew(u64),
    /// This.
    Changed {
        /// Who stands otherwise or is new.
        entries: Vec<Seen>,
        /// Who is not listed any more.
        gone: Vec<Address>,
        /// What comes after this is asked for next.
        upto: u64,
        /// Whether there is more already.
        more: bool,
    },
}

/// That somebody has looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Whether nothing was known of them.
    pub is_new: bool,
    /// Who is to be woken by it.
    pub wake: BTreeSet<ListenerId>,
}

/// What a session of the owner's follows that hangs on who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Follows {
    /// Who watches.
    Watchers,
    /// Who waits for a decision.
    Requests,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sight {
    looks: Looks,
    /// Who follows: nothing is noted for nobody.
    followers: BTreeSet<(SessionId, Follows)>,
    /// How many changes there were, and up to which they are not known any more.
    last: u64,
    floor: u64,
    /// The last change of each, oldest first.
    order: BTreeMap<u64, Address>,
    of: HashMap<Address, u64>,
}

impl Sight {
    /// Somebody is seen otherwise.
    fn note(&mut self, who: &Address) {
        if self.followers.is_empty() {
            return;
        }
        self.last += 1;
        if let Some(before) = self.of.insert(who.clone(), self.last) {
            self.order.remove(&before);
        }
        self.order.insert(self.last, who.clone());
        while self.order.len() > CHANGES_MAX
            && let Some((at, who)) = self.order.pop_first()
        {
            self.floor = at;
            self.of.remove(&who);
        }
    }

    fn leave(&mut self, session: SessionId, what: Follows) {
        self.followers.remove(&(session, what));
        if self.followers.is_empty() {
            self.order.clear();
            self.of.clear();
            self.floor = self.last;
        }
    }

    fn listeners(&self) -> impl Iterator<Item = ListenerId> + '_ {
        self.followers.iter().map(|(session, _)| (*session).into())
    }
}

impl Presentity {
    /// Somebody has looked once, or asked to follow and was refused.
    pub fn looked(&mut self, now: Timestamp, who: &Address, refused: bool) -> Noted {
        if *who == self.newest.owner {
            return Noted::default();
        }
        let is_new = self.sight.looks.get(who).is_none();
        let gone = self.sight.looks.note(now, who, refused);
        [Some(who), gone.as_ref()].into_iter().flatten().for_each(|who| self.sight.note(who));
        Noted { is_new, wake: self.sight.listeners().collect() }
    }

    /// Who has looked so far is nobody's to see.
    pub fn forget_looks(&mut self) {
        self.sight.looks = Looks::default();
    }

    /// Whoever watches, or has looked lately.
    pub fn seen(&self, now: Timestamp) -> impl Iterator<Item = Seen> {
        let watchers = self.watchers().map(|(who, _)| who);
        let looks = self.sight.looks.iter().map(|(who, _)| who);
        let only = looks.filter(|who| self.watcher(who).is_none());
        watchers.chain(only).filter_map(move |who| self.seen_of(now, who))
    }

    /// How many were let go of before their time.
    pub fn unseen(&self) -> u64 {
        self.sight.looks.dropped() + self.newest.watchers.dropped()
    }

    /// A session of the owner's follows who watches, and asks what has changed since `after`: so many at
    /// most. Who has not asked before is told that all is new.
    pub fn news(
        &mut self,
        now: Timestamp,
        session: SessionId,
        after: Option<u64>,
        max: usize,
    ) -> News {
        for who in self.sight.looks.expire(now) {
            self.sight.note(&who);
        }
        let follows = !self.sight.followers.insert((session, Follows::Watchers));
        let Some(after) = after.filter(|after| follows && *after >= self.sight.floor) else {
            return News::Anew(self.sight.last);
        };
        let (mut entries, mut gone, mut upto) = (Vec::new(), Vec::new(), after);
        let mut changed = self.sight.order.range(after + 1..);
        for (at, who) in changed.by_ref().take(max) {
            upto = *at;
            match self.seen_of(now, who) {
                Some(seen) => entries.push(seen),
                None => gone.push(who.clone()),
            }
        }
        let more = changed.next().is_some();
        News::Changed { entries, gone, upto, more }
    }

    /// A session follows what hangs on who watches: every change of that wakes it.
    pub fn follow_watchers(&mut self, session: SessionId, what: Follows) {
        self.sight.followers.insert((session, what));
    }

    /// A session follows that no more.
    pub fn unfollow_watchers(&mut self, session: SessionId, what: Follows) {
        self.sight.leave(session, what);
    }

    /// These are shown otherwise, or not any more; who follows that is to look.
    pub(super) fn see<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a Address>,
    ) -> impl Iterator<Item = ListenerId> {
        let before = self.sight.last;
        changed.for_each(|who| self.sight.note(who));
        let is_any = self.sight.last != before;
        self.sight.listeners().filter(move |_| is_any)
    }

    fn seen_of(&self, now: Timestamp, who: &Address) -> Option<Seen> {
        let look = self.sight.looks.get(who).filter(|look| now < look.last.after(WINDOW)).copied();
        let is_kept = |w: &&Watching| !w.is_idle() || now < w.since.after(WINDOW);
        if let Some(watching) = self.watcher(who).filter(is_kept) {
            let (state, event, since) = (watching.state, watching.event, watching.since);
            let polite = is_polite(watching);
            let hidden = watching.decision.handling() == Handling::PoliteBlock;
            let (who, sessions) = (who.clone(), sessions(who, watching));
            return Some(Seen { who, state, event, since, polite, hidden, look, sessions });
        }
        let look = look?;
        let event = match look.refused {
            true => SubscriptionEvent::Rejected,
            false => SubscriptionEvent::Timeout,
        };
        let (who, state) = (who.clone(), SubscriptionState::Terminated);
        let (since, look) = (look.first, Some(look));
        // They may have been shown somebody who is offline.
        Some(Seen { who, state, event, since, polite: false, hidden: true, look, sessions: None })
    }
}

/// What the owner sees of a watcher.
pub(super) fn seen(
    who: &Address,
    watching: &Watching,
) -> (SubscriptionState, SubscriptionEvent, Timestamp, bool, Option<usize>) {
    let Watching { state, event, since, .. } = *watching;
    (state, event, since, is_polite(watching), sessions(who, watching))
}

/// How many they are who follow without a name: they stand alike, as sessions of one.
fn sessions(who: &Address, watching: &Watching) -> Option<usize> {
    (who.is_anonymous() && watching.is_active()).then(|| watching.bonds().len())
}

fn is_polite(watching: &Watching) -> bool {
    watching.is_active() && watching.decision.handling() == Handling::PoliteBlock
}
