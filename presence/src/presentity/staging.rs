//! How a change comes to be seen: *staged*, it is made on top of what is staged already, and what is
//! to be stored is known; *committed*, the store has it; *shown*, all that was staged before it is
//! shown too, and only now is it seen by who looks, pulls or is woken.
//!
//! What was not stored takes away exactly its own change: it is taken back with all that was staged
//! after it, and that is made anew. A change with nothing to store is shown at once, beneath what is
//! staged. For this, each staged change keeps how it found what it has changed; so nothing is copied
//! whole, however many watch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use impp_acl::DomainPolicy;
use impp_protocol::{Address, Timestamp};

use super::change::{Answer, Change, State};
use super::step::{Before, Key, Write};
use super::{Effects, Presentity};
use crate::ids::ListenerId;
use crate::policy::{Policy, Sphere};
use crate::watching::Watching;

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// There was nothing to store: it is shown.
    Shown(Answer),
    /// It is shown when [`Presentity::committed`] says so, by this number.
    Staged(u64),
}

/// A change on its way to the disk.
#[derive(Debug)]
pub(super) struct Staged {
    id: u64,
    /// Its place among all that were asked for, stored or not: it keeps it when it is made anew.
    order: u64,
    now: Timestamp,
    change: Change,
    answer: Answer,
    /// How it found what it has changed.
    pub before: Before,
    /// What it has had written, and what the store has of that if it fails, as long as nothing else
    /// was written of it since.
    wrote: BTreeMap<Key, Write>,
    /// It had nothing to store, as it only repeats what is staged before it.
    repeats: bool,
    committed: bool,
    /// The version that its rules got.
    number: Option<u64>,
}

impl Presentity {
    /// Stages a change, or shows it at once if nothing of it is to be stored, or if it is true already.
    /// What the effects say is to be stored as one unit, after all that was to be before.
    pub fn stage(&mut self, now: Timestamp, change: Change) -> (Staging, Effects) {
        let order = self.next_order(now);
        if change.is_at_once() {
            self.overtake(&change);
            let (answer, effects) =
                self.beneath(now, true, |state| state.make(now, order, &change));
            return (Staging::Shown(answer), effects);
        }
        let (answer, mut before) = self.newest.step(|state| state.make(now, order, &change));
        let mut writes = self.newest.writes_since(&before);
        if let Change::PutRules { text, base, .. } = &change {
            writes.push(Write::Rules(text.clone(), *base));
        }
        let mut effects = Effects::default();
        if writes.is_empty() && self.staged.is_empty() {
            self.show(now, &before, false, &mut effects);
            self.decide_first(now, &mut effects);
            return (Staging::Shown(answer), effects);
        }
        if writes.is_empty() {
            self.newest.restore(before);
            if !self.depends_on_staged(now, order, &change) {
                self.overtake(&change);
                let make = |state: &mut State| state.make(now, order, &change);
                let (answer, effects) = self.beneath(now, false, make);
                return (Staging::Shown(answer), effects);
            }
            before = self.newest.step(|state| state.make(now, order, &change)).1;
        }
        let id = self.staged_ever;
        self.staged_ever += 1;
        let wrote = self.wrote(&writes, &before);
        // What only repeats what is staged is stored with that.
        let (repeats, committed) = (writes.is_empty(), writes.is_empty());
        let number = None;
        let staged =
            Staged { id, order, now, change, answer, before, wrote, repeats, committed, number };
        self.staged.push_back(staged);
        (Staging::Staged(id), Effects { writes, ..effects })
    }

    /// The place of a change among all that are asked for: above all that a store has given of which this is
    /// a copy. A contact list gets its number by it, and devices know those of before.
    fn next_order(&mut self, now: Timestamp) -> u64 {
        self.asked_ever = (self.asked_ever + 1).max(now.as_millis());
        self.asked_ever
    }

    /// A change is shown before what is staged; see [`Change::overtaken_by`].
    fn overtake(&mut self, change: &Change) {
        self.staged.iter_mut().for_each(|staged| staged.change.overtaken_by(change));
    }

