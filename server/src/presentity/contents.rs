//! What is shown of a presentity: one content for each view, encoded once, and patches between
//! recent ones.
//!
//! Which watcher has which view is left to `watching`.

use std::collections::{HashMap, VecDeque};

use impp_acl::{Content, Disclosed, ViewKey};
use impp_protocol::presence::{Document, Version};

/// Contents, of whichever view, from which a watcher gets a patch; from older ones a snapshot.
const RECENT_MAX: usize = 16;

/// The contents of one presentity's views.
#[derive(Debug, Default)]
pub struct Contents {
    views: HashMap<ViewKey, Content>,
    recent: VecDeque<Content>,
    patches: HashMap<(Version, Version), Disclosed>,
    /// How often a view was filtered and encoded; taken by the metrics.
    encodes: u64,
}

impl Contents {
    /// The content of a view, made from `document` if it is not there.
    pub fn view(&mut self, key: &ViewKey, document: &Document) -> &Content {
        if !self.views.contains_key(key) {
            let content = self.encode(key, document);
            self.views.insert(key.clone(), content);
        }
        &self.views[key]
    }

    /// The view's version if it is there.
    pub fn version(&self, key: &ViewKey) -> Option<Version> {
        self.views.get(key).map(Content::version)
    }

    /// Makes all views in `used` anew and forgets the others.
    pub fn renew<'a>(&mut self, used: impl Iterator<Item = &'a ViewKey>, document: &Document) {
        let mut views = HashMap::new();
        for key in used {
            if !views.contains_key(key) {
                views.insert(key.clone(), self.encode(key, document));
            }
        }
        self.views = views;
    }

    /// What to send to a watcher that holds `held`: nothing, a patch, or the snapshot.
    pub fn disclose(
        &mut self,
        key: &ViewKey,
        document: &Document,
        held: Option<Version>,
    ) -> Option<Disclosed> {
        let content = self.view(key, document).clone();
        let Some(held) = held else { return Some(content.snapshot()) };
        if held == content.version() {
            return None;
        }
        let pair = (held, content.version());
        if let Some(patch) = self.patches.get(&pair) {
            return Some(patch.clone());
        }
        let Some(base) = self.recent.iter().find(|base| base.version() == held) else {
            return Some(content.snapshot());
        };
        let patch = content.since(base);
        self.patches.insert(pair, patch.clone());
        Some(patch)
    }

    /// Takes the count of encodings since the last time.
    pub fn take_encodes(&mut self) -> u64 {
        std::mem::take(&mut self.encodes)
    }

    fn encode(&mut self, key: &ViewKey, document: &Document) -> Content {
        self.encodes += 1;
        let content = key.apply(document).content();
        if !self.recent.iter().any(|recent| recent.version() == content.version()) {
            if self.recent.len() == RECENT_MAX
                && let Some(old) = self.recent.pop_front()
            {
                self.patches.retain(|pair, _| pair.0 != old.version());
            }
            self.recent.push_back(content.clone());
        }
        self.patches.retain(|pair, _| pair.1 != content.version());
        content
    }
}
