//! Whom a session follows: of each one entry, with all that the session knows of it. There are very many
//! of these, so what only few need stands beside.
//!
//! What is told of them is left to `telling`, following itself to `follow`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use impp_presence::Held;
use impp_protocol::Address;
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};

/// What was answered, once it was: what the client holds and the state it was told; nothing if it
/// does not follow.
pub(super) type Waits = Arc<OnceLock<Option<(Held, SubscriptionState)>>>;

/// A presentity that the client follows, and what it was told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) held: Held,
    pub(super) state: Option<SubscriptionState>,
    /// It has ended, for this reason, and that may not have arrived.
    pub(super) ended: Option<SubscriptionEvent>,
}

impl Followed {
    /// What was answered.
    pub(super) fn answered(held: Held, state: SubscriptionState) -> Followed {
        Followed { held, state: Some(state), ..Followed::default() }
    }

    /// What is followed anew by who says that it holds this.
    pub(super) fn claimed(version: Option<Version>) -> Followed {
        let held = version.map_or(Held::Nothing, Held::Claimed);
        Followed { held, ..Followed::default() }
    }
}

/// What a session notes about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The client has asked to follow them by a SUBSCRIBE for them alone.
    Own,
    /// It takes no patches of them, by such a SUBSCRIBE.
    Whole,
    /// The contact list that is followed names them.
    Listed,
    /// They are in the list, and following them has ended, not by the client's word.
    Lost,
}

/// What is known of one: it may be in the list and not followed any more.
#[derive(Clone, Debug, Default)]
struct Entry {
    followed: Option<Followed>,
    marks: [bool; 4],
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.followed.is_none() && !self.marks.contains(&true)
    }
}

/// See the module. It is bounded by what a session may follow and by the contact list.
#[derive(Debug, Default)]
pub(super) struct Whom {
    entries: HashMap<Address, Entry>,
    /// How many of them are followed.
    following: usize,
    /// Those whose answer is still to come, from another domain: nothing is told of them before.
    waits: BTreeMap<Address, Waits>,
}

impl Whom {
    /// How many are followed.
    pub(super) fn len(&self) -> usize {
        self.following
    }

    /// Who is followed.
    pub(super) fn followed(&self) -> impl Iterator<Item = &Address> {
        self.entries.iter().filter(|(_, entry)| entry.followed.is_some()).map(|(who, _)| who)
    }

    /// What the client was told of one who is followed.
    pub(super) fn of(&self, who: &Address) -> Option<Followed> {
        self.entries.get(who)?.followed
    }

    /// The answer that is still to come of one.
    pub(super) fn waits(&self, who: &Address) -> Option<&Waits> {
        self.waits.get(who)
    }

    /// One is followed, and this was told; nothing is waited for.
    pub(super) fn follow(&mut self, who: &Address, followed: Followed) {
        self.waits.remove(who);
        let is_new = self.edit(who, |entry| entry.followed.replace(followed).is_none());
        self.following += usize::from(is_new);
    }

    /// The answer about one who is followed is still to come.
    pub(super) fn wait(&mut self, who: &Address, waits: Waits) {
        self.waits.insert(who.clone(), waits);
    }

    /// One is followed no more, whoever has asked for that; what the list says of them stays.
    pub(super) fn let_go(&mut self, who: &Address) {
        self.waits.remove(who);
        let was_followed = self.edit(who, |entry| {
            entry.marks[Mark::Own as usize] = false;
            entry.marks[Mark::Whole as usize] = false;
            entry.followed.take().is_some()
        });
        self.following -= usize::from(was_followed);
    }

    /// What was told may not have arrived, but for why something has ended, if a return that failed was to
    /// tell that.
    pub(super) fn begin_anew(&mut self) {
        self.waits.clear();
        for followed in self.entries.values_mut().filter_map(|entry| entry.followed.as_mut()) {
            *followed = Followed { ended: followed.ended, ..Followed::default() };
        }
    }

