//! The server's secrets, made once with the store, and what they seal.
//!
//! Storing them is left to the host; they never leave the process otherwise.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::sasl::Password;
use impp_protocol::sasl::scram::{Iterations, SALT_BYTES, Verifier, salt_of};
use serde::{Deserialize, Serialize};

use super::chance::{Chance, NoChance};

/// Random keys of a server.
#[derive(Clone)]
pub struct Secrets {
    /// From which the salts of all names are made, whether or not there are such accounts, and the
    /// keys of those that do not exist.
    pub decoy: [u8; 32],
    /// Seals cursors.
    cursor: [u8; 32],
    /// Made of it once: that costs as much as to seal. Of 32 bytes one is always made.
    cipher: Option<Arc<LessSafeKey>>,
}

/// How [`Secrets`] are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsRecord {
    decoy: String,
    cursor: String,
}

impl Secrets {
    /// New ones.
    ///
    /// # Errors
    /// [`NoChance`].
    pub fn random(chance: &dyn Chance) -> Result<Secrets, NoChance> {
        Ok(Secrets::of(chance.bytes()?, chance.bytes()?))
    }

    /// A verifier of the password of a name.
    pub fn verifier(&self, of: &Address, password: &Password, iterations: Iterations) -> Verifier {
        Verifier::from_password(password, self.salt(of), iterations)
    }

    /// Whether a name's verifier is as one that is made now: else it tells that there is an account.
    pub fn keeps_so(&self, of: &Address, verifier: &Verifier, iterations: Iterations) -> bool {
        verifier.iterations == iterations && verifier.salt == self.salt(of)
    }

    /// The salt of a name, whether or not there is such an account.
    pub fn salt(&self, of: &Address) -> [u8; SALT_BYTES] {
        salt_of(&self.decoy, of.as_str())
    }

    /// How they are stored.
    pub fn to_record(&self) -> SecretsRecord {
        SecretsRecord { decoy: BASE64.encode(self.decoy), cursor: BASE64.encode(self.cursor) }
    }

    /// Reads them back.
    pub fn from_record(record: &SecretsRecord) -> Option<Secrets> {
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        Some(Secrets::of(key(&record.decoy)?, key(&record.cursor)?))
    }

    /// The cursor behind item `seq` of `owner`'s log: opaque, the same each time, worthless in
    /// any other log or store.
    pub fn seal_cursor(&self, owner: &Address, store: [u8; 16], seq: u64) -> Bytes {
        let mut sealed = seq.to_be_bytes().to_vec();
        // One nonce for all: the cipher is resistant to that, and equal positions are to give
        // equal cursors. Encrypting eight bytes does not fail.
        let is_sealed = self.cipher.as_ref().is_some_and(|cipher| {
            let aad = Aad::from(associated(owner, store));
            cipher.seal_in_place_append_tag(nonce(), aad, &mut sealed).is_ok()
        });
        if is_sealed { sealed.into() } else { Bytes::new() }
    }

    /// The position that a cursor of this owner and store stands for.
    pub fn open_cursor(&self, owner: &Address, store: [u8; 16], cursor: &[u8]) -> Option<u64> {
        let (mut sealed, aad) = (cursor.to_vec(), Aad::from(associated(owner, store)));
        let opened = self.cipher.as_ref()?.open_in_place(nonce(), aad, &mut sealed).ok()?;
        Some(u64::from_be_bytes((&*opened).try_into().ok()?))
    }

    fn of(decoy: [u8; 32], cursor: [u8; 32]) -> Secrets {
        let key = UnboundKey::new(&AES_256_GCM_SIV, &cursor);
        let cipher = key.ok().map(|key| Arc::new(LessSafeKey::new(key)));
        Secrets { decoy, cursor, cipher }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn associated(owner: &Address, store: [u8; 16]) -> Vec<u8> {
    [&store[..], owner.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients keep cursors for years: whatever seals them, they are AES-256-GCM-SIV (RFC 8452) with a
    /// nonce of zeros. This one is by another implementation.
    #[test]
    fn cursors_stay_what_they_are() {
        let secrets = Secrets::of([0; 32], [2; 32]);
        let cursor = "2f07de4182bd49838345487850afb4fd1493d8cd642b85e4";
        let sealed = secrets.seal_cursor(&"alice@a.example".parse().unwrap(), [1; 16], 7);
        assert_eq!(format!("{sealed:x}"), cursor);
    }

    #[test]
    fn e5_a_forged_or_foreign_cursor_opens_nothing() {
        let secrets = Secrets::random(&crate::core::chance::System).unwrap();
        let (alice, bob) = ("alice@a.example".parse().unwrap(), "bob@a.example".parse().unwrap());
        let cursor = secrets.seal_cursor(&alice, [1; 16], 7);
        assert_eq!(secrets.open_cursor(&alice, [1; 16], &cursor), Some(7));
        assert_eq!(cursor, secrets.seal_cursor(&alice, [1; 16], 7));
        assert_eq!(secrets.open_cursor(&bob, [1; 16], &cursor), None);
        assert_eq!(secrets.open_cursor(&alice, [2; 16], &cursor), None);
        for index in 0..cursor.len() {
            let mut forged = cursor.to_vec();
            forged[index] ^= 1;
            assert_eq!(secrets.open_cursor(&alice, [1; 16], &forged), None);
            assert_eq!(secrets.open_cursor(&alice, [1; 16], &cursor[..index]), None);
        }
    }
}
