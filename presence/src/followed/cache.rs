//! What a home server has sent of one presentity: the groups of its watchers here, and what each
//! group sees.
//!
//! Who may be in which group is left to the machine; that a content is for a group is what the home
//! has said. Why this is not the same as `presentity/contents`, is said there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use impp_acl::{Content, Disclosed};
use impp_protocol::Address;
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::Version;

use crate::presentity::{Held, set_version};

/// Contents of one group, and of former groups, from which a patch can start; as many contents that
/// the first members of a new group bring along.
const RECENT_MAX: usize = 4;

/// A group as it is called here; the home's handle is void when the link goes.
pub(super) type GroupId = u64;

/// A content and what its home calls it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The content.
    pub content: Content,
    /// The home's version of it: the same, unless the home knows fields that are unknown here.
    pub version: Version,
}

/// Watchers who see the same.
#[derive(Clone, Debug, Default)]
struct Group {
    members: BTreeSet<Address>,
    /// What the home calls it on the link that is up.
    handle: Option<u64>,
    kept: Option<Kept>,
    /// There was a content, and no room for it.
    dropped: bool,
    /// What all its members have seen in it, oldest first.
    recent: VecDeque<Kept>,
    /// Somebody has joined since the content is there, and may not know that it was.
    joined: bool,
    /// What its first members saw before; patches may start there.
    brought: Vec<Kept>,
    patches: HashMap<Version, Disclosed>,
    set: Option<Version>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    ids: GroupId,
    groups: BTreeMap<GroupId, Group>,
    handles: HashMap<u64, GroupId>,
    /// Contents of groups whose last members are in others now, or that somebody has joined: only
    /// the starts of patches for those who were sent them.
    former: VecDeque<Kept>,
}

impl Cache {
    /// The group with this handle.
    pub(super) fn find(&self, handle: u64) -> Option<GroupId> {
        self.handles.get(&handle).copied()
    }

    /// The group with this handle, made if it is not there.
    pub(super) fn open(&mut self, handle: u64) -> GroupId {
        if let Some(id) = self.find(handle) {
            return id;
        }
        let id = self.new_group();
        if let Some(group) = self.groups.get_mut(&id) {
            group.handle = Some(handle);
        }
        self.handles.insert(handle, id);
        id
    }

    /// A watcher moves from one group to another.
    pub(super) fn enter(&mut self, watcher: &Address, from: Option<GroupId>, to: GroupId) {
        if from == Some(to) {
            return;
        }
        let brings = from.and_then(|from| self.groups.get(&from)?.kept.clone());
        if let Some(group) = self.groups.get_mut(&to) {
            group.members.insert(watcher.clone());
            group.set = None;
            // What the others saw is not this one's past: a patch from it would confirm a guess.
            group.joined = true;
            group.patches.clear();
            for past in std::mem::take(&mut group.recent) {
                push(&mut self.former, past);
            }
            if group.kept.is_none() && group.brought.len() < RECENT_MAX {
                group.brought.extend(brings);
            }
        }
        if let Some(kept) = self.take_out(watcher, from)
            && self.kept(Some(to)).is_none_or(|now| now.version != kept.version)
        {
            push(&mut self.former, kept);
        }
    }

    /// A watcher leaves its group; one that is empty goes, with what it saw.
    pub(super) fn leave(&mut self, watcher: &Address, from: Option<GroupId>) {
        self.take_out(watcher, from);
        if self.groups.is_empty() {
            self.former.clear();
        }
    }

    /// Takes a watcher out of its group; what the group saw if it is empty now and gone.
    fn take_out(&mut self, watcher: &Address, from: Option<GroupId>) -> Option<Kept> {
        let id = from?;
        let group = self.groups.get_mut(&id)?;
        group.members.remove(watcher);
        group.set = None;
        if !group.members.is_empty() {
            return None;
        }
        let group = self.groups.remove(&id)?;
        if let Some(handle) = group.handle {
            self.handles.remove(&handle);
        }
        group.kept
    }

    /// A watcher keeps what it sees, but is not in the home's group any more.
    pub(super) fn detach(&mut self, watcher: &Address, from: GroupId) -> Option<GroupId> {
        let kept = self.groups.get(&from)?.kept.clone()?;
        let same = |group: &Group| {
            group.handle.is_none() && group.kept.as_ref().is_some_and(|k| k.version == kept.version)
        };
        let found = self.groups.iter().find(|(_, group)| same(group)).map(|(id, _)| *id);
        let id = found.unwrap_or_else(|| self.new_group());
        if let Some(group) = self.groups.get_mut(&id) {
            group.kept = Some(kept);
        }
        self.enter(watcher, Some(from), id);
        Some(id)
    }

