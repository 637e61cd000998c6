//! What is shown of a presentity: one content for each view, encoded once, and patches between
//! recent ones.
//!
//! Which watcher has which view is left to `watching`. `followed/cache` keeps recent contents too, and is
//! another thing: here a view is a function of the document, made anew whenever it is asked for, and who
//! has it has seen its past; there a group is what another server says, cannot be made again, and whoever
//! comes into it must not be told of what the others saw.

use std::collections::VecDeque;

use impp_acl::{Content, Disclosed, ViewKey};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::{Document, Version};

/// Contents of one view from which a watcher gets a patch; from older ones a snapshot.
const RECENT_MAX: usize = 4;
/// Views whose contents are kept at once; of further ones only the newest content.
const RECENT_VIEWS_MAX: usize = 64;

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
}

/// The contents of one presentity's views.
#[derive(Debug, Default)]
pub(super) struct Contents {
    views: HashMap<ViewKey, Content>,
    recent: HashMap<ViewKey, VecDeque<Content>>,
    patches: HashMap<(Version, Version), Disclosed>,
    /// How often a view was filtered and encoded; taken by the metrics.
    encodes: u64,
}

impl Contents {
    /// The content of a view, made from `document` if it is not there.
    pub(super) fn view(&mut self, key: &ViewKey, document: &Document) -> &Content {
        if !self.views.contains_key(key) {
            let content = self.encode(key, document);
            self.views.insert(key.clone(), content);
        }
        &self.views[key]
    }

    /// The view's version if it is there.
    pub(super) fn version(&self, key: &ViewKey) -> Option<Version> {
        self.views.get(key).map(Content::version)
    }

    /// Makes all views in `used` anew and forgets the others: no view is older than the last call.
    pub(super) fn renew<'a>(
        &mut self,
        used: impl Iterator<Item = &'a ViewKey>,
        document: &Document,
    ) {
        self.views.clear();
        self.patches.clear();
        for key in used {
            self.view(key, document);
        }
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
            Held::Claimed(version) | Held::Sent(version) => version,
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
        let find = |recent: &VecDeque<Content>| {
            recent.iter().find(|base| base.version() == version).cloned()
        };
        match held {
            Held::Sent(_) => own.chain(self.recent.values()).find_map(find),
            Held::Claimed(_) | Held::Nothing => self.recent.get(key).and_then(find),
        }
    }

    fn encode(&mut self, key: &ViewKey, document: &Document) -> Content {
        self.encodes += 1;
        let content = key.apply(document).content();
        if self.recent.len() >= RECENT_VIEWS_MAX && !self.recent.contains_key(key) {
            self.recent.retain(|key, _| self.views.contains_key(key));
        }
        if self.recent.len() < RECENT_VIEWS_MAX || self.recent.contains_key(key) {
            let recent = self.recent.entry(key.clone()).or_default();
            if recent.back().is_none_or(|newest| newest.version() != content.version()) {
                if recent.len() == RECENT_MAX {
                    recent.pop_front();
                }
                recent.push_back(content.clone());
            }
        }
        content
    }
}
