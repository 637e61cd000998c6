//! What a link has to say of a presentity to the server of its watchers in another domain.
//!
//! Who is in which group is left to `groups`, frames to the link. As for sessions, nothing of a
//! document gets out but by [`Disclosed`], and the rules are looked at now.

use std::collections::BTreeSet;

use impp_acl::{Disclosed, ViewKey};
use impp_protocol::frame::FRAME_BYTES_MAX;
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::{DOCUMENT_BYTES_MAX, Version};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};

use super::Presentity;
use super::groups::{Class, Groups, Step};
use crate::ids::LinkId;
use crate::watching::Watching;

/// Bytes of addresses in one NOTIFY, at most; further ones come in the next.
const JOINED_BYTES_MAX: usize = 40 * 1024;
/// What else is in the frame of a NOTIFY, and then some.
const FRAME_BYTES_OTHER: usize = 2 * 1024;
/// About what an entry of the list of watchers takes beside the address, or a NOTIFY without any.
const ENTRY_BYTES: usize = 2;
const WORD_BYTES: usize = 128;

const _: () = assert!(DOCUMENT_BYTES_MAX + FRAME_BYTES_OTHER + 2 * WORD_BYTES < FRAME_BYTES_MAX);

/// One thing that a link says of a presentity.
#[derive(Clone, Debug)]
pub struct GroupTold {
    /// The group that it is about; without, it is for the watchers named.
    pub group: Option<u64>,
    /// Who is in the group from now on, or whom it is for.
    pub watchers: Vec<Address>,
    /// How they stand.
    pub state: SubscriptionState,
    /// Why.
    pub event: Option<SubscriptionEvent>,
    /// What the group sees, if that changed.
    pub content: Option<Disclosed>,
    /// Its version.
    pub version: Option<Version>,
    /// The version of the set of the group's watchers.
    pub set: Option<Version>,
}

/// What a link finds when it looks at a presentity.
#[derive(Clone, Debug)]
pub enum PulledGroups {
    /// Time has changed what was decided: [`Presentity::expire`] comes first.
    Due,
    /// This is to be said, in this order.
    Told(Vec<GroupTold>),
    /// The same, and more when there is room.
    More(Vec<GroupTold>),
}

/// How a watcher stands when the OK to its SUBSCRIBE is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Time has changed what was decided: [`Presentity::expire`] comes first.
    Due,
    /// Another request has come between, over another link maybe: it is to be asked again.
    Elsewhere,
    /// It stands so.
    Stands {
        /// How.
        state: SubscriptionState,
        /// Its group, and the version of what that group has or is about to get.
        group: Option<(u64, Version)>,
        /// Whether that is still to come.
        owed: bool,
    },
}

impl Presentity {
    /// What a link has to say of this presentity, about `room` bytes of it.
    pub fn pull_groups(
        &mut self,
        now: Timestamp,
        link: LinkId,
        groups: &mut Groups,
        room: usize,
    ) -> PulledGroups {
        let known: Vec<Address> = groups.watchers().cloned().collect();
        if known.iter().filter_map(|w| self.over(link, w)).any(|w| w.is_due(now)) {
            return PulledGroups::Due;
        }
        let (mut words, mut active) = (Vec::new(), Vec::new());
        for watcher in known {
            if words.len() * WORD_BYTES >= room.max(1) {
                return PulledGroups::More(words);
            }
            match self.over(link, &watcher).map(|watching| (watching.state, watching.event)) {
                // A late request of another link has taken its place, or it is no more. It must be
                // in no group that gets more; its server asks again.
                None => {
                    groups.leave(&watcher);
                    words.push(GroupTold::lapsed(&watcher));
                }
                Some((SubscriptionState::Active, _)) => active.push(watcher),
                Some((state, event)) => {
                    if groups.state(&watcher) != Some(state) {
                        groups.stand(&watcher, state);
                        words.push(GroupTold::standing(&watcher, state, event));
                    }
                    self.let_go_ended(link, &watcher, groups);
                }
            }
        }
        // What one of them sees is being changed, and its group may hear of it: they all hear when
        // that is stored.
        if let Some(held) = active.iter().find(|watcher| self.is_held_back(now, watcher)) {
            self.miss(held);
            return PulledGroups::Told(words);
        }
        let (keys, classes, of) = self.classes(now, active, groups, &mut words);
        let mut steps = groups.plan(&of, &classes).into_iter().peekable();
        let mut spent = words.len() * WORD_BYTES;
        while let Some(step) = steps.next() {
            self.say(&step, &keys[step.class], groups, &mut words, &mut spent);
            if spent >= room && steps.peek().is_some() {
                return PulledGroups::More(words);
            }
        }
        PulledGroups::Told(words)
    }

