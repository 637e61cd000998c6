//! A password, prepared once at the edge, wiped when dropped, never printed.
//!
//! How good a password must be, and where a random one comes from, is left to the server.

use std::fmt;

use precis_core::profile::Profile;
use precis_profiles::OpaqueString;
use zeroize::Zeroizing;

/// A password in the one form that keys are derived from.
///
/// It is prepared by PRECIS OpaqueString (RFC 8265, section 4.2), where RFC 5802 says SASLprep
/// (RFC 4013), which OpaqueString replaces: SASLprep is frozen at Unicode 3.2 and so refuses
/// every newer character, and it merges characters that users tell apart. For ASCII, and for
/// composed text without compatibility characters, both give the same bytes.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Prepares what the user typed.
    ///
    /// # Errors
    /// [`PasswordError`] if it is empty, too long, or holds what no password may.
    pub fn prepare(text: &str) -> Result<Password, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let prepared = OpaqueString::new().enforce(text).map_err(|_| PasswordError::Character)?;
        Ok(Password(Zeroizing::new(prepared.into_owned())))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why a text is no password. The text itself is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// There is nothing.
    #[error("password is empty")]
    Empty,
    /// It is longer than [`PASSWORD_BYTES_MAX`].
    #[error("password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// It holds a control, invisible or unassigned character.
    #[error("password holds a character that no password may hold")]
    Character,
}

/// Longest password in bytes, as typed.
pub const PASSWORD_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Vec<u8> {
        Password::prepare(text).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn spellings_that_a_user_cannot_tell_apart_are_one_password() {
        assert_eq!(prepared("caf\u{65}\u{301}"), prepared("caf\u{e9}"));
        assert_eq!(prepared("a\u{3000}b"), prepared("a b"));
        assert_ne!(prepared("Secret"), prepared("secret"));
        assert_eq!(prepared("correct horse 🐎"), "correct horse 🐎".as_bytes());
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for (text, error) in [
            ("", PasswordError::Empty),
            ("a\0b", PasswordError::Character),
            ("a\nb", PasswordError::Character),
            ("a\u{200b}b", PasswordError::Character),
        ] {
            assert_eq!(Password::prepare(text).err(), Some(error), "{text:?}");
        }
        assert_eq!(Password::prepare(&"a".repeat(1025)).err(), Some(PasswordError::TooLong));
    }

    #[test]
    fn a_password_is_never_printed() {
        assert_eq!(format!("{:?}", Password::prepare("pencil").unwrap()), "Password(..)");
    }
}
