//! PUBLISH: change a state.

use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::schema::fields;
use crate::thing::What;

fields! {
    /// PUBLISH. `content` is what the section of the thing says; of presence, a patch of the
    /// caller's own layer.
    pub struct Publish {
        /// Whose state: the caller's own address.
        1 address: Address,
        /// Which state.
        2 what: What,
        /// The change.
        3 content: Option<Bytes>,
        /// Presence: keep it so many seconds; 0 ends the layer; absent binds it to the session.
        4 lease: Option<Duration>,
        /// Presence: the layer is emptied before the patch is applied.
        5 replace: bool,
        /// Rules, contacts: the version that the change starts from.
        6 base: Option<u64>,
    }
}

impl Publish {
    /// A change of a thing; of presence, bound to the session.
    pub fn of(address: Address, what: What, content: Option<Bytes>) -> Publish {
        Publish { address, what, content, lease: None, replace: false, base: None }
    }
}
