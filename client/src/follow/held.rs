//! The presence document that a follower holds, and what a notification makes of it.
//!
//! What to do when it does not fit is left to `machine`.

use std::collections::BTreeSet;

use bytes::Bytes;
use impp_protocol::command::Notify;
use impp_protocol::field::FieldError;
use impp_protocol::presence::{Document, Patch, Version};
use impp_protocol::state::SubscriptionState;

/// A document and its version, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Held {
    content: Option<(Version, Document)>,
}

/// How a document changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How the change came.
    pub kind: ChangeKind,
    /// Names of the fields that changed, and `tuple:ID` of tuples that went.
    pub changed: BTreeSet<String>,
}

/// How a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The whole document.
    Snapshot,
    /// What changed in it.
    Patch,
}

impl ChangeKind {
    /// The name that people and scripts read.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Snapshot => "snapshot",
            ChangeKind::Patch => "patch",
        }
    }
}

/// Why a notification cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It changes another version than the one held, or makes another than it says: a snapshot is
    /// needed.
    #[error("the patch does not fit what is held")]
    Base,
    /// A snapshot that is not what its version says: nothing helps.
    #[error("the snapshot is not what its version says")]
    Digest,
    /// It cannot be read.
    #[error("{0}")]
    Malformed(#[from] FieldError),
}

impl Held {
    /// The version held.
    pub fn version(&self) -> Option<Version> {
        self.content.as_ref().map(|(version, _)| *version)
    }

    /// The document held.
    pub fn document(&self) -> Option<&Document> {
        self.content.as_ref().map(|(_, document)| document)
    }

    /// Both.
    pub fn content(&self) -> Option<(Version, Document)> {
        self.content.clone()
    }

    /// Nothing is held any more.
    pub fn clear(&mut self) {
        self.content = None;
    }

    /// Takes what a notification brings. None if that is what was held already, or nothing.
    ///
    /// # Errors
    /// [`Unfit`]; what was held is still held.
    pub fn handle(&mut self, notify: &Notify) -> Result<Option<Change>, Unfit> {
        match (&notify.snapshot, &notify.patch) {
            (Some(snapshot), _) => self.handle_snapshot(snapshot, notify.version),
            (None, Some(patch)) => self.handle_patch(patch, notify.base, notify.version),
            (None, None) => Ok(None),
        }
    }

    fn handle_snapshot(
        &mut self,
        snapshot: &Bytes,
        version: Option<Version>,
    ) -> Result<Option<Change>, Unfit> {
        let document = Document::decode(snapshot.clone())?;
        let digest = Version::of(snapshot);
        if version.is_some_and(|version| version != digest) {
            return Err(Unfit::Digest);
        }
        if self.version() == Some(digest) {
            return Ok(None);
        }
        let empty = Document::default();
        let changed = Patch::between(self.document().unwrap_or(&empty), &document).changed();
        self.content = Some((digest, document));
        Ok(Some(Change { kind: ChangeKind::Snapshot, changed }))
    }

    fn handle_patch(
        &mut self,
        patch: &Bytes,
        base: Option<Version>,
        version: Option<Version>,
    ) -> Result<Option<Change>, Unfit> {
        let patch = Patch::decode(patch.clone())?;
        let (held, document) = self.content.as_ref().ok_or(Unfit::Base)?;
        if version == Some(*held) {
            return Ok(None);
        }
        if base != Some(*held) {
            return Err(Unfit::Base);
        }
        let mut document = document.clone();
        patch.apply(&mut document).map_err(|_| Unfit::Base)?;
        let digest = Version::of(&document.encode());
        if version != Some(digest) {
            return Err(Unfit::Base);
        }
        self.content = Some((digest, document));
        Ok(Some(Change { kind: ChangeKind::Patch, changed: patch.changed() }))
    }
}