    /// Whether a change that has nothing to store had something, if what is staged were not.
    fn depends_on_staged(&mut self, now: Timestamp, order: u64, change: &Change) -> bool {
        let mut later = std::mem::take(&mut self.staged);
        self.roll_back(&mut later);
        let (_, before) = self.newest.step(|state| state.make(now, order, change));
        let depends = !self.newest.writes_since(&before).is_empty();
        self.newest.restore(before);
        self.make_again(later, &mut Before::default());
        depends
    }

    /// Stages a change and shows it, where there is no store.
    pub fn make(&mut self, now: Timestamp, change: Change) -> (Answer, Effects) {
        match self.stage(now, change) {
            (Staging::Shown(answer), effects) => (answer, effects),
            (Staging::Staged(id), Effects { writes, .. }) => {
                let effects = self.committed(now, id, None);
                let answer = effects.answers.iter().find(|(of, _)| *of == id);
                let answer = answer.map_or(Answer::Done, |(_, answer)| *answer);
                (answer, Effects { writes, ..effects })
            }
        }
    }

    /// The store has what a staged change is about; the version that rules got, if it is about these.
    /// It is shown when all that were staged before it are.
    pub fn committed(&mut self, now: Timestamp, id: u64, rules: Option<u64>) -> Effects {
        let mut effects = Effects::default();
        if let Some(index) = self.staged.iter().position(|staged| staged.id == id) {
            self.staged[index].committed = true;
            if let Some(number) = rules {
                self.number_rules(index, number);
            }
        }
        self.show_committed(now, &mut effects);
        self.decide_first(now, &mut effects);
        effects
    }

    /// What was just shown has moved the ground: the first watchers are decided about in the same step.
    fn decide_first(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.behind.is_any() {
            effects.follow(self.beneath(now, false, |_| ()).1);
        }
    }

    /// A staged change was not stored: it alone is taken back, and what was staged after it is made
    /// anew. `partly` if some of it may have been stored.
    pub fn failed(&mut self, now: Timestamp, id: u64, partly: bool) -> Effects {
        let mut effects = Effects::default();
        let Some(index) = self.staged.iter().position(|staged| staged.id == id) else {
            return effects;
        };
        let mut later = self.staged.split_off(index);
        // What the store comes to have of each thing.
        let mut stored = BTreeMap::new();
        for (key, write) in later.front().map(|failed| failed.wrote.clone()).unwrap_or_default() {
            // Whoever writes it next finds what this one has found.
            let next = later.iter_mut().skip(1).find_map(|staged| staged.wrote.get_mut(&key));
            match next {
                Some(found) => *found = write,
                None => drop(stored.insert(key, write)),
            }
        }
        let mut whole = self.roll_back(&mut later);
        let failed = later.pop_front();
        effects.again = self.make_again(later, &mut whole);
        self.note_again(&effects.again, &whole, &mut stored);
        effects.writes = self.corrections(&whole, &stored);
        if let Some(failed) = failed.filter(|_| partly) {
            let keys = failed.wrote.into_keys().filter(|key| *key != Key::Rules);
            effects.writes.extend(keys.map(|key| self.newest.write(&key)));
        }
        self.forget_written(&effects.writes);
        self.show_committed(now, &mut effects);
        self.release(now, &mut effects);
        effects
    }

    /// The clock on the wall was changed, and is so many milliseconds ahead of `now`: what rules say of
    /// times is judged anew, also for what is staged.
    pub fn wall_moved(&mut self, now: Timestamp, ahead: i64) -> Effects {
        self.decided_anew(now, |policy| policy.ahead = ahead)
    }

    /// The owner's domain lays down something else: all is judged by it, also what is staged.
    pub fn laid_down(&mut self, now: Timestamp, domain: &Arc<DomainPolicy>) -> Effects {
        self.decided_anew(now, |policy| policy.domain = domain.clone())
    }