    /// Whether this is noted of somebody.
    pub(super) fn is(&self, who: &Address, mark: Mark) -> bool {
        self.entries.get(who).is_some_and(|entry| entry.marks[mark as usize])
    }

    /// Notes it, or that it is so no more.
    pub(super) fn mark(&mut self, who: &Address, mark: Mark, is_so: bool) {
        self.edit(who, |entry| entry.marks[mark as usize] = is_so);
    }

    /// Of whom this is noted.
    pub(super) fn marked(&self, mark: Mark) -> BTreeSet<Address> {
        let marked = self.entries.iter().filter(|(_, entry)| entry.marks[mark as usize]);
        marked.map(|(who, _)| who.clone()).collect()
    }

    /// The same, and it is noted no more.
    pub(super) fn take_marked(&mut self, mark: Mark) -> BTreeSet<Address> {
        let marked = self.marked(mark);
        marked.iter().for_each(|who| self.mark(who, mark, false));
        marked
    }

    /// The list names `wanted` now. `kept` are those and others who could not be let go of: whoever sets such
    /// a contact anew has it followed again.
    pub(super) fn list(&mut self, wanted: &BTreeSet<Address>, kept: &BTreeSet<Address>) {
        let mut lost = self.marked(Mark::Lost);
        lost.retain(|who| wanted.contains(who));
        lost.extend(kept.difference(wanted).cloned());
        self.mark_only(Mark::Lost, &lost);
        self.mark_only(Mark::Listed, kept);
    }

    /// Notes it of these, and of nobody else.
    fn mark_only(&mut self, mark: Mark, these: &BTreeSet<Address>) {
        for other in self.marked(mark).difference(these) {
            self.mark(other, mark, false);
        }
        these.iter().for_each(|who| self.mark(who, mark, true));
    }

    fn edit<R>(&mut self, who: &Address, act: impl FnOnce(&mut Entry) -> R) -> R {
        if let Some(entry) = self.entries.get_mut(who) {
            let answer = act(entry);
            if entry.is_empty() {
                self.entries.remove(who);
            }
            return answer;
        }
        let mut entry = Entry::default();
        let answer = act(&mut entry);
        if !entry.is_empty() {
            self.entries.insert(who.clone(), entry);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Address {
        Address::parse(&format!("{name}@a.example")).unwrap()
    }

    /// There is one for each whom each session follows.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<(Address, Entry)>() <= 32);
    }

    #[test]
    fn what_the_list_says_of_somebody_outlives_following_them() {
        let (mut whom, alice) = (Whom::default(), who("alice"));
        whom.follow(&alice, Followed::default());
        for mark in [Mark::Own, Mark::Whole, Mark::Listed] {
            whom.mark(&alice, mark, true);
        }
        whom.wait(&alice, Waits::default());
        whom.let_go(&alice);
        assert_eq!((whom.len(), whom.of(&alice), whom.waits(&alice).is_some()), (0, None, false));
        let marks = [Mark::Own, Mark::Whole, Mark::Listed, Mark::Lost];
        assert_eq!(marks.map(|mark| whom.is(&alice, mark)), [false, false, true, false]);
        let listed = BTreeSet::from([who("bob")]);
        whom.list(&listed, &listed);
        assert_eq!(whom.marked(Mark::Listed), listed);
        assert!(!whom.entries.contains_key(&alice), "nothing is known of them any more");
    }

    #[test]
    fn who_is_followed_twice_counts_once() {
        let (mut whom, alice) = (Whom::default(), who("alice"));
        for _ in 0..2 {
            whom.follow(&alice, Followed::default());
        }
        whom.mark(&who("bob"), Mark::Listed, true);
        assert_eq!(whom.len(), 1);
        assert!(whom.followed().eq([&alice]));
        whom.let_go(&who("bob"));
        whom.let_go(&alice);
        whom.let_go(&alice);
        assert_eq!(whom.len(), 0);
    }
}