/// Whether what was shown is still held in this state.
pub(super) fn keeps(state: SubscriptionState) -> bool {
    matches!(state, SubscriptionState::Active | SubscriptionState::Stale)
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use impp_protocol::presence::FieldName;
    use impp_protocol::{Address, What};

    pub(crate) fn document(note: &str) -> Document {
        let mut document = Document::offline();
        document.person.insert(FieldName::parse("note").unwrap(), note.into());
        document
    }

    pub(crate) fn notify(state: SubscriptionState) -> Notify {
        Notify::of(Address::parse("bob@a.example").unwrap(), What::Presence, state)
    }

    pub(crate) fn snapshot(new: &Document) -> Notify {
        let bytes = new.encode();
        let version = Some(Version::of(&bytes));
        Notify { version, snapshot: Some(bytes), ..notify(SubscriptionState::Active) }
    }

    pub(crate) fn patch(old: &Document, new: &Document) -> Notify {
        Notify {
            base: Some(Version::of(&old.encode())),
            version: Some(Version::of(&new.encode())),
            patch: Some(Patch::between(old, new).encode()),
            ..notify(SubscriptionState::Active)
        }
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::presence::FieldName;

    use super::samples::{document, notify, patch, snapshot};
    use super::*;

    fn names(change: Option<Change>) -> Vec<String> {
        change.unwrap().changed.into_iter().collect()
    }

    #[test]
    fn a_patch_changes_what_is_held() {
        let (old, new) = (document("here"), document("gone"));
        let mut held = Held::default();
        assert_eq!(names(held.handle(&snapshot(&old)).unwrap()), ["note", "status"]);
        let change = held.handle(&patch(&old, &new)).unwrap();
        assert_eq!(change.as_ref().unwrap().kind, ChangeKind::Patch);
        assert_eq!(names(change), ["note"]);
        assert_eq!(held.document(), Some(&new));
        assert_eq!(held.version(), Some(Version::of(&new.encode())));
    }

    /// Section 8, reading: a name that came later, and a form that grew, are held as they are.
    #[test]
    fn what_is_registered_tomorrow_is_held_today() {
        let (old, mut new) = (document("here"), document("here"));
        new.person.insert(FieldName::heard("weather").unwrap(), "rain".into());
        new.person.insert(FieldName::parse("status").unwrap(), "open since noon".into());
        let mut held = Held::default();
        held.handle(&snapshot(&old)).unwrap();
        assert_eq!(names(held.handle(&patch(&old, &new)).unwrap()), ["status", "weather"]);
        assert_eq!(held.document(), Some(&new));
        assert!(held.handle(&snapshot(&new)).is_ok());
    }

    #[test]
    fn what_is_held_already_is_no_change() {
        let (old, new) = (document("here"), document("gone"));
        let mut held = Held::default();
        held.handle(&snapshot(&new)).unwrap();
        assert_eq!(held.handle(&snapshot(&new)), Ok(None));
        assert_eq!(held.handle(&patch(&old, &new)), Ok(None));
        assert_eq!(held.handle(&notify(SubscriptionState::Active)), Ok(None));
    }

    #[test]
    fn a_patch_of_something_else_is_unfit_and_leaves_what_is_held() {
        let (old, new, other) = (document("here"), document("gone"), document("other"));
        let mut held = Held::default();
        assert_eq!(held.handle(&patch(&old, &new)), Err(Unfit::Base));
        held.handle(&snapshot(&other)).unwrap();
        assert_eq!(held.handle(&patch(&old, &new)), Err(Unfit::Base));
        let wrong = Notify { version: Some(Version([9; 16])), ..patch(&other, &new) };
        assert_eq!(held.handle(&wrong), Err(Unfit::Base));
        let wrong = Notify { version: Some(Version([9; 16])), ..snapshot(&new) };
        assert_eq!(held.handle(&wrong), Err(Unfit::Digest));
        assert_eq!(held.document(), Some(&other));
    }
}
