//! The ids that both sides name: of messages, devices and sessions. Sixteen octets each, and never
//! one taken for the other.
//!
//! Chance comes in; that an id's time is near the server's is looked at by the server.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid, Variant};

use crate::field::{Fault, Octets, Raw, Slot, Value};
use crate::time::Timestamp;

/// A message's id, as its sender made it: a UUIDv7, if the sender keeps to the protocol. It is
/// written as UUIDs are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// A new UUIDv7 of that time; six bits of the chance give way to its version and variant.
    pub fn new(time: Timestamp, chance: [u8; 10]) -> MessageId {
        let uuid = Builder::from_unix_timestamp_millis(time.as_millis(), &chance).into_uuid();
        MessageId(uuid.into_bytes())
    }

    /// When it was made: the first 48 bits. `None` if it is no UUIDv7.
    pub fn time(self) -> Option<Timestamp> {
        let uuid = Uuid::from_bytes(self.0);
        if uuid.get_version_num() != 7 || uuid.get_variant() != Variant::RFC4122 {
            return None;
        }
        let millis = self.0[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
        Some(Timestamp::from_millis(millis))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

/// Without the hyphens, as keys of records have it.
impl fmt::LowerHex for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).simple().fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    /// Reads it with or without hyphens.
    fn from_str(text: &str) -> Result<MessageId, IdError> {
        let uuid = Uuid::parse_str(text).map_err(|_| IdError("a UUID"))?;
        Ok(MessageId(uuid.into_bytes()))
    }
}

/// A device: 128 random bits that its client made once. It is written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 16]);

impl DeviceId {
    /// No device has it, and none may sign in with it: among the leases of a watcher that are
    /// stored it stands for the server of the watcher's domain.
    pub const NIL: DeviceId = DeviceId([0; 16]);
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    /// Reads the digits, small or capital.
    fn from_str(text: &str) -> Result<DeviceId, IdError> {
        let wrong = IdError("32 hexadecimal digits");
        // A number may have a sign, an id has none.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong)?;
        Ok(DeviceId(number.to_be_bytes()))
    }
}

/// A session, as its server has drawn it: unique in that server's run. AUTH and the ticket name it to
/// resume it. It is written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

fn hex(octets: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

/// A text that is not the id that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct IdError(&'static str);

/// On the wire they are their octets; whoever reads a log reads them as they are written.
macro_rules! octets {
    ($($name:ident),+) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Value for $name {
            fn fill(&self, slot: Slot<'_>) {
                self.0.fill(slot);
            }

            fn from_raw(raw: Raw) -> Result<$name, Fault> {
                <[u8; 16]>::from_raw(raw).map($name)
            }
        }

        impl Octets for $name {}
    )+ };
}

octets!(MessageId, DeviceId, SessionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_tells_its_time_if_it_is_a_uuid_of_version_7() {
        let now = Timestamp::parse("2026-12-01T01:02:03.456Z").unwrap();
        for chance in [[0; 10], [0xff; 10]] {
            assert_eq!(MessageId::new(now, chance).time(), Some(now));
        }
        assert_ne!(MessageId::new(now, [1; 10]), MessageId::new(now, [2; 10]));
        let MessageId(made) = MessageId::new(now, [7; 10]);
        for (at, byte) in [(6, 0x40), (8, 0x00), (8, 0xc0)] {
            let mut other = made;
            other[at] = byte;
            assert_eq!(MessageId(other).time(), None, "{:?}", MessageId(other));
        }
    }

    #[test]
    fn a_message_id_is_read_as_it_is_written_with_hyphens_or_without() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        let id: MessageId = text.parse().unwrap();
        assert_eq!((id.to_string(), format!("{id:?}")), (text.to_owned(), text.to_owned()));
        assert_eq!(format!("{id:x}"), text.replace('-', ""));
        assert_eq!(format!("{id:x}").parse(), Ok(id));
        assert_eq!("01".parse::<MessageId>().unwrap_err().to_string(), "expected a UUID");
    }

    #[test]
    fn a_device_id_is_32_hexadecimal_digits() {
        let id = DeviceId(std::array::from_fn(|index| index as u8 * 0x11));
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!((id.to_string(), text.parse()), (text.to_owned(), Ok(id)));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        for wrong in [&text[1..], &format!("+{}", &text[1..]), &format!("{text}0"), "é"] {
            let error = wrong.parse::<DeviceId>().unwrap_err();
            assert_eq!(error.to_string(), "expected 32 hexadecimal digits");
        }
    }
}
