//! AUTH and CHALLENGE: SASL (RFC 4422), two steps, and the resumption of a session.

use bytes::Bytes;

use crate::ids::{DeviceId, SessionId};
use crate::schema::fields;

/// Longest name of a device in bytes.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;

fields! {
    /// AUTH: a step of signing in. The first names the mechanism and the device; the next bring
    /// the answer to the CHALLENGE.
    pub struct Auth {
        /// The SASL mechanism; only in the first step.
        1 mechanism: Option<String>,
        /// The mechanism's message.
        2 data: Option<Bytes>,
        /// The device: 128 random bits that the client made once; only in the first step.
        3 device: Option<DeviceId>,
        /// A name for the device that its owner will recognise.
        4 device_name: Option<String>,
        /// The id of the session to resume, instead of a mechanism; `data` proves that the client
        /// holds its ticket.
        5 resume: Option<SessionId>,
    }
}

fields! {
    /// CHALLENGE: the answer to an AUTH that needs another step.
    pub struct Challenge {
        /// The mechanism's message.
        1 data: Bytes,
    }
}
