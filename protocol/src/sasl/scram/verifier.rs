//! What a server keeps of a password, and what it shows for an account that it does not have.
//!
//! Storing verifiers, and keeping the secret of the decoys, is left to the server.

use std::fmt;

use super::Iterations;
use super::keys::{Key, SaltedKeys};
use crate::sasl::Password;

/// The server's record of a password (RFC 5802, section 3): enough to check a proof, not to make
/// one, and no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// That of the name ([`salt_of`]), so that equal passwords have unequal keys. Of one length for
    /// all, so that a decoy's cannot be told by it.
    pub salt: [u8; SALT_BYTES],
    /// How often the hash was iterated.
    pub iterations: Iterations,
    /// The hash of the key that a client proves to hold.
    pub stored_key: Key,
    /// The key by which the server proves to the client that it holds this record.
    pub server_key: Key,
}

impl Verifier {
    /// The verifier of a password. The salt is that of its name.
    ///
    /// This does the work of the iterations: about 0.4 ms for 4,096, 10 ms for 100,000.
    pub fn from_password(
        password: &Password,
        salt: [u8; SALT_BYTES],
        iterations: Iterations,
    ) -> Verifier {
        let keys = SaltedKeys::derive(password, &salt, iterations);
        Verifier {
            salt,
            iterations,
            stored_key: keys.client_key().hash(),
            server_key: keys.server_key().clone(),
        }
    }

    /// What to show for an account that does not exist: a verifier that no password opens.
    ///
    /// It is always the same for one secret and user, whatever the time and the restarts, and to
    /// whoever does not hold the secret it looks like any other: its salt is the one that an account
    /// of this name has, had, or will have. `user` is the canonical address, so that all its
    /// spellings get one decoy. The iteration count is that of all accounts of the domain.
    ///
    /// The caller makes the decoy before the look-up, for known users too, so that both take the
    /// same time; from there on nothing distinguishes them.
    pub fn decoy(secret: &[u8; 32], user: &str, iterations: Iterations) -> Verifier {
        let derive = |purpose| derive(secret, purpose, user);
        Verifier {
            salt: salt_of(secret, user),
            iterations,
            // Nobody knows what hashes to this, so no proof fits; there is no flag to look at.
            stored_key: derive(b"decoy stored key"),
            server_key: derive(b"decoy server key"),
        }
    }
}

/// The salt of a name, whether or not there is such an account: it outlives passwords and accounts, so
/// that it tells of neither. `user` is the canonical address, the secret the server's own.
pub fn salt_of(secret: &[u8; 32], user: &str) -> [u8; SALT_BYTES] {
    let mut salt = [0; SALT_BYTES];
    // The name of its purpose is older than that accounts have it too.
    let source = derive(secret, b"decoy salt", user);
    salt.copy_from_slice(&source.as_bytes()[..SALT_BYTES]);
    salt
}

fn derive(secret: &[u8; 32], purpose: &[u8], user: &str) -> Key {
    Key::from_bytes(*secret).sign(&[purpose, b"\0", user.as_bytes()])
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// Length of every salt that a server makes.
pub const SALT_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_a_decoy_is_stable_per_user_and_secret() {
        let decoy =
            |secret, user| Verifier::decoy(&[secret; 32], user, Iterations::CHOSEN_PASSWORD);
        let one = decoy(7, "nobody@a.example");
        assert_eq!(one, decoy(7, "nobody@a.example"));
        assert_eq!(one.salt, salt_of(&[7; 32], "nobody@a.example"));
        assert_ne!(one.salt, decoy(7, "nobodx@a.example").salt);
        assert_ne!(one.salt, decoy(8, "nobody@a.example").salt);
    }

    #[test]
    fn equal_passwords_with_unequal_salts_have_unequal_keys() {
        let password = Password::prepare("pencil").unwrap();
        let make = |salt| Verifier::from_password(&password, salt, Iterations::RANDOM_PASSWORD);
        assert_eq!(make([1; 16]), make([1; 16]));
        assert_ne!(make([1; 16]).stored_key, make([2; 16]).stored_key);
        assert_eq!(format!("{:?}", make([1; 16])), "Verifier { iterations: Iterations(4096), .. }");
    }
}