    /// The handles are void: the link is gone, or what they mean is in doubt.
    pub(super) fn forget_handles(&mut self) {
        self.handles.clear();
        for group in self.groups.values_mut() {
            group.handle = None;
        }
    }

    /// Whether the home knows a group, on the link that is up.
    pub(super) fn is_of_home(&self, id: Option<GroupId>) -> bool {
        id.and_then(|id| self.groups.get(&id)).is_some_and(|group| group.handle.is_some())
    }

    /// The members of a group.
    pub(super) fn members(&self, id: GroupId) -> impl Iterator<Item = &Address> {
        self.groups.get(&id).into_iter().flat_map(|group| &group.members)
    }

    /// The version of the set of a group's watchers.
    pub(super) fn set(&mut self, id: GroupId) -> Option<Version> {
        let group = self.groups.get_mut(&id)?;
        Some(*group.set.get_or_insert_with(|| set_version(group.members.iter())))
    }

    /// What a group sees.
    pub(super) fn kept(&self, id: Option<GroupId>) -> Option<&Kept> {
        self.groups.get(&id?)?.kept.as_ref()
    }

    /// Whether a group's content had no room.
    pub(super) fn is_dropped(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|group| group.dropped)
    }

    /// What a patch for a group may start from, by the home's version.
    pub(super) fn base(&self, id: GroupId, version: Version) -> Option<&Kept> {
        let group = self.groups.get(&id)?;
        let own = group.kept.iter().chain(&group.brought).chain(&group.recent);
        own.chain(&self.former).find(|kept| kept.version == version)
    }

    /// What a group sees from now on, unless that takes more than `room` bytes more than what it has
    /// seen; whether it did.
    pub(super) fn put(&mut self, id: GroupId, kept: Kept, room: usize) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        group.patches.clear();
        group.brought.clear();
        let old = group.kept.take();
        let joined = std::mem::take(&mut group.joined);
        let size = |kept: &Kept| kept.content.size();
        let freed: usize = old.iter().chain(&group.recent).map(size).sum();
        group.dropped = size(&kept) > room.saturating_add(freed);
        if size(&kept) <= room {
            let past = if joined { &mut self.former } else { &mut group.recent };
            old.into_iter().for_each(|old| push(past, old));
        } else {
            // What is there now matters more than where a patch could start.
            group.recent.clear();
        }
        group.kept = (!group.dropped).then_some(kept);
        !group.dropped
    }

    /// What to send to a session of a member of this group that holds `held`: nothing if that is the
    /// newest, a patch, or the whole. A claim is only compared with what all of this group have seen.
    pub(super) fn disclose(&mut self, id: Option<GroupId>, held: Held) -> Option<Disclosed> {
        let content = &self.kept(id)?.content;
        let version = match held {
            Held::Nothing => return Some(content.snapshot()),
            Held::Claimed(version) | Held::Sent(version) | Held::Whole(version) => version,
        };
        if version == content.version() {
            return None;
        }
        if matches!(held, Held::Whole(_)) {
            return Some(content.snapshot());
        }
        let group = self.groups.get(&id?)?;
        if let Some(patch) = group.patches.get(&version)
            && (matches!(held, Held::Sent(_)) || has(&group.recent, version))
        {
            return Some(patch.clone());
        }
        let base = match held {
            Held::Sent(_) => {
                let all = self.groups.values().flat_map(|g| g.kept.iter().chain(&g.recent));
                let mut all = all.chain(&self.former).map(|kept| &kept.content);
                all.find(|base| base.version() == version)
            }
            Held::Claimed(_) | Held::Nothing | Held::Whole(_) => {
                let mut own = group.recent.iter().map(|kept| &kept.content);
                own.find(|base| base.version() == version)
            }
        };
        let Some(base) = base else { return Some(content.snapshot()) };
        let patch = content.since(base);
        // Kept for the others who hold the same.
        if let Some(group) = self.groups.get_mut(&id?) {
            group.patches.insert(version, patch.clone());
        }
        Some(patch)
    }

    /// The bytes of all contents.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.groups.values();
        let all = groups.flat_map(|g| g.kept.iter().chain(&g.recent).chain(&g.brought));
        all.chain(&self.former).map(|kept| kept.content.size()).sum()
    }

    fn new_group(&mut self) -> GroupId {
        self.ids += 1;
        self.groups.insert(self.ids, Group::default());
        self.ids
    }
}

fn push(recent: &mut VecDeque<Kept>, kept: Kept) {
    if recent.len() == RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back(kept);
}

fn has(recent: &VecDeque<Kept>, version: Version) -> bool {
    recent.iter().any(|kept| kept.content.version() == version)
}
