//! What is shown of a presentity: one content for each view, encoded once, and patches between
//! recent ones.
//!
//! Which watcher has which view is left to `watching`. `followed/cache` keeps recent contents too, and is
//! another thing: here a view is a function of the document, made anew whenever it is asked for, and who
//! has it has seen its past; there a group is what another server says, cannot be made again, and whoever
//! comes into it must not be told of what the others saw.

use std::collections::VecDeque;

use impp_acl::{Content, Disclosed, ViewKey};
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::presence::{Document, Version};
use impp_protocol::{Address, Timestamp};

use super::pace::{Pace, PaceLimit};
use super::paced_view::{GroupId, View};

/// Contents of one view from which a watcher gets a patch; from older ones a snapshot.
const RECENT_MAX: usize = 4;
/// Views whose contents are kept at once: those that were first, as long as somebody has them. Of further
/// ones there is only the newest content, and who has them gets snapshots.
pub(super) const RECENT_VIEWS_MAX: usize = 64;

/// What a watcher holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// What it says it holds. It may be a guess at what it was never shown, so it is only compared
    /// with what its own view has shown: a patch from anything else would confirm the guess.
    Claimed(Version),
    /// What its session was sent, of whichever view.
    Sent(Version),
    /// The same, of one who takes no patches.
    Whole(Version),
}

impl Held {
    /// The same of one who takes no patches. What is only claimed is told whole.
    pub fn whole(self) -> Held {
        match self {
            Held::Sent(version) | Held::Whole(version) => Held::Whole(version),
            Held::Claimed(_) | Held::Nothing => Held::Nothing,
        }
    }
}

/// The contents of one presentity's views.
#[derive(Debug, Default)]
pub(super) struct Contents {
    views: HashMap<ViewKey, View>,
    recent: HashMap<ViewKey, VecDeque<Recent>>,
    patches: HashMap<(Version, Version), Disclosed>,
    /// How often a view was filtered and encoded; taken by the metrics.
    encodes: u64,
}

/// What views are brought up to.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToShow<'a> {
    pub now: Timestamp,
    /// What there is to see for who is granted all.
    pub document: &'a Document,
    /// The pace at which a view shows changes; `None` if this one is shown at once.
    pub limit: Option<PaceLimit>,
}

/// What a view has shown.
#[derive(Debug)]
struct Recent {
    content: Content,
    last: Last,
}

/// When a view has shown something last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// It does so now.
    Now,
    /// Until then.
    Until(Timestamp),
    /// It has not since the rules, the contacts or the sphere were changed.
    Before,
}

impl Contents {
    /// What a watcher's view shows it, made from `document` if the view is not there.
    pub(super) fn view(&mut self, key: &ViewKey, who: &Address, document: &Document) -> &Content {
        if !self.views.contains_key(key) {
            self.make(key, document, None);
        }
        self.views[key].content(who)
    }

    /// In which group of its view a watcher is.
    pub(super) fn group_of(&self, key: &ViewKey, who: &Address) -> GroupId {
        self.views.get(key).map_or(GroupId::FIRST, |view| view.group_of(who))
    }

