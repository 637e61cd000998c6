//! How sixteen octets are written.

pub use impp_presence::{DeviceId, SessionId};

/// Sixteen bytes in hex.
pub fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sixteen bytes of [`hex`].
pub fn unhex(text: &str) -> Option<[u8; 16]> {
    let pair = |index: usize| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok();
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = pair(index)?;
    }
    (text.len() == 32).then_some(bytes)
}