    /// What decides beside the owner's changes is another, also of what is staged.
    fn decided_anew(&mut self, now: Timestamp, change: impl FnMut(&mut Policy)) -> Effects {
        let staged = self.staged.iter_mut().filter_map(|staged| staged.before.policy.as_mut());
        staged.chain([&mut self.newest.policy]).for_each(change);
        self.fall_behind();
        self.beneath(now, false, |state| state.end_unmandated(now)).1
    }

    /// Does something that is seen at once, beneath all that is staged.
    pub(super) fn beneath<R>(
        &mut self,
        now: Timestamp,
        at_once: bool,
        act: impl FnOnce(&mut State) -> R,
    ) -> (R, Effects) {
        let mut effects = Effects::default();
        let grounds = self.staged_rules();
        let mut later = std::mem::take(&mut self.staged);
        let mut whole = self.roll_back(&mut later);
        let (answer, before) = self.newest.step(act);
        whole.and(&before);
        self.show(now, &before, at_once, &mut effects);
        let decided = self.catch_up(now, &mut whole, &mut effects);
        effects.again = self.make_again(later, &mut whole);
        // Nothing may be taken any more from who was held back.
        if self.staged_rules() != grounds {
            self.release(now, &mut effects);
        } else {
            self.release_of(now, whole.watchers.keys(), &mut effects);
        }
        let mut stored = BTreeMap::new();
        self.note_again(&effects.again, &whole, &mut stored);
        let corrections = self.corrections(&whole, &stored);
        self.forget_written(&corrections);
        let later =
            |write: &Write| matches!(write, Write::Watcher(who, _) if decided.contains(who));
        (effects.later, effects.writes) = corrections.into_iter().partition(later);
        (answer, effects)
    }

    /// What the store would come to have otherwise than it is in the newest state: it has what is in
    /// `stored`, and else what was in the newest state before, which is in `whole`.
    fn corrections(&self, whole: &Before, stored: &BTreeMap<Key, Write>) -> Vec<Write> {
        let mut keys = whole.keys(&self.newest);
        keys.extend(stored.keys().cloned());
        // Rules are stored by their own change alone, and by their version.
        keys.remove(&Key::Rules);
        let is_right = |key: &Key| {
            let known = || whole.write(key, &self.newest);
            stored.get(key).cloned().unwrap_or_else(known) == self.newest.write(key)
        };
        keys.iter().filter(|key| !is_right(key)).map(|key| self.newest.write(key)).collect()
    }

    /// What the store has of these things if they are not written.
    fn wrote(&self, writes: &[Write], before: &Before) -> BTreeMap<Key, Write> {
        let keys = writes.iter().map(Write::key);
        keys.map(|key| (key.clone(), before.write(&key, &self.newest))).collect()
    }

    /// These are written anew, after all that is staged.
    fn forget_written(&mut self, writes: &[Write]) {
        for staged in &mut self.staged {
            writes.iter().for_each(|write| drop(staged.wrote.remove(&write.key())));
        }
    }

    /// Takes staged changes back, the last one first; how things were before that.
    fn roll_back(&mut self, staged: &mut VecDeque<Staged>) -> Before {
        let mut whole = Before::default();
        for staged in staged.iter_mut().rev() {
            let before = std::mem::take(&mut staged.before);
            let ((), back) = self.newest.step(|state| state.restore(before));
            whole.and(&back);
        }
        whole
    }

    /// Makes staged changes anew that were taken back. What had nothing to store, as it only repeated
    /// what was staged before, may have now.
    fn make_again(
        &mut self,
        later: VecDeque<Staged>,
        whole: &mut Before,
    ) -> Vec<(u64, Vec<Write>)> {
        let mut again = Vec::new();
        for mut staged in later {
            let Staged { now, order, change, number, .. } = &staged;
            let (answer, before) = self.newest.step(|state| {
                let answer = state.make(*now, *order, change);
                state.policy.number = number.unwrap_or(state.policy.number);
                answer
            });
            whole.and(&before);
            if staged.repeats {
                let writes = self.newest.writes_since(&before);
                (staged.repeats, staged.committed) = (writes.is_empty(), writes.is_empty());
                if !writes.is_empty() {
                    again.push((staged.id, writes));
                }
            }
            (staged.answer, staged.before) = (answer, before);
            self.staged.push_back(staged);
        }
        again
    }

