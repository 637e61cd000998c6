//! Randomness, handed down from whoever starts the server: nobody else asks the system for it, so a
//! run can be repeated.

use std::fmt::Debug;

/// Where random bytes come from.
pub trait Chance: Debug + Send + Sync + 'static {
    /// Fills a buffer with bytes that nobody can foretell.
    ///
    /// # Errors
    /// [`NoChance`].
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance>;
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct NoChance(#[from] getrandom::Error);

/// The system's.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Chance for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        Ok(getrandom::fill(bytes)?)
    }
}

impl dyn Chance {
    /// Random bytes: an id, a key, a nonce.
    ///
    /// # Errors
    /// [`NoChance`].
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoChance> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A number, to spread what would happen at once. Without randomness it is not spread.
    pub fn spread(&self) -> u64 {
        self.bytes().map(u64::from_le_bytes).unwrap_or_default()
    }
}
