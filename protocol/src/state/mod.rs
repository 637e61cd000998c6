//! The contents of things other than presence: what PUBLISH changes in them, what FETCH and NOTIFY
//! bring of them.

mod contacts;
mod delegation;
mod explanation;
mod log;
mod marks;
mod owned;
mod short_page;
mod subscription;

pub use contacts::{
    CONTACT_GROUPS_MAX, Contact, ContactChange, ContactEdit, Contacts, Following, Grant,
};
pub use delegation::{Act, Acts, DelegatedRight, Delegation, Delegations};
pub use explanation::{Explanation, RuleTrace};
pub use log::{
    Deletion, DeletionReport, DeviceEvent, DeviceReport, Fate, FateReport, Item, ItemKind, Page,
    Whereabouts,
};
pub use marks::{
    MarkKind, MarkReport, ReadMark, ReadMarkEdit, ReadMarks, TYPING, Typing, TypingEdit,
};
pub use owned::{
    Decision, Device, DeviceEdit, Devices, HeldMessage, RequestEdit, RequestEntry, RequestKind,
    Requests,
};
pub use short_page::ShortPage;
pub use subscription::{
    Proof, Subscription, SubscriptionEdit, SubscriptionEvent, SubscriptionState, Subscriptions,
    WatcherCount, WatcherEdit, WatcherEntry, Watchers,
};

use bytes::Bytes;

use crate::field::{FieldError, Reader, Writer};
use crate::schema::Map;

/// The encoding of a thing's content.
pub fn encode<T: Map>(content: &T) -> Bytes {
    let mut writer = Writer::default();
    content.put(&mut writer);
    writer.into_bytes()
}

/// Reads a thing's content.
///
/// # Errors
/// [`FieldError`] naming the wrong field.
pub fn decode<T: Map>(bytes: Bytes) -> Result<T, FieldError> {
    T::get(Reader::new(bytes))
}
