//! The types that one field's value can have, each with its one encoding.
//!
//! Those of a presence document are in `presence`, numbers with names in `schema`.

use std::time::Duration;

use bytes::Bytes;

use super::{Fault, INTEGER_MAX, Raw, Slot, Value};
use crate::address::{Address, Domain};
use crate::time::Timestamp;

/// Up to [`INTEGER_MAX`].
impl Value for u64 {
    fn fill(&self, slot: Slot<'_>) {
        slot.int(*self);
    }

    fn from_raw(raw: Raw) -> Result<u64, Fault> {
        match raw {
            Raw::Int(int) if int > INTEGER_MAX => Err(Fault::TooLarge),
            Raw::Int(int) => Ok(int),
            Raw::Bytes(_) => Err(Fault::Shape),
        }
    }
}

impl Value for Bytes {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self);
    }

    fn from_raw(raw: Raw) -> Result<Bytes, Fault> {
        match raw {
            Raw::Bytes(bytes) => Ok(bytes),
            Raw::Int(_) => Err(Fault::Shape),
        }
    }
}

/// Sixteen octets: ids, versions.
impl Value for [u8; 16] {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self);
    }

    fn from_raw(raw: Raw) -> Result<[u8; 16], Fault> {
        <[u8; 16]>::try_from(&Bytes::from_raw(raw)?[..]).map_err(|_| Fault::Value)
    }
}

/// UTF-8 without control characters other than line feed and tab.
impl Value for String {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self.as_bytes());
    }

    fn from_raw(raw: Raw) -> Result<String, Fault> {
        let bytes = Bytes::from_raw(raw)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Fault::Text)?;
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Fault::Text);
        }
        Ok(text.to_owned())
    }
}

impl Value for Address {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self.as_str().as_bytes());
    }

    fn from_raw(raw: Raw) -> Result<Address, Fault> {
        Address::parse_canonical(&String::from_raw(raw)?).map_err(Fault::Address)
    }
}

impl Value for Domain {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self.as_str().as_bytes());
    }

    fn from_raw(raw: Raw) -> Result<Domain, Fault> {
        let text = String::from_raw(raw)?;
        let domain = Domain::parse(&text).map_err(Fault::Address)?;
        if domain.as_str() == text { Ok(domain) } else { Err(Fault::NotCanonical) }
    }
}

/// Milliseconds since the epoch.
impl Value for Timestamp {
    fn fill(&self, slot: Slot<'_>) {
        slot.int(self.as_millis());
    }

    fn from_raw(raw: Raw) -> Result<Timestamp, Fault> {
        let millis = u64::from_raw(raw)?;
        let time = Timestamp::from_millis(millis);
        if time.as_millis() == millis { Ok(time) } else { Err(Fault::Value) }
    }
}

/// Whole seconds, fewer than 2³².
impl Value for Duration {
    fn fill(&self, slot: Slot<'_>) {
        slot.int(self.as_secs());
    }

    fn from_raw(raw: Raw) -> Result<Duration, Fault> {
        let seconds = u32::try_from(u64::from_raw(raw)?).map_err(|_| Fault::Value)?;
        Ok(Duration::from_secs(u64::from(seconds)))
    }
}
