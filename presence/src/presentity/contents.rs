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
use super::parted::Parted;

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
    /// with what it was shown itself: a patch from anything else would confirm the guess, and tell
    /// whether others were shown it.
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
    views: HashMap<ViewKey, Shown>,
    recent: HashMap<ViewKey, VecDeque<Recent>>,
    patches: HashMap<(Version, Version), Disclosed>,
    /// The pace of views that nobody has just now, as long as it has not rested: one that comes and goes
    /// with the sphere goes on with its own.
    resting: HashMap<ViewKey, Pace>,
    parted: Parted,
    /// How often a view was filtered and encoded; taken by the metrics.
    encodes: u64,
}

/// One view. Each has a pace of its own: what it does not show neither wakes nor delays whoever has it.
#[derive(Debug)]
struct Shown {
    content: Content,
    /// None as long as it has rested.
    pace: Option<Pace>,
    /// It does not show the newest, and may not before then.
    owed: Option<Timestamp>,
    /// It was brought up to date for who has come; the others look when it is due.
    early: bool,
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
    /// The content of a view, made from `document` if it is not there.
    pub(super) fn view(&mut self, key: &ViewKey, document: &Document) -> &Content {
        if !self.views.contains_key(key) {
            let content = self.encode(key, document);
            self.note(key, &content);
            let pace = self.resting.remove(key);
            self.views.insert(key.clone(), Shown { content, pace, owed: None, early: false });
        }
        &self.views[key].content
    }