    /// Enters a watcher into the groups of a link, as the OK to its SUBSCRIBE says; it says that it
    /// holds `claimed`.
    pub fn join_groups(
        &mut self,
        now: Timestamp,
        link: LinkId,
        groups: &mut Groups,
        watcher: &Address,
        claimed: Option<Version>,
    ) -> Joined {
        let stands = |state| Joined::Stands { state, group: None, owed: false };
        let Some(watching) = self.over(link, watcher) else {
            groups.leave(watcher);
            return match self.watcher(watcher).map(|watching| watching.state) {
                Some(SubscriptionState::Active | SubscriptionState::Pending) => Joined::Elsewhere,
                _ => stands(SubscriptionState::Terminated),
            };
        };
        if watching.is_due(now) {
            return Joined::Due;
        }
        if watching.is_lapsed() {
            self.let_go_ended(link, watcher, groups);
            return Joined::Elsewhere;
        }
        let (state, key) = (watching.state, watching.decision.view_key());
        let (SubscriptionState::Active, Some(key)) = (state, key) else {
            groups.stand(watcher, state);
            self.let_go_ended(link, watcher, groups);
            return stands(state);
        };
        let held_back = self.is_held_back(now, watcher);
        if held_back {
            self.miss(watcher);
        }
        let withheld = held_back || self.is_withheld(now, &key);
        if groups.group_of(watcher).is_none() && withheld {
            groups.stand(watcher, state);
            return stands(state);
        }
        let version = self.contents.view(&key, &self.shown).version();
        let claimed = claimed.filter(|held| self.may_hold(watcher, &key, *held));
        let group = groups.join(watcher, version, claimed);
        Joined::Stands { state, group: Some(group), owed: groups.is_owed(group.0) }
    }

    /// A link is lost: its watchers hear nothing until they ask again. Their leases stay.
    pub fn link_lost(&mut self, link: LinkId) {
        let listens = |(_, watching): &(&Address, &Watching)| watching.tells(link);
        let staged = self.staged.iter().flat_map(|staged| staged.before.watchers.keys());
        let newest = self.newest.watchers.iter().filter(listens).map(|(who, _)| who);
        let all: BTreeSet<Address> = newest.chain(staged).cloned().collect();
        for who in all {
            self.unlisten(&who, link.into());
        }
    }

    /// A watcher as far as it listens over this link.
    fn over(&self, link: LinkId, watcher: &Address) -> Option<&Watching> {
        self.watcher(watcher).filter(|watching| watching.tells(link))
    }

    /// Whoever has been told that it is over hears no more.
    fn let_go_ended(&mut self, link: LinkId, watcher: &Address, groups: &mut Groups) {
        let is_over = |watching: &Watching| {
            matches!(watching.state, SubscriptionState::Terminated | SubscriptionState::Waiting)
        };
        if self.watcher(watcher).is_some_and(is_over) {
            self.unlisten(watcher, link.into());
            groups.leave(watcher);
        }
    }

