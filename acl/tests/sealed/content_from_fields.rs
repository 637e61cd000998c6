//! Content cannot be made from a document, whoever may see it.

use impp_acl::Content;
use impp_protocol::presence::{Document, Version};

fn main() {
    let document = Document::offline();
    let snapshot = document.encode();
    let _ = Content { document, version: Version::of(&snapshot), snapshot };
}
