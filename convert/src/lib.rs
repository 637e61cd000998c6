//! Messages and presence documents in the formats that others speak: Message/CPIM (RFC 3862), PIDF
//! (RFC 3863) with RPID (RFC 4480). Pure: texts in, values out, and back.
//!
//! Files, and who may send or publish what, are left to the callers. docs/formats.md says what
//! becomes of each part.

pub mod corpus;
pub mod cpim;
pub mod pidf;
pub mod xml;

use impp_protocol::Address;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Namespace of what messages have and CPIM has no header for. It is registered nowhere.
pub const MESSAGE_NAMESPACE: &str = "urn:impp:message";

/// What stands in the user part of a URI as it is (RFC 3986's unreserved characters, and `+`).
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'+');

/// The URI of an address's inbox, `im:user@domain` (RFC 3860), or presentity, `pres:` (RFC 3859).
pub fn uri(scheme: &str, address: &Address) -> String {
    format!("{scheme}:{}@{}", utf8_percent_encode(address.local(), PLAIN), address.domain_str())
}
