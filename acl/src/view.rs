//! What a watcher sees of a document: the one form in which presence may leave (RFC 5025 3.3).
//!
//! Composing the full document is left to the server, encoding and versions to `protocol`.

use std::sync::Arc;

use impp_protocol::presence::{Document, FieldName, Fields, PartId, Parts};

use crate::decide::Decision;
use crate::grants::{FieldSet, Grants, PartSet};
use crate::rules::Handling;

/// Fields of a tuple that show with it, granted or not (RFC 5025 3.3.1.3; the priority is the
/// contact's).
const TUPLE_ALWAYS: [&str; 5] = ["contact", "priority", "service-class", "status", "timestamp"];
/// Fields of the person that show with it (RFC 5025 3.3.1.2).
const PERSON_ALWAYS: [&str; 1] = ["timestamp"];
/// Fields of a device that show with it (RFC 5025 3.3.1.1).
const DEVICE_ALWAYS: [&str; 2] = ["device-id", "timestamp"];

/// A document as one watcher may see it: the permission to send it.
///
/// Nothing makes one but [`Decision::view`] and [`ViewKey::apply`], of two of these [`View::within`], and
/// for presentities of other domains [`View::decided_at_home`], so presence cannot be sent to anybody without a decision that
/// allows it. By hand it is neither made nor changed:
///
/// ```compile_fail
/// # use impp_acl::View;
/// # use impp_protocol::presence::Document;
/// let _ = View { document: Document::offline() };
/// ```
///
/// ```compile_fail
/// # use impp_acl::View;
/// # use impp_protocol::presence::Document;
/// let _: View = Document::offline().into();
/// ```
///
/// ```compile_fail
/// # use impp_acl::View;
/// # use impp_protocol::presence::Document;
/// fn widen(view: &mut View, full: Document) {
///     view.document = full;
/// }
/// ```
///
/// All that these examples and those of [`ViewKey`], [`Content`](crate::Content),
/// [`Disclosed`](crate::Disclosed) and [`Decision`](crate::Decision) name is there: they are
/// refused for what they do with it.
///
/// ```
/// use impp_acl::{Content, Decision, Disclosed, Grants, Handling, View, ViewKey};
/// use impp_protocol::presence::{Document, Version};
///
/// fn all(_: Option<(Content, Decision, Disclosed, View, ViewKey)>) {}
/// all(None);
/// let bytes = Document::offline().encode();
/// let _ = (Version::of(&bytes), Handling::Allow, Grants::everything());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    document: Document,
}

impl View {
    /// What the home server of another domain has sent for watchers whom it named.
    ///
    /// Only for the cache of the watching side: the home has decided, by its owner's rules, what
    /// these watchers see, and this is for them and for nobody else. It never makes a view of a
    /// document whose owner is a principal of this server.
    pub fn decided_at_home(document: Document) -> View {
        View { document }
    }

    /// A part of what may be shown: nothing in it is otherwise.
    pub(crate) fn less(document: Document) -> View {
        View { document }
    }

    /// What may be shown.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What may be shown, for keeping.
    pub fn into_document(self) -> Document {
        self.document
    }
}

/// Which view a decision gives: watchers with equal keys see equal documents, always.
///
/// ```compile_fail
/// # use impp_acl::{Grants, ViewKey};
/// let _ = ViewKey(Grants::everything());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewKey(Shown);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shown {
    Offline,
    Granted(Grants),
}

impl Decision {
    /// Which view the watcher gets; none while it is blocked or waits for the owner.
    pub fn view_key(&self) -> Option<ViewKey> {
        match self.handling {
            Handling::Block | Handling::Confirm => None,
            Handling::PoliteBlock => Some(ViewKey(Shown::Offline)),
            Handling::Allow => Some(ViewKey(Shown::Granted(self.grants.clone()))),
        }
    }

    /// What the watcher sees of the full document; none while it is blocked or waits.
    ///
    /// A politely blocked watcher gets exactly [`Document::offline`] whatever the owner does.
    pub fn view(&self, full: &Document) -> Option<View> {
        self.view_key().map(|key| key.apply(full))
    }
}

impl ViewKey {
    /// What everybody with this key sees of the full document.
    ///
    /// - A granted tuple shows its id, the fields that always show with it, and granted ones; its
    ///   class also where a rule selects tuples by it ([`PartSet`]).
    /// - The person, and each device, is granted by a selector too, or else wherever a granted
    ///   field shows of it; and shows then as tuples do. With no field left the person is absent.
    /// - Where nothing at all is left the view is [`Document::offline`]: so nobody can tell
    ///   "nothing for you" from offline, and an offline owner looks the same to all.
    ///
    /// Applying a key to its own result changes nothing.
    pub fn apply(&self, full: &Document) -> View {
        let Shown::Granted(grants) = &self.0 else {
            return View { document: Document::offline() };
        };
        let (fields, parts) = (grants.fields(), grants.parts());
        let document = Document {
            person: shown(None, &full.person, fields, &parts.persons, &PERSON_ALWAYS)
                .unwrap_or_default(),
            tuples: each(&full.tuples, fields, &parts.tuples, &TUPLE_ALWAYS),
            devices: each(&full.devices, fields, &parts.devices, &DEVICE_ALWAYS),
        };
        let empty = document == Document::default();
        View { document: if empty { Document::offline() } else { document } }
    }
}

fn each(all: &Parts, granted: &FieldSet, parts: &PartSet, always: &[&str]) -> Parts {
    let shown = |(id, fields): (&PartId, &Fields)| {
        Some((id.clone(), shown(Some(id), fields, granted, parts, always)?))
    };
    all.iter().filter_map(shown).collect()
}

/// What shows of a part, if it is one of those that are granted.
fn shown(
    id: Option<&PartId>,
    fields: &Fields,
    granted: &FieldSet,
    parts: &PartSet,
    always: &[&str],
) -> Option<Fields> {
    let any = *granted == FieldSet::All
        || fields.iter().any(|(name, value)| granted.shown(name, value).is_some());
    let selected = parts.selects(id, fields, any);
    let keep = |(name, value): (&FieldName, &Arc<str>)| {
        let with_it =
            always.contains(&name.as_str()) || (selected.class && name.as_str() == "class");
        let value = if with_it { Some(value.clone()) } else { granted.shown(name, value) };
        value.map(|value| (name.clone(), value))
    };
    selected.shown.then(|| fields.iter().filter_map(keep).collect())
}

#[cfg(test)]
mod tests;