    /// Sorts active watchers by what they see now. One who is shown nothing yet, and is not told so,
    /// is told that it is active.
    fn classes(
        &mut self,
        now: Timestamp,
        active: Vec<Address>,
        groups: &mut Groups,
        words: &mut Vec<GroupTold>,
    ) -> (Vec<ViewKey>, Vec<Class>, Vec<(Address, usize)>) {
        let (mut keys, mut classes) = (Vec::new(), Vec::new());
        let (mut by_key, mut by_version) = (HashMap::default(), HashMap::default());
        let mut of = Vec::with_capacity(active.len());
        for watcher in active {
            let Some(watching) = self.watcher(&watcher) else { continue };
            let Some(key) = watching.decision.view_key() else { continue };
            let event = watching.event;
            let index = match by_key.get(&key) {
                Some(index) => *index,
                None => {
                    let version = self.contents.view(&key, &self.shown).version();
                    let index = *by_version.entry(version).or_insert_with(|| {
                        classes.push(Class { version, withheld: false });
                        keys.push(key.clone());
                        classes.len() - 1
                    });
                    classes[index].withheld = self.is_withheld(now, &key);
                    by_key.insert(key, index);
                    index
                }
            };
            let active = SubscriptionState::Active;
            if classes[index].withheld
                && groups.group_of(&watcher).is_none()
                && groups.state(&watcher) != Some(active)
            {
                groups.stand(&watcher, active);
                words.push(GroupTold::standing(&watcher, active, event));
            }
            of.push((watcher, index));
        }
        (keys, classes, of)
    }

    /// Says one step, in as many parts as its list of watchers needs.
    fn say(
        &mut self,
        step: &Step,
        key: &ViewKey,
        groups: &mut Groups,
        words: &mut Vec<GroupTold>,
        spent: &mut usize,
    ) {
        let held = groups.held(step.group);
        let mut content = self.contents.disclose(key, &self.shown, held);
        let version = self.contents.view(key, &self.shown).version();
        let mut rest = &step.joined[..];
        loop {
            let bytes = content.as_ref().map_or(0, |content| content.bytes().len());
            let room = JOINED_BYTES_MAX.min(FRAME_BYTES_MAX - FRAME_BYTES_OTHER - bytes);
            let (now, later) = rest.split_at(fitting(rest, room));
            groups.join_all(now, step.group);
            groups.told(step.group, version);
            words.push(GroupTold {
                group: Some(step.group),
                watchers: now.to_vec(),
                state: SubscriptionState::Active,
                event: None,
                content: content.take(),
                version: Some(version),
                set: groups.set(step.group),
            });
            *spent += WORD_BYTES + bytes + now.iter().map(entry_bytes).sum::<usize>();
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }
}

impl GroupTold {
    /// The same without a group, in as many parts as the list of watchers needs.
    pub fn split(self) -> Vec<GroupTold> {
        let mut parts = Vec::new();
        let mut rest = &self.watchers[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest, JOINED_BYTES_MAX));
            parts.push(GroupTold { watchers: now.to_vec(), ..self.clone() });
            rest = later;
        }
        parts
    }

    /// Its server is to ask again.
    fn lapsed(watcher: &Address) -> GroupTold {
        let (state, event) = (SubscriptionState::Terminated, SubscriptionEvent::Timeout);
        GroupTold::standing(watcher, state, event)
    }

    fn standing(
        watcher: &Address,
        state: SubscriptionState,
        event: SubscriptionEvent,
    ) -> GroupTold {
        GroupTold {
            group: None,
            watchers: vec![watcher.clone()],
            state,
            event: Some(event),
            content: None,
            version: None,
            set: None,
        }
    }
}

fn entry_bytes(watcher: &Address) -> usize {
    watcher.as_str().len() + ENTRY_BYTES
}

/// How many of these fit so many bytes.
fn fitting(watchers: &[Address], room: usize) -> usize {
    let mut bytes = 0;
    let over = watchers.iter().position(|watcher| {
        bytes += entry_bytes(watcher);
        bytes > room
    });
    // One at least, or whoever splits a list by this goes round for ever.
    over.map_or(watchers.len(), |over| over.max(1))
}