    /// Brings all views in `used` up to date, each group at its pace if there is one, and forgets the
    /// others; the groups that are shown something else now.
    pub(super) fn renew<'a>(
        &mut self,
        to_show: ToShow<'_>,
        used: impl Iterator<Item = &'a ViewKey>,
    ) -> Vec<(&'a ViewKey, Vec<GroupId>)> {
        let ToShow { now, document, limit } = to_show;
        let mut wanted = HashSet::default();
        let used: Vec<_> = used.filter(|key| wanted.insert(*key)).collect();
        let gone: Vec<_> = self.views.extract_if(|key, _| !wanted.contains(key)).collect();
        for (key, view) in &gone {
            let nothing = HashSet::default();
            view.versions().into_iter().for_each(|old| self.was_shown(now, key, old, &nothing));
        }
        let mut changed = Vec::new();
        for key in used {
            // The others are there all the while: none loses what it has shown to one that comes.
            let groups = match self.views.remove(key) {
                Some(view) => self.bring_up(to_show, key, view, false),
                None => {
                    self.make(key, document, None);
                    if let (Some(view), Some(limit)) = (self.views.get_mut(key), limit) {
                        view.spend(now, limit);
                    }
                    vec![GroupId::FIRST]
                }
            };
            if !groups.is_empty() {
                changed.push((key, groups));
            }
        }
        changed
    }

    /// Brings up to date which groups of a view do not show the newest and may by now; those that are
    /// shown something else.
    pub(super) fn pay(&mut self, to_show: ToShow<'_>, key: &ViewKey) -> Vec<GroupId> {
        let view = self.views.remove(key);
        view.map_or_else(Vec::new, |view| self.bring_up(to_show, key, view, true))
    }

    /// Somebody has come to a view, and is shown the newest at once: what was there before is not for
    /// them. The others look when it is due. `pace` is what is left of theirs, of the view that they had
    /// until now.
    pub(super) fn come(
        &mut self,
        (now, limit): (Timestamp, PaceLimit),
        who: &Address,
        key: &ViewKey,
        pace: Option<Pace>,
        document: &Document,
    ) {
        let pace = pace.and_then(|pace| pace.unrested(now, limit));
        let Some(mut view) = self.views.remove(key) else {
            self.make(key, document, pace);
            return;
        };
        view.leave(who);
        if !view.takes(now, limit, who, pace) {
            let content = view.newest().cloned().unwrap_or_else(|| self.encode(key, document));
            view.begin(who, content.clone(), pace);
            self.note(key, &content, &view.versions());
        }
        self.views.insert(key.clone(), view);
    }

    /// Somebody has a view no more; what is left of their pace.
    pub(super) fn leave(&mut self, key: &ViewKey, who: &Address) -> Option<Pace> {
        self.views.get_mut(key).and_then(|view| view.leave(who))
    }

    /// Views that may show somebody now what they do not show yet.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ViewKey> {
        let due =
            self.views.iter().filter(|(_, view)| view.next_owed().is_some_and(|at| at <= now));
        due.map(|(key, _)| key.clone()).collect()
    }

    /// When the next view may show somebody what it does not show yet.
    pub(super) fn next_owed(&self) -> Option<Timestamp> {
        self.views.values().filter_map(View::next_owed).min()
    }

    /// When a view has shown this last, if it has lately.
    pub(super) fn last_shown(&self, key: &ViewKey, version: Version) -> Option<Last> {
        let recent = self.recent.get(key)?.iter().find(|one| one.content.version() == version)?;
        Some(recent.last)
    }

    /// It is decided by other grounds from now on: who may see this now may not have seen what it has
    /// shown before.
    pub(super) fn grounds_change(&mut self) {
        for (key, recent) in &mut self.recent {
            let shown = self.views.get(key).map(View::versions).unwrap_or_default();
            let is_shown = |one: &Recent| shown.contains(&one.content.version());
            recent.iter_mut().filter(|one| !is_shown(one)).for_each(|one| one.last = Last::Before);
        }
    }

    /// A view has stopped to show this to somebody; what it shows still is in `shown`.
    fn was_shown(
        &mut self,
        now: Timestamp,
        key: &ViewKey,
        version: Version,
        shown: &HashSet<Version>,
    ) {
        let Some(recent) = self.recent.get_mut(key).filter(|_| !shown.contains(&version)) else {
            return;
        };
        let found = recent.iter().position(|one| one.content.version() == version);
        if let Some(one) = found.and_then(|index| recent.remove(index)) {
            recent.push_back(Recent { last: Last::Until(now), ..one });
        }
    }

    /// A view that nobody has had until now.
    fn make(&mut self, key: &ViewKey, document: &Document, pace: Option<Pace>) {
        let content = self.encode(key, document);
        let view = View::new(content.clone(), pace);
        self.note(key, &content, &view.versions());
        self.views.insert(key.clone(), view);
    }

    /// Brings the groups of a view up to date, or only those that are due, and puts it back; those that
    /// are shown something else now. It is encoded once, and not before one of them may see it.
    fn bring_up(
        &mut self,
        to_show: ToShow<'_>,
        key: &ViewKey,
        mut view: View,
        only_due: bool,
    ) -> Vec<GroupId> {
        let ToShow { now, document, limit } = to_show;
        let mut newest = None;
        let encode = || newest.get_or_insert_with(|| self.encode(key, document)).clone();
        let changed = view.bring_up(now, limit, only_due, encode);
        if let Some(newest) = newest.filter(|_| !changed.is_empty()) {
            self.patches.clear();
            let shown = view.versions();
            changed.iter().for_each(|(_, old)| self.was_shown(now, key, *old, &shown));
            self.note(key, &newest, &shown);
        }
        self.views.insert(key.clone(), view);
        changed.into_iter().map(|(group, _)| group).collect()
    }

    /// What to send to a watcher: nothing if it holds the newest, a patch, or the snapshot.
    pub(super) fn disclose(
        &mut self,
        key: &ViewKey,
        who: &Address,
        document: &Document,
        held: Held,
    ) -> Option<Disclosed> {
        let content = self.view(key, who, document).clone();
        let version = match held {
            Held::Nothing => return Some(content.snapshot()),
            Held::Claimed(version) | Held::Sent(version) | Held::Whole(version) => version,
        };
        if version == content.version() {
            return None;
        }
        let Some(base) = self.base(key, held, version) else { return Some(content.snapshot()) };
        let pair = (version, content.version());
        if let Some(patch) = self.patches.get(&pair) {
            return Some(patch.clone());
        }
        let patch = content.since(&base);
        self.patches.insert(pair, patch.clone());
        Some(patch)
    }

    /// How many groups its views have.
    #[cfg(test)]
    pub(super) fn groups(&self) -> usize {
        self.views.values().map(View::len).sum()
    }

    /// Takes the count of encodings since the last time.
    pub(super) fn take_encodes(&mut self) -> u64 {
        std::mem::take(&mut self.encodes)
    }

    fn base(&self, key: &ViewKey, held: Held, version: Version) -> Option<Content> {
        let own = self.recent.get(key).into_iter();
        let find = |recent: &VecDeque<Recent>| {
            let mut all = recent.iter().map(|one| &one.content);
            all.find(|base| base.version() == version).cloned()
        };
        match held {
            Held::Sent(_) => own.chain(self.recent.values()).find_map(find),
            Held::Claimed(_) | Held::Nothing => self.recent.get(key).and_then(find),
            Held::Whole(_) => None,
        }
    }

    fn encode(&mut self, key: &ViewKey, document: &Document) -> Content {
        self.encodes += 1;
        key.apply(document).content()
    }

    /// A view shows this from now on, and all that is in `shown`: so much more is kept, so that nobody
    /// is told a snapshot because of what another is told.
    fn note(&mut self, key: &ViewKey, content: &Content, shown: &HashSet<Version>) {
        if self.recent.len() >= RECENT_VIEWS_MAX && !self.recent.contains_key(key) {
            self.recent.retain(|key, _| self.views.contains_key(key));
        }
        if self.recent.len() < RECENT_VIEWS_MAX || self.recent.contains_key(key) {
            let recent = self.recent.entry(key.clone()).or_default();
            // What is shown again is what was shown last.
            recent.retain(|one| one.content.version() != content.version());
            let is_past = |one: &Recent| !shown.contains(&one.content.version());
            if recent.len() + 1 >= RECENT_MAX + shown.len()
                && let Some(oldest) = recent.iter().position(is_past)
            {
                recent.remove(oldest);
            }
            recent.push_back(Recent { content: content.clone(), last: Last::Now });
        }
    }
}
