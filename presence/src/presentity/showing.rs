//! What has changed is shown: whom to wake, and when. A presentity is shown changing at its pace; at
//! once where a change decides who may see.

use std::sync::Arc;

use impp_acl::ViewKey;
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};

use super::change::{State, sphere};
use super::contents::ToShow;
use super::pace::PaceLimit;
use super::seen::seen;
use super::step::Before;
use super::{Effects, Presentity};
use crate::policy::Policy;
use crate::watching::Watching;

impl Presentity {
    /// Shows a step that is not staged any more: what there was before it is in `before`. Whether all
    /// watchers are to be decided about anew.
    pub(super) fn show(
        &mut self,
        now: Timestamp,
        before: &Before,
        at_once: bool,
        effects: &mut Effects,
    ) -> bool {
        let come = self.show_watchers(now, before, effects);
        // What waits for the pace is not lost with the wait.
        let owed = at_once && self.contents.next_owed().is_some();
        let mut decided = before.policy.is_some() || owed;
        decided |= before.layers.is_some() && !come.is_empty();
        let rules = |policy: &Policy| Arc::clone(&policy.rules);
        let ruled = before.policy.as_ref();
        let mut moved = ruled.is_some_and(|old| !Arc::ptr_eq(&old.rules, &rules(self.policy())));
        // What hung on what was lost is decided now.
        moved |= before.lost.is_some();
        if let Some((_, old)) = &before.layers {
            self.shown = Arc::clone(self.shown_document());
            moved |= sphere(old) != sphere(&self.shown);
            decided |= at_once || before.lost.is_some();
        }
        if moved {
            self.fall_behind();
        }
        if decided {
            self.renew(now, None, moved, effects);
        } else if before.layers.is_some() {
            self.renew(now, Some(self.newest.pace_limit), moved, effects);
        }
        if moved || before.policy.is_some() {
            self.contents.grounds_change();
        }
        // Whoever may see from now on must not be shown what was private before.
        for key in come {
            self.contents.come(now, &key, &self.shown);
        }
        moved
    }

