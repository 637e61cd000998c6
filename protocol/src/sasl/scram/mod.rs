//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): both sides' machines.
//!
//! Each machine takes messages and gives messages; a step consumes the machine, so that no step
//! can be left out or done twice. Nonces and the TLS exporter's value come in as arguments; looking
//! up verifiers, counting tries and time limits are left to the caller.

mod client;
mod keys;
mod message;
mod server;
#[cfg(test)]
mod tests;
mod verifier;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use client::{Answered, Binding, Client};
pub use keys::{KEY_BYTES, Key, SaltedKeys};
pub use server::{Challenged, Proven, Server};
pub use verifier::{SALT_BYTES, Verifier, salt_of};

use super::{AuthError, MESSAGE_BYTES_MAX, within};

/// The value that TLS exports to bind a sign-in to its connection (RFC 9266, section 2).
///
/// The shell gets it from TLS 1.3 with [`EXPORTER_LABEL`], an empty context and this length.
pub type Exporter = [u8; EXPORTER_BYTES];

/// One side's share of an exchange's nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce of 144 random bits, which must come from a cryptographic source and be used once.
    pub fn from_random(random: [u8; NONCE_RANDOM_BYTES]) -> Nonce {
        Nonce(BASE64.encode(random))
    }

    /// A nonce given as text, as a peer or a test vector writes it.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] or [`AuthError::TooLong`], unless it is 1 to [`NONCE_BYTES_MAX`]
    /// printable ASCII characters without a comma.
    pub fn from_text(text: &str) -> Result<Nonce, AuthError> {
        within("nonce", text.len(), NONCE_BYTES_MAX)?;
        message::printable(text)?;
        Ok(Nonce(text.to_owned()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// How often the hash is iterated to make keys of a password, within its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iterations(u32);

impl Iterations {
    /// For random passwords, where more work adds nothing.
    pub const RANDOM_PASSWORD: Iterations = Iterations(ITERATIONS_MIN);
    /// For passwords that somebody chose. The client does the work.
    pub const CHOSEN_PASSWORD: Iterations = Iterations(100_000);

    /// A count that was read from a peer, the store or a setting.
    ///
    /// # Errors
    /// [`AuthError::Iterations`] if it is under [`ITERATIONS_MIN`] or over [`ITERATIONS_MAX`].
    pub fn new(count: u32) -> Result<Iterations, AuthError> {
        if (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&count) {
            Ok(Iterations(count))
        } else {
            Err(AuthError::Iterations { got: count })
        }
    }

    /// The count.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The label to export [`Exporter`] with (RFC 9266, section 2).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Length of [`Exporter`] (RFC 9266, section 2).
pub const EXPORTER_BYTES: usize = 32;
/// Fewest iterations: with fewer, a stolen verifier is guessed too cheaply (RFC 7677, section 4).
pub const ITERATIONS_MIN: u32 = 4_096;
/// Most iterations, about 0.1 s of work: a hostile server may not keep its client busy for longer.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Random bytes in a nonce made here, a multiple of 3 so that its text needs no padding.
pub const NONCE_RANDOM_BYTES: usize = 18;
/// Longest nonce of one side.
pub const NONCE_BYTES_MAX: usize = 96;
/// Longest user name or authorisation identity as sent; any address fits, escapes included.
pub const NAME_BYTES_MAX: usize = 448;
/// Longest salt that a client accepts.
pub const SALT_BYTES_MAX: usize = 64;

/// Every message that keeps to the limits of its parts keeps to that of the whole.
const _: () = {
    const GS2: usize = "p=tls-exporter,a=,".len() + NAME_BYTES_MAX;
    const BASE64_C: usize = (GS2 + EXPORTER_BYTES).div_ceil(3) * 4;
    const BASE64_KEY: usize = KEY_BYTES.div_ceil(3) * 4;
    assert!(GS2 + "n=,r=".len() + NAME_BYTES_MAX + NONCE_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!("c=,r=,p=".len() + BASE64_C + 2 * NONCE_BYTES_MAX + BASE64_KEY <= MESSAGE_BYTES_MAX);
    assert!(NONCE_RANDOM_BYTES.is_multiple_of(3) && NONCE_RANDOM_BYTES / 3 * 4 <= NONCE_BYTES_MAX);
    assert!(SALT_BYTES <= SALT_BYTES_MAX && crate::address::LOCAL_BYTES_MAX * 3 <= NAME_BYTES_MAX);
};