    /// What is written again finds what the store comes to have by then: `stored` says what of that is
    /// not as it was in the newest state before, which is in `whole`.
    fn note_again(
        &mut self,
        again: &[(u64, Vec<Write>)],
        whole: &Before,
        stored: &mut BTreeMap<Key, Write>,
    ) {
        for (id, writes) in again {
            let Some(staged) = self.staged.iter_mut().find(|staged| staged.id == *id) else {
                continue;
            };
            for write in writes {
                let found = || whole.write(&write.key(), &self.newest);
                let found = stored.insert(write.key(), write.clone()).unwrap_or_else(found);
                staged.wrote.insert(write.key(), found);
            }
        }
    }

    /// Shows what is committed, up to what moves the ground: who stands on it is decided about before
    /// more is shown.
    pub(super) fn show_committed(&mut self, now: Timestamp, effects: &mut Effects) {
        let grounds = self.staged_rules();
        let (mut touched, mut moved) = (BTreeSet::new(), false);
        while !moved
            && self.waits_to_be_shown()
            && let Some(staged) = self.staged.pop_front()
        {
            moved = self.show(now, &staged.before, false, effects);
            let answer = staged.number.map_or(staged.answer, Answer::Numbered);
            effects.answers.push((staged.id, answer));
            touched.extend(staged.before.watchers.into_keys());
        }
        if self.staged_rules() != grounds {
            self.release(now, effects);
        } else {
            self.release_of(now, touched.iter(), effects);
        }
    }

    /// Whether something committed is not shown yet.
    pub(super) fn waits_to_be_shown(&self) -> bool {
        self.staged.front().is_some_and(|staged| staged.committed)
    }

    /// The rules of a staged change have got their version: so have all later states with them.
    fn number_rules(&mut self, index: usize, number: u64) {
        let Change::PutRules { rules, .. } = &self.staged[index].change else { return };
        let rules = rules.clone();
        self.staged[index].number = Some(number);
        let later = self.staged.range_mut(index + 1..).filter_map(|s| s.before.policy.as_mut());
        for policy in later.chain([&mut self.newest.policy]) {
            if Arc::ptr_eq(&policy.rules, &rules) {
                policy.number = number;
            }
        }
    }

    /// Nobody is told over this session or link any more, whatever is staged.
    pub(super) fn unlisten(&mut self, who: &Address, listener: ListenerId) {
        self.newest.watchers.unlisten(who, listener);
        for staged in &mut self.staged {
            staged.change.unlisten(listener);
            if let Some(Some(watching)) = staged.before.watchers.get_mut(who) {
                watching.unlisten(listener);
            }
        }
    }

    /// A watcher as it is shown, and then as it will be with each staged change.
    pub(super) fn versions_of(&self, who: &Address) -> impl Iterator<Item = Option<&Watching>> {
        let before = self.staged.iter().filter_map(|staged| staged.before.watchers.get(who));
        before.map(Option::as_ref).chain([self.newest.watchers.get(who)])
    }

    /// The policies and spheres by which is decided: as shown, and then with each staged change that
    /// has other ones. Most have not: however many wait for the disk, one decision is enough then.
    pub(super) fn grounds(&self) -> impl Iterator<Item = (&Policy, Sphere<'_>)> {
        let (mut policy, mut sphere) = (&self.newest.policy, self.newest.sphere());
        let (mut document, mut lost) = (&*self.newest.document, self.newest.lost);
        let mut grounds = vec![(policy, sphere)];
        for Staged { before, .. } in self.staged.iter().rev() {
            document = before.layers.as_ref().map_or(document, |(_, document)| document);
            lost = before.lost.unwrap_or(lost);
            let found = if lost { Sphere::Lost } else { Sphere::Is(document.sphere()) };
            policy = before.policy.as_ref().unwrap_or(policy);
            if before.policy.is_some() || found != sphere {
                grounds.push((policy, found));
            }
            sphere = found;
        }
        grounds.into_iter().rev()
    }
}
