//! AUTH and CHALLENGE: SASL (RFC 4422), two steps, and the resumption of a session.

use bytes::Bytes;

use crate::ids::{DeviceId, SessionId};
use crate::sasl::resume::Binding;
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
        /// The device: 128 random bits that the client made once; only in the first step. Without it the
        /// session is of no device.
        3 device: Option<DeviceId>,
        /// A name for the device that its owner will recognise.
        4 device_name: Option<String>,
        /// The id of the session to resume, instead of a mechanism; `data` proves that the client
        /// holds its ticket.
        5 resume: Option<SessionId>,
        /// What binds tickets to their connection: the one that is to come, to resume this one. Absent
        /// for `exporter`; in the first step, or the only one.
        6 binding: Option<Binding>,
        /// With `resume`: no presence is told before a SUBSCRIBE of the contacts says by `versions` what the
        /// client holds, or two seconds are over.
        7 versions_follow: bool,
    }
}

impl Auth {
    /// An AUTH that says nothing.
    pub fn empty() -> Auth {
        let (mechanism, data, device) = Default::default();
        let (device_name, resume, binding, versions_follow) = Default::default();
        Auth { mechanism, data, device, device_name, resume, binding, versions_follow }
    }
}

fields! {
    /// CHALLENGE: the answer to an AUTH that needs another step.
    pub struct Challenge {
        /// The mechanism's message.
        1 data: Bytes,
    }
}