    /// Whose standing has changed is woken; the views of those who see something by it.
    fn show_watchers(
        &mut self,
        now: Timestamp,
        before: &Before,
        effects: &mut Effects,
    ) -> Vec<ViewKey> {
        let (mut come, mut gone, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for (who, old) in &before.watchers {
            let (old, new) = (old.as_ref(), self.watcher(who));
            let stands =
                |w: Option<&Watching>| w.map(|w| (w.state, w.event, w.decision.view_key()));
            if stands(old) != stands(new) {
                let active = new.filter(|new| new.is_active());
                if active.is_none() && !who.is_anonymous() {
                    let old = old.filter(|old| old.is_active());
                    gone.extend(old.and_then(|old| Some((who, old.decision.view_key()?))));
                }
                come.extend(active.and_then(|new| new.decision.view_key()));
                // Who asks to follow just now is told by the answer. Who lets go may have been held up
                // in what it has to say to others.
                effects.wake.extend(old.into_iter().flat_map(Watching::listeners));
            }
            let seen = |watching| seen(who, watching);
            if old.map(seen) != new.map(seen) {
                changed.push(who);
            }
            // Another link has taken the place of one, which is to say so.
            if let (Some(old), Some(new)) = (old, new)
                && new.bonds().is_kept_by_server()
                && !new.listeners().is_empty()
            {
                let (old, new) = (old.listeners(), new.listeners());
                let replaced = old.iter().filter(|other| !new.contains(other));
                effects.wake.extend(replaced);
            }
        }
        for (who, key) in gone {
            self.contents.part(now, who, &key, &self.shown);
        }
        let follow = self.see(changed.into_iter());
        effects.wake.extend(follow);
        come
    }

    /// Does what is due: layers and leases end, decisions change with time, a paced change goes out, a
    /// recovery ends. That layers and leases have ended is true whether it is stored or not.
    pub fn expire(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        self.show_committed(now, &mut effects);
        let is_over = self.recovering_until.is_some_and(|until| until <= now);
        // What hung on what is lost is decided without it.
        let gives_up = is_over && self.has_lost();
        let ends = gives_up || self.ends_at().is_some_and(|at| at <= now);
        if ends || self.behind.is_any() {
            let end = |state: &mut State| {
                state.expire(now);
                state.lost &= !gives_up;
            };
            effects.follow(self.beneath(now, false, end).1);
        }
        if is_over {
            // Whoever was told nothing is told now.
            self.recovering_until = None;
            let all = self.newest.watchers.iter().flat_map(|(_, watching)| watching.listeners());
            effects.wake.extend(all);
        }
        for key in self.contents.due(now) {
            let limit = Some(self.newest.pace_limit);
            if self.contents.pay(ToShow { now, document: &self.shown, limit }, &key) {
                self.behind.renewed = true;
                self.wake_view(&key, &mut effects);
            }
        }
        effects
    }

    /// When [`Presentity::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.behind.is_any() || self.waits_to_be_shown() {
            // At once.
            return Some(Timestamp::from_millis(0));
        }
        let watched = !self.newest.watchers.is_empty();
        let recovery = self.recovering_until.filter(|_| watched || self.has_lost());
        self.ends_at().into_iter().chain(self.contents.next_owed()).chain(recovery).min()
    }

    /// Whether it is shown, or comes to be shown, without knowing what a crash has lost.
    fn has_lost(&self) -> bool {
        self.newest.lost || self.staged.iter().any(|staged| staged.before.lost.is_some())
    }

    /// When time ends something that is shown. What is staged has its turn when it is shown: to end it
    /// before would be to end it again and again, as long as the disk hangs.
    fn ends_at(&self) -> Option<Timestamp> {
        let mut staged = HashMap::default();
        for (who, watching) in self.staged.iter().flat_map(|staged| &staged.before.watchers) {
            staged.entry(who).or_insert(watching);
        }
        let newest = self.newest.watchers.deadlines().find(|(_, who)| !staged.contains_key(who));
        let newest = newest.map(|(at, _)| *at);
        let staged = staged.values().filter_map(|w| w.as_ref().and_then(Watching::next_deadline));
        let mandates = self.mandates_end_at();
        staged.chain(newest).chain(self.layers().next_deadline()).chain(mandates).min()
    }

    /// Brings every view in use up to date, at its pace if there is one, and wakes those whose view has
    /// changed; who is behind looks when it is decided what that is.
    fn renew(
        &mut self,
        now: Timestamp,
        limit: Option<PaceLimit>,
        all_behind: bool,
        effects: &mut Effects,
    ) {
        let keys: Vec<ViewKey> = self.views().collect();
        let to_show = ToShow { now, document: &self.shown, limit };
        for key in self.contents.renew(to_show, keys.iter()) {
            self.behind.renewed = true;
            if !all_behind {
                self.wake_view(key, effects);
            }
        }
    }

    /// Who has this view looks.
    fn wake_view(&self, key: &ViewKey, effects: &mut Effects) {
        let staged = self.staged.iter().flat_map(|staged| &staged.before.watchers);
        let staged = staged.filter_map(|(who, watching)| Some((who, watching.as_ref()?)));
        let has_it = |watching: &Watching| {
            watching.is_active() && watching.decision.view_key().as_ref() == Some(key)
        };
        let also = staged.filter(|(_, watching)| has_it(watching));
        let all = self.newest.watchers.of_view(key).chain(also);
        // Who is behind would find nothing yet.
        let free = all.filter(|(who, _)| !self.behind.has(who));
        effects.wake.extend(free.flat_map(|(_, watching)| watching.listeners()));
    }

    /// What is shown to anybody, now or with what is staged.
    fn views(&self) -> impl Iterator<Item = ViewKey> {
        let newest = self.newest.watchers.views().map(|(key, _)| key.clone());
        let staged = self.staged.iter().flat_map(|staged| staged.before.watchers.values());
        let staged = staged.flatten().filter(|watching| watching.is_active());
        let staged = staged.filter_map(|watching| watching.decision.view_key());
        let known = |key: &ViewKey| self.newest.watchers.of_view(key).next().is_some();
        newest.chain(staged.filter(move |key| !known(key)))
    }

    /// One watcher, as it is shown.
    pub fn watcher(&self, who: &Address) -> Option<&Watching> {
        self.versions_of(who).next().flatten()
    }

    /// The watchers, with how each is shown.
    pub fn watchers(&self) -> impl Iterator<Item = (&Address, &Watching)> {
        let newest = self.newest.watchers.iter().map(|(who, _)| who);
        let gone = self.staged.iter().flat_map(|staged| staged.before.watchers.keys());
        let is_gone = |who: &&Address| self.newest.watchers.get(who).is_none();
        let gone: std::collections::BTreeSet<&Address> = gone.filter(is_gone).collect();
        newest.chain(gone).filter_map(|who| Some((who, self.watcher(who)?)))
    }
}
