//! AUTH and CHALLENGE: SASL (RFC 4422), two steps, and the resumption of a session.

use bytes::Bytes;

use crate::schema::fields;

fields! {
    /// AUTH: a step of signing in. The first names the mechanism and the device; the next bring
    /// the answer to the CHALLENGE.
    pub struct Auth {
        /// The SASL mechanism; only in the first step.
        1 mechanism: Option<String>,
        /// The mechanism's message.
        2 data: Option<Bytes>,
        /// The device: 128 random bits that the client made once; only in the first step.
        3 device: Option<[u8; 16]>,
        /// A name for the device that its owner will recognise.
        4 device_name: Option<String>,
        /// A resume token, instead of a mechanism.
        5 resume: Option<Bytes>,
    }
}

fields! {
    /// CHALLENGE: the answer to an AUTH that needs another step.
    pub struct Challenge {
        /// The mechanism's message.
        1 data: Bytes,
    }
}
