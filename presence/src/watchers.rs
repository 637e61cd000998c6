//! All watchers of a presentity, and what is asked of them together: when the next one is due, who
//! sees the same, how many wait. It is brought up to date with each change of one, so that nothing
//! looks at all of them because one has changed.

use std::collections::BTreeSet;

use impp_acl::ViewKey;
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::{Address, Timestamp};

use crate::ageing::Ageing;
use crate::ids::ListenerId;
use crate::watching::Watching;

/// Watchers whose subscriptions have ended and of whom word is kept, for a while (`WINDOW`), at most. Where
/// there are more the oldest goes of the domain that has most, as of those who have looked.
const ENDED_MAX: usize = 256;

/// Watchers as they were before a step; `None` where there was none.
pub(crate) type Former = HashMap<Address, Option<Watching>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    all: HashMap<Address, Watching>,
    /// How those were that have changed since [`Watchers::begin`].
    former: Former,
    agenda: BTreeSet<(Timestamp, Address)>,
    /// Active ones, by what they see.
    views: HashMap<ViewKey, HashSet<Address>>,
    /// Ended ones whom nobody listens for any more.
    idle: Ageing,
    waiting: usize,
    /// Of these, by the watcher's domain.
    waiting_of: HashMap<String, usize>,
    /// How many were let go of for lack of room; made anew after a failure of the store, one counts again.
    dropped: u64,
}

/// Where one watcher stands in the tables.
#[derive(PartialEq)]
struct Place {
    due: Option<Timestamp>,
    view: Option<ViewKey>,
    idle: Option<Timestamp>,
    waits: bool,
}

impl Place {
    fn of(watching: Option<&Watching>) -> Place {
        let active = watching.filter(|watching| watching.is_active());
        Place {
            due: watching.and_then(Watching::next_deadline),
            view: active.and_then(|watching| watching.decision.view_key()),
            idle: watching.filter(|w| w.is_idle()).map(|w| w.since),
            waits: watching.is_some_and(Watching::is_waiting),
        }
    }
}

impl Watchers {
    /// Those that the store remembers.
    pub(crate) fn restored(all: HashMap<Address, Watching>) -> Watchers {
        let mut watchers = Watchers::default();
        for (address, watching) in all {
            watchers.set(&address, Some(watching));
        }
        watchers.begin();
        watchers
    }

    /// From now on it is noted how those were that change.
    pub(crate) fn begin(&mut self) -> Former {
        std::mem::take(&mut self.former)
    }

    /// One of them.
    pub(crate) fn get(&self, who: &Address) -> Option<&Watching> {
        self.all.get(who)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Watching)> {
        self.all.iter()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Changes one; `None` in it stands for none, before and after.
    pub(crate) fn edit<R>(
        &mut self,
        who: &Address,
        act: impl FnOnce(&mut Option<Watching>) -> R,
    ) -> R {
        let mut watching = self.all.remove(who);
        if !self.former.contains_key(who) {
            self.former.insert(who.clone(), watching.clone());
        }
        let before = Place::of(watching.as_ref());
        let answer = act(&mut watching);
        let after = Place::of(watching.as_ref());
        if let Some(watching) = watching {
            self.all.insert(who.clone(), watching);
        }
        if before != after {
            self.displace(who, before);
            self.place(who, after);
        }
        answer
    }

    /// Puts one in the place of what is there.
    pub(crate) fn set(&mut self, who: &Address, watching: Option<Watching>) {
        self.edit(who, |now| *now = watching);
    }

    /// Nobody is told over this session or link any more. It is no change of how a watcher stands,
    /// and is not noted as one.
    pub(crate) fn unlisten(&mut self, who: &Address, listener: ListenerId) {
        let Some(watching) = self.all.get_mut(who) else { return };
        let before = watching.is_idle();
        watching.unlisten(listener);
        if !before && watching.is_idle() {
            let since = watching.since;
            self.idle.add(since, who);
        }
    }

    /// Those for whom time has something to do.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Address> {
        let due = self.agenda.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, who)| who.clone()).collect()
    }

    /// When that is so, and for whom, the next one first.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = &(Timestamp, Address)> {
        self.agenda.iter()
    }

    /// How many wait for the owner.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of one domain do.
    pub(crate) fn waiting_of(&self, domain: &str) -> usize {
        self.waiting_of.get(domain).copied().unwrap_or_default()
    }

    /// What active watchers see, and who sees it.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&ViewKey, &HashSet<Address>)> {
        self.views.iter()
    }

    /// Who sees this.
    pub(crate) fn of_view(&self, key: &ViewKey) -> impl Iterator<Item = (&Address, &Watching)> {
        let members = self.views.get(key).into_iter().flatten();
        members.filter_map(|who| self.all.get_key_value(who))
    }

    /// How many of those of whom only word was kept had to make room before their time.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets those of whom only word is kept when their time is over, and of the domain that has most
    /// the oldest if they are too many.
    pub(crate) fn trim(&mut self, now: Timestamp) {
        let over: Vec<Address> = self.idle.over(now).cloned().collect();
        over.iter().for_each(|who| self.set(who, None));
        while self.idle.len() > ENDED_MAX
            && let Some(who) = self.idle.crowding().cloned()
        {
            self.dropped += 1;
            self.set(&who, None);
        }
    }

    fn place(&mut self, who: &Address, place: Place) {
        let Place { due, view, idle, waits } = place;
        self.agenda.extend(due.map(|at| (at, who.clone())));
        idle.into_iter().for_each(|since| self.idle.add(since, who));
        if let Some(key) = view {
            self.views.entry(key).or_default().insert(who.clone());
        }
        if waits {
            self.waiting += 1;
            *self.waiting_of.entry(who.domain_str().to_owned()).or_default() += 1;
        }
    }

    fn displace(&mut self, who: &Address, place: Place) {
        let Place { due, view, idle, waits } = place;
        if let Some(at) = due {
            self.agenda.remove(&(at, who.clone()));
        }
        if let Some(since) = idle {
            self.idle.remove(since, who);
        }
        if let Some(key) = view
            && let Some(members) = self.views.get_mut(&key)
        {
            members.remove(who);
            if members.is_empty() {
                self.views.remove(&key);
            }
        }
        if waits {
            self.waiting -= 1;
            if let Some(count) = self.waiting_of.get_mut(who.domain_str()) {
                *count -= 1;
                if *count == 0 {
                    self.waiting_of.remove(who.domain_str());
                }
            }
        }
    }
}
