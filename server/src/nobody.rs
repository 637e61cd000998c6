//! Addresses that do not exist here and that other domains write to: how many messages each seems to
//! hold, so that it comes to be full as one would whose owner never looks.
//!
//! Nothing of the messages is kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use impp_protocol::Address;

/// Addresses that are counted; when there are more, all are forgotten.
const ADDRESSES_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Nobody {
    held: Mutex<HashMap<Address, u64>>,
}

impl Nobody {
    /// Seems to hold one more message; `false` if as many as can be are held.
    pub fn hold(&self, address: &Address, most: u64) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= ADDRESSES_MAX && !held.contains_key(address) {
            held.clear();
        }
        let count = held.entry(address.clone()).or_default();
        let room = *count < most;
        *count += u64::from(room);
        room
    }

    /// What seemed to be held was a repeat, or could not be stored.
    pub fn release(&self, address: &Address) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(address) {
            *count = count.saturating_sub(1);
        }
    }
}
