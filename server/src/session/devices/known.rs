//! A device as it is stored.
//!
//! Entering one and parting with one is left to `mod.rs`.

use impp_protocol::{DeviceId, Timestamp};
use impp_storage::Expect;

use crate::core::records::{self, DeviceRecord};

/// A device as it is stored.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id.
    pub id: DeviceId,
    /// What is known of it. What cannot be read is a device without a name, last used in 1970.
    pub record: DeviceRecord,
    /// The version of its record; of a damaged one that is not known.
    version: Option<u64>,
}

impl Known {
    pub(super) fn read(id: DeviceId, record: &impp_storage::Record) -> Known {
        let unreadable = |_| DeviceRecord { name: None, last_seen: 0 };
        let (value, version) = (&record.value, Some(record.version));
        Known { id, record: records::from_bytes(value).unwrap_or_else(unreadable), version }
    }

    /// One whose record cannot be read.
    pub(super) fn damaged(id: DeviceId) -> Known {
        Known { id, record: DeviceRecord { name: None, last_seen: 0 }, version: None }
    }

    /// Whether all that is known of it is that it is there.
    pub fn is_damaged(&self) -> bool {
        self.version.is_none()
    }

    /// On condition that it is as it was read.
    pub(super) fn unchanged(&self) -> Expect {
        self.version.map_or(Expect::Any, Expect::Version)
    }

    /// When it was last used, as stored.
    pub fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.record.last_seen)
    }
}
