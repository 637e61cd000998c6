//! Bytes of presence cannot be declared fit to be sent: only a view's content is.

use bytes::Bytes;
use impp_acl::Disclosed;
use impp_protocol::presence::{Document, Version};

fn main() {
    let bytes: Bytes = Document::offline().encode();
    let _ = Disclosed { base: None, version: Version::of(&bytes), bytes };
}
