//! The keys of SCRAM and how they follow from a password (RFC 5802, section 3).
//!
//! Who keeps which key is told by [`Verifier`](super::Verifier) and the machines.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::Iterations;
use crate::sasl::Password;

/// A key, signature or proof: 32 bytes, wiped when dropped, compared in constant time, not printed.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// A key that was stored.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    /// Its bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// HMAC-SHA-256 of the parts, one after the other.
    pub(in crate::sasl) fn sign(&self, parts: &[&[u8]]) -> Key {
        // HMAC pads a short key with zeros to the block; done here, it cannot fail.
        let mut block = Zeroizing::new([0; SHA256_BLOCK_BYTES]);
        block[..KEY_BYTES].copy_from_slice(self.as_bytes());
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        for part in parts {
            mac.update(part);
        }
        Key::from_bytes(mac.finalize().into_bytes().into())
    }

    pub(super) fn hash(&self) -> Key {
        Key::from_bytes(Sha256::digest(self.as_bytes()).into())
    }

    pub(super) fn xor(mut self, other: &Key) -> Key {
        for (byte, with) in self.0.iter_mut().zip(other.as_bytes()) {
            *byte ^= with;
        }
        self
    }
}

impl ConstantTimeEq for Key {
    fn ct_eq(&self, other: &Key) -> Choice {
        self.as_bytes().ct_eq(other.as_bytes())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a client needs of its password for one salt and iteration count.
///
/// Kept between connections, it spares the client the work of the iterations. It is worth as much
/// as the password itself to whoever steals it, and belongs to one account and password only.
#[derive(Clone)]
pub struct SaltedKeys {
    salt: Vec<u8>,
    iterations: Iterations,
    client_key: Key,
    server_key: Key,
}

impl SaltedKeys {
    /// Does the work of the iterations: about 10 ms for 100,000.
    pub(super) fn derive(password: &Password, salt: &[u8], iterations: Iterations) -> SaltedKeys {
        let mut salted = Key::from_bytes([0; KEY_BYTES]);
        let count = iterations.get();
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, count, &mut *salted.0);
        SaltedKeys {
            salt: salt.to_vec(),
            iterations,
            client_key: salted.sign(&[b"Client Key"]),
            server_key: salted.sign(&[b"Server Key"]),
        }
    }

    pub(super) fn are_for(&self, salt: &[u8], iterations: Iterations) -> bool {
        self.salt == salt && self.iterations == iterations
    }

    pub(super) fn client_key(&self) -> &Key {
        &self.client_key
    }

    pub(super) fn server_key(&self) -> &Key {
        &self.server_key
    }
}

impl fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaltedKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// Length of every key, signature and proof: that of SHA-256.
pub const KEY_BYTES: usize = 32;
const SHA256_BLOCK_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_of_a_padded_key_is_that_of_rfc_4231() {
        // Test case 2 with its key padded to 32 bytes, which HMAC does too.
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let signature = Key::from_bytes(key).sign(&[b"what do ya want ", b"for nothing?"]);
        let hex: String = signature.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn keys_are_never_printed() {
        let password = Password::prepare("pencil").unwrap();
        let keys = SaltedKeys::derive(&password, b"salt", Iterations::RANDOM_PASSWORD);
        assert_eq!(format!("{:?}", keys.client_key()), "Key(..)");
        assert_eq!(format!("{keys:?}"), "SaltedKeys { iterations: Iterations(4096), .. }");
    }
}
