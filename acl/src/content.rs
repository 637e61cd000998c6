//! Presence ready to leave: the encoding of a [`View`], its version, and patches between two.
//!
//! Frames around it are left to the server. Nothing here can be made but from a view, so bytes of
//! presence that are in nobody's view do not exist.

use bytes::Bytes;
use impp_protocol::field::Fault;
use impp_protocol::presence::{Document, Patch, Version};

use crate::view::View;

/// What a view shows, encoded once for all who share it.
///
/// It cannot be made from a document, whoever may see that:
///
/// ```compile_fail
/// # use impp_acl::Content;
/// # use impp_protocol::presence::{Document, Version};
/// let document = Document::offline();
/// let snapshot = document.encode();
/// let _ = Content { document, version: Version::of(&snapshot), snapshot };
/// ```
#[derive(Clone, Debug)]
pub struct Content {
    document: Document,
    version: Version,
    snapshot: Bytes,
}

/// Bytes of presence that may be sent to whoever has the view they were made from.
///
/// Other bytes cannot be declared fit to be sent:
///
/// ```compile_fail
/// # use impp_acl::Disclosed;
/// # use impp_protocol::presence::{Document, Version};
/// let bytes = Document::offline().encode();
/// let _ = Disclosed { base: None, version: Version::of(&bytes), bytes };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosed {
    base: Option<Version>,
    version: Version,
    bytes: Bytes,
}

impl View {
    /// Encodes the view.
    pub fn content(self) -> Content {
        let document = self.into_document();
        let snapshot = document.encode();
        Content { version: Version::of(&snapshot), document, snapshot }
    }
}

impl Content {
    /// Its version: equal content has equal versions, whoever sees it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The length of the whole content.
    pub fn size(&self) -> usize {
        self.snapshot.len()
    }

    /// What a patch makes of it that the home server of another domain has sent for those who see
    /// this content; see [`View::decided_at_home`].
    ///
    /// # Errors
    /// [`Fault`] if a limit would be exceeded.
    pub fn patched_at_home(&self, patch: &Patch) -> Result<Content, Fault> {
        let mut document = self.document.clone();
        patch.apply(&mut document)?;
        Ok(View::decided_at_home(document).content())
    }

    /// Whether it is what offline looks like, whoever is offline and why.
    pub fn is_offline(&self) -> bool {
        self.document == Document::offline()
    }

    /// The whole content.
    pub fn snapshot(&self) -> Disclosed {
        Disclosed { base: None, version: self.version, bytes: self.snapshot.clone() }
    }

    /// What makes this content out of `base`, or the whole where that is no longer.
    pub fn since(&self, base: &Content) -> Disclosed {
        let patch = Patch::between(&base.document, &self.document).encode();
        if patch.len() >= self.snapshot.len() {
            return self.snapshot();
        }
        Disclosed { base: Some(base.version), version: self.version, bytes: patch }
    }
}

impl Disclosed {
    /// The version that a patch changes; `None` for a snapshot.
    pub fn base(&self) -> Option<Version> {
        self.base
    }

    /// The version that the reader holds then.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The encoding of a document, or with a base of a patch; shared, not copied.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::presence::FieldName;

    use super::*;
    use crate::{Purpose, Question, RuleSet, Watcher, decide};

    fn content(document: &Document) -> Content {
        let alice = "alice@a.example".parse().unwrap();
        let question = Question {
            owner: &alice,
            watcher: &Watcher::Principal(alice.clone()),
            purpose: Purpose::Fetch,
            now: Default::default(),
            sphere: None,
            contact: crate::Grant::None,
            domain: crate::DomainPolicy::none(),
        };
        decide(&RuleSet::default(), &question).view(document).unwrap().content()
    }

    #[test]
    fn a_patch_leads_from_its_base_to_its_version() {
        let mut old = Document::offline();
        for index in 0..20 {
            let name = FieldName::parse(&format!("org.example.f{index}")).unwrap();
            old.person.insert(name, "a value that is not very short".into());
        }
        let mut new = old.clone();
        new.person.insert(FieldName::parse("org.example.f7").unwrap(), "x".into());
        let (before, after) = (content(&old), content(&new));
        let patch = after.since(&before);
        assert_eq!((patch.base(), patch.version()), (Some(before.version()), after.version()));
        Patch::decode(patch.bytes()).unwrap().apply(&mut old).unwrap();
        assert_eq!(old, new);
        assert_eq!(after.snapshot().version(), Version::of(&after.snapshot().bytes()));
    }

    #[test]
    fn a_patch_that_is_no_smaller_is_a_snapshot() {
        let mut old = Document::offline();
        for index in 0..20 {
            let name = FieldName::parse(&format!("org.example.f{index}")).unwrap();
            old.person.insert(name, "x".into());
        }
        assert_eq!(content(&Document::offline()).since(&content(&old)).base(), None);
    }
}