    /// Brings all views in `used` up to date, each at its pace if there is one, and forgets the others;
    /// those that show something else now.
    pub(super) fn renew<'a>(
        &mut self,
        to_show: ToShow<'_>,
        used: impl Iterator<Item = &'a ViewKey>,
    ) -> Vec<&'a ViewKey> {
        let ToShow { now, document, limit } = to_show;
        let mut wanted = HashSet::default();
        let used: Vec<_> = used.filter(|key| wanted.insert(*key)).collect();
        let gone: Vec<_> = self.views.extract_if(|key, _| !wanted.contains(key)).collect();
        for (key, _) in &gone {
            self.was_shown(now, key);
        }
        let mut changed = Vec::new();
        for key in used {
            // The others are there all the while: none loses what it has shown to one that comes.
            let shows_another = match self.views.remove(key) {
                Some(mut shown) => {
                    let brought = self.bring_up(to_show, key, &mut shown);
                    self.views.insert(key.clone(), shown);
                    brought
                }
                None => {
                    self.view(key, document);
                    self.spend(now, key, limit);
                    true
                }
            };
            if shows_another {
                changed.push(key);
            }
        }
        if let Some(limit) = limit {
            self.rest(now, limit, gone);
        }
        changed
    }

    /// Nobody has these views any more.
    fn rest(&mut self, now: Timestamp, limit: PaceLimit, gone: Vec<(ViewKey, Shown)>) {
        self.resting.retain(|_, pace| !pace.has_rested(now, limit));
        let paces = gone.into_iter().filter_map(|(key, shown)| Some((key, shown.pace?)));
        let busy = paces.filter(|(_, pace)| !pace.has_rested(now, limit));
        let room = RECENT_VIEWS_MAX.saturating_sub(self.resting.len());
        self.resting.extend(busy.take(room));
    }

    /// Brings one up to date that does not show the newest, at its pace if there is one; whether it shows
    /// something else now.
    pub(super) fn pay(&mut self, to_show: ToShow<'_>, key: &ViewKey) -> bool {
        let owes = self.views.get(key).is_some_and(|shown| shown.owed.is_some());
        if !owes {
            return false;
        }
        let Some(mut shown) = self.views.remove(key) else { return false };
        let changed = self.bring_up(to_show, key, &mut shown);
        self.views.insert(key.clone(), shown);
        changed
    }

    /// Somebody has come to a view that does not show the newest, and is shown that at once: what was
    /// there before is not for them. The others look when it is due.
    pub(super) fn come(&mut self, now: Timestamp, key: &ViewKey, document: &Document) {
        let owed = self.views.get(key).and_then(|shown| shown.owed);
        let changed = self.pay(ToShow { now, document, limit: None }, key);
        if let (Some(shown), Some(_), true) = (self.views.get_mut(key), owed, changed) {
            (shown.owed, shown.early) = (owed, true);
        }
    }

    /// Views that may show now what they do not show yet.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ViewKey> {
        let due = self.views.iter().filter(|(_, shown)| shown.owed.is_some_and(|at| at <= now));
        due.map(|(key, _)| key.clone()).collect()
    }

    /// When the next view may show what it does not show yet.
    pub(super) fn next_owed(&self) -> Option<Timestamp> {
        self.views.values().filter_map(|shown| shown.owed).min()
    }

    /// When a view has shown this last, if it has lately.
    pub(super) fn last_shown(&self, key: &ViewKey, version: Version) -> Option<Last> {
        let recent = self.recent.get(key)?.iter().find(|one| one.content.version() == version)?;
        Some(recent.last)
    }

    /// A watcher leaves who has this view.
    pub(super) fn part(
        &mut self,
        now: Timestamp,
        who: &Address,
        key: &ViewKey,
        document: &Document,
    ) {
        let content = self.view(key, document).clone();
        self.parted.add(now, who, &content);
    }

    /// Whether a watcher has left with this.
    pub(super) fn has_parted(&self, who: &Address, version: Version) -> bool {
        self.parted.has(who, version)
    }

    /// It is decided by other grounds from now on: who may see this now may not have seen what it has
    /// shown before.
    pub(super) fn grounds_change(&mut self) {
        for (key, recent) in &mut self.recent {
            let newest = self.views.get(key).map(|shown| shown.content.version());
            let is_shown = |one: &Recent| Some(one.content.version()) == newest;
            recent.iter_mut().filter(|one| !is_shown(one)).for_each(|one| one.last = Last::Before);
        }
    }

    /// A view does not show any more what it has shown until now.
    fn was_shown(&mut self, now: Timestamp, key: &ViewKey) {
        if let Some(newest) = self.recent.get_mut(key).and_then(VecDeque::back_mut) {
            newest.last = Last::Until(now);
        }
    }

    /// A view shows a change.
    fn spend(&mut self, now: Timestamp, key: &ViewKey, limit: Option<PaceLimit>) {
        if let (Some(shown), Some(limit)) = (self.views.get_mut(key), limit) {
            shown.pace.get_or_insert_with(|| Pace::rested(now, limit)).spend();
        }
    }

    /// Whether the view shows something else now.
    fn bring_up(&mut self, to_show: ToShow<'_>, key: &ViewKey, shown: &mut Shown) -> bool {
        let ToShow { now, document, limit } = to_show;
        // It is looked at when it may be shown: until then it is not even encoded.
        if let Some(limit) = limit {
            let pace = shown.pace.get_or_insert_with(|| Pace::rested(now, limit));
            shown.owed = pace.waits_until(now, limit);
            if shown.owed.is_some() {
                return false;
            }
        }
        shown.owed = None;
        let early = std::mem::take(&mut shown.early);
        let content = self.encode(key, document);
        let changes = content.version() != shown.content.version();
        if !changes && !early {
            return false;
        }
        if let Some(pace) = shown.pace.as_mut().filter(|_| limit.is_some()) {
            pace.spend();
        }
        if !changes {
            return true;
        }
        self.patches.clear();
        self.was_shown(now, key);
        self.note(key, &content);
        shown.content = content;
        true
    }

    /// What to send to a watcher: nothing if it holds the newest, a patch, or the snapshot.
    pub(super) fn disclose(
        &mut self,
        key: &ViewKey,
        document: &Document,
        held: Held,
    ) -> Option<Disclosed> {
        let content = self.view(key, document).clone();
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
            // That it may hold this was looked at before.
            Held::Claimed(_) => {
                let parted = || self.parted.of(version).map(|content| (**content).clone());
                self.recent.get(key).and_then(find).or_else(parted)
            }
            Held::Nothing => None,
            Held::Whole(_) => None,
        }
    }

    fn encode(&mut self, key: &ViewKey, document: &Document) -> Content {
        self.encodes += 1;
        key.apply(document).content()
    }

    /// A view shows this from now on.
    fn note(&mut self, key: &ViewKey, content: &Content) {
        if self.recent.len() >= RECENT_VIEWS_MAX && !self.recent.contains_key(key) {
            self.recent.retain(|key, _| self.views.contains_key(key));
        }
        if self.recent.len() < RECENT_VIEWS_MAX || self.recent.contains_key(key) {
            let recent = self.recent.entry(key.clone()).or_default();
            // What is shown again is what was shown last.
            recent.retain(|one| one.content.version() != content.version());
            if recent.len() == RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(Recent { content: content.clone(), last: Last::Now });
        }
    }
}
