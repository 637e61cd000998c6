//! What a server keeps of a password, and what it shows for an account that it does not have.
//!
//! Storing verifiers, and keeping the secret of the decoys, is left to the server.

use std::fmt;

use super::keys::{Key, SaltedKeys};
use super::{ITERATIONS_MIN, Iterations};
use crate::sasl::Password;

/// The server's record of a password (RFC 5802, section 3): enough to check a proof, not to make
/// one, and no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Random per account and password, so that equal passwords have unequal keys. Of one length
    /// for all, so that a decoy's cannot be told by it.
    pub salt: [u8; SALT_BYTES],
    /// How often the hash was iterated.
    pub iterations: Iterations,
    /// The hash of the key that a client proves to hold.
    pub stored_key: Key,
    /// The key by which the server proves to the client that it holds this record.
    pub server_key: Key,
}

impl Verifier {
    /// The verifier of a password. The salt must be random and new.
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
    /// whoever does not hold the secret it looks like any other. `user` is the canonical address,
    /// so that all its spellings get one decoy. `in_use` are the iteration counts of the
    /// domain's accounts, of which each decoy takes one: else an account with another count than
    /// the decoys' would be known to exist. (None at all counts as the fewest allowed.)
    ///
    /// The caller makes the decoy before the look-up, for known users too, so that both take the
    /// same time; from there on nothing distinguishes them.
    pub fn decoy(secret: &[u8; 32], user: &str, in_use: &[Iterations]) -> Verifier {
        let secret = Key::from_bytes(*secret);
        let derive = |purpose: &[u8]| secret.sign(&[purpose, b"\0", user.as_bytes()]);
        let salt_source = derive(b"decoy salt");
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&salt_source.as_bytes()[..SALT_BYTES]);
        let pick = usize::from(derive(b"decoy iterations").as_bytes()[0]);
        let iterations = match in_use.len() {
            0 => Iterations(ITERATIONS_MIN),
            len => in_use[pick % len],
        };
        Verifier {
            salt,
            iterations,
            // Nobody knows what hashes to this, so no proof fits; there is no flag to look at.
            stored_key: derive(b"decoy stored key"),
            server_key: derive(b"decoy server key"),
        }
    }
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

    const COUNTS: [Iterations; 2] = [Iterations::RANDOM_PASSWORD, Iterations::CHOSEN_PASSWORD];

    #[test]
    fn c1_a_decoy_is_stable_per_user_and_secret() {
        let decoy = Verifier::decoy(&[7; 32], "nobody@a.example", &COUNTS);
        assert_eq!(decoy, Verifier::decoy(&[7; 32], "nobody@a.example", &COUNTS));
        assert_ne!(decoy.salt, Verifier::decoy(&[7; 32], "nobodx@a.example", &COUNTS).salt);
        assert_ne!(decoy.salt, Verifier::decoy(&[8; 32], "nobody@a.example", &COUNTS).salt);
    }

    #[test]
    fn c1_decoys_show_every_iteration_count_in_use() {
        let shown = |count| {
            (0..64)
                .map(|n| Verifier::decoy(&[7; 32], &format!("u{n}@a.example"), &COUNTS))
                .filter(|decoy| decoy.iterations == count)
                .count()
        };
        assert!(COUNTS.into_iter().all(|count| shown(count) > 8));
        assert_eq!(Verifier::decoy(&[7; 32], "u", &[]).iterations.get(), ITERATIONS_MIN);
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
