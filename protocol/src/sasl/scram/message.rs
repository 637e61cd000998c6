//! The grammar of SCRAM's four messages (RFC 5802, section 7).
//!
//! Here texts become parts that keep to the grammar and the limits; what the parts mean for an
//! exchange is left to the machines.

use base64::Engine;
use zeroize::Zeroizing;

use super::keys::{KEY_BYTES, Key};
use super::{BASE64, Iterations, NAME_BYTES_MAX, NONCE_BYTES_MAX, SALT_BYTES_MAX};
use crate::sasl::{AuthError, message_text, within};

/// What the client says about channel binding (`gs2-cbind-flag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag<'a> {
    /// `n`: the client cannot bind.
    Unable,
    /// `y`: the client can, but saw no offer of it.
    NotOffered,
    /// `p=`: bound, by this type of binding.
    Bound(&'a str),
}

/// `client-first-message`.
#[derive(Debug)]
pub(super) struct ClientFirst<'a> {
    pub flag: Flag<'a>,
    pub authzid: Option<String>,
    pub authcid: String,
    pub nonce: &'a str,
    /// As sent, with its last comma: the client repeats it in `c=`.
    pub gs2_header: &'a str,
    /// `client-first-message-bare`, as sent: it is signed.
    pub bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<ClientFirst<'a>, AuthError> {
        let text = message_text(message)?;
        let no_header = AuthError::Malformed { what: "GS2 header" };
        let (flag, rest) = text.split_once(',').ok_or(no_header)?;
        let (authzid, bare) = rest.split_once(',').ok_or(no_header)?;
        let gs2_header = text.strip_suffix(bare).ok_or(no_header)?;
        let flag = match flag {
            "n" => Flag::Unable,
            "y" => Flag::NotOffered,
            _ => Flag::Bound(flag.strip_prefix("p=").ok_or(no_header)?),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(authzid.strip_prefix("a=").ok_or(no_header)?)?),
        };
        let mut attributes = Attributes::of(bare);
        let authcid = unescape(attributes.next('n')?)?;
        let nonce = attributes.next('r')?;
        within("nonce", nonce.len(), NONCE_BYTES_MAX)?;
        printable(nonce)?;
        attributes.end()?;
        Ok(ClientFirst { flag, authzid, authcid, nonce, gs2_header, bare })
    }
}

/// `server-first-message`.
#[derive(Debug)]
pub(super) struct ServerFirst<'a> {
    pub text: &'a str,
    pub nonce: &'a str,
    pub salt: Vec<u8>,
    pub iterations: Iterations,
}

impl<'a> ServerFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<ServerFirst<'a>, AuthError> {
        let text = message_text(message)?;
        let mut attributes = Attributes::of(text);
        let nonce = both_nonces(attributes.next('r')?)?;
        let salt = BASE64
            .decode(attributes.next('s')?)
            .map_err(|_| AuthError::Malformed { what: "salt" })?;
        within("salt", salt.len(), SALT_BYTES_MAX)?;
        if salt.is_empty() {
            return Err(AuthError::Malformed { what: "salt" });
        }
        let iterations = count(attributes.next('i')?)?;
        attributes.end()?;
        Ok(ServerFirst { text, nonce, salt, iterations })
    }
}

/// `client-final-message`.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    /// In base64, as sent.
    pub binding: &'a str,
    pub nonce: &'a str,
    pub proof: Key,
    /// `client-final-message-without-proof`, as sent: it is signed.
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<ClientFinal<'a>, AuthError> {
        let text = message_text(message)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(AuthError::Malformed { what: "no proof" })?;
        let proof = key(proof)?;
        let mut attributes = Attributes::of(without_proof);
        let binding = attributes.next('c')?;
        let nonce = both_nonces(attributes.next('r')?)?;
        attributes.end()?;
        Ok(ClientFinal { binding, nonce, proof, without_proof })
    }
}

/// `server-final-message`.
#[derive(Debug)]
pub(super) enum ServerFinal {
    /// `v=`: the server's signature.
    Signature(Key),
    /// `e=`: the server refuses, with a word of which nothing depends.
    Refusal,
}

impl ServerFinal {
    pub(super) fn parse(message: &[u8]) -> Result<ServerFinal, AuthError> {
        let text = message_text(message)?;
        let letter = if text.starts_with("e=") { 'e' } else { 'v' };
        let mut attributes = Attributes::of(text);
        let value = attributes.next(letter)?;
        attributes.end()?;
        if letter == 'e' {
            Ok(ServerFinal::Refusal)
        } else {
            key(value).map(ServerFinal::Signature)
        }
    }
}

/// Writes a name with `=` and `,` escaped (`saslname`).
pub(super) fn escape(name: &str) -> Result<String, AuthError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(AuthError::Malformed { what: "user name" });
    }
    let escaped = name.replace('=', "=3D").replace(',', "=2C");
    within("user name", escaped.len(), NAME_BYTES_MAX)?;
    Ok(escaped)
}

/// Checks a nonce's characters (`printable`).
pub(super) fn printable(nonce: &str) -> Result<(), AuthError> {
    if !nonce.is_empty() && nonce.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
        Ok(())
    } else {
        Err(AuthError::Malformed { what: "nonce" })
    }
}

fn unescape(name: &str) -> Result<String, AuthError> {
    within("user name", name.len(), NAME_BYTES_MAX)?;
    let mut pieces = name.split('=');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (letter, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(AuthError::Malformed { what: "escape in a user name" }),
        };
        plain.push(letter);
        plain.push_str(rest);
    }
    if plain.is_empty() { Err(AuthError::Malformed { what: "user name" }) } else { Ok(plain) }
}

fn both_nonces(nonce: &str) -> Result<&str, AuthError> {
    within("nonce", nonce.len(), 2 * NONCE_BYTES_MAX)?;
    printable(nonce)?;
    Ok(nonce)
}

fn count(digits: &str) -> Result<Iterations, AuthError> {
    let malformed = AuthError::Malformed { what: "iteration count" };
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed);
    }
    Iterations::new(digits.parse().map_err(|_| malformed)?)
}

fn key(base64: &str) -> Result<Key, AuthError> {
    let malformed = AuthError::Malformed { what: "proof or signature" };
    let bytes = Zeroizing::new(BASE64.decode(base64).map_err(|_| malformed)?);
    let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| malformed)?;
    Ok(Key::from_bytes(bytes))
}

/// The `x=value` parts of a message, in order.
struct Attributes<'a> {
    parts: std::str::Split<'a, char>,
}

impl<'a> Attributes<'a> {
    fn of(text: &'a str) -> Attributes<'a> {
        Attributes { parts: text.split(',') }
    }

    /// The value of the next part, which must be of that letter.
    fn next(&mut self, letter: char) -> Result<&'a str, AuthError> {
        let (found, value) = self.parts.next().and_then(attribute).ok_or(NOT_AN_ATTRIBUTE)?;
        match found {
            'm' => Err(AuthError::Extension),
            _ if found == letter => Ok(value),
            _ => Err(AuthError::Malformed { what: "attribute missing or out of order" }),
        }
    }

    /// Passes over optional extensions, whose letters must be none that has a meaning: a second
    /// nonce or name is refused, not read as either of the two.
    fn end(self) -> Result<(), AuthError> {
        for part in self.parts {
            match attribute(part).ok_or(NOT_AN_ATTRIBUTE)? {
                ('m', _) => return Err(AuthError::Extension),
                (letter, _) if "anrcsipve".contains(letter) => {
                    return Err(AuthError::Malformed { what: "attribute twice or out of place" });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn attribute(part: &str) -> Option<(char, &str)> {
    let (letter, value) = part.split_once('=')?;
    let mut letters = letter.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii_alphabetic() && !value.is_empty() => {
            Some((letter, value))
        }
        _ => None,
    }
}

const NOT_AN_ATTRIBUTE: AuthError = AuthError::Malformed { what: "not an attribute" };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_first_message_falls_into_its_parts() {
        let first = ClientFirst::parse(b"p=tls-exporter,a=a@x,n=b=2C=3Dc@x,r=n+/=,x=y").unwrap();
        assert_eq!(first.flag, Flag::Bound("tls-exporter"));
        assert_eq!(first.authzid.as_deref(), Some("a@x"));
        assert_eq!(first.authcid, "b,=c@x");
        assert_eq!(first.nonce, "n+/=");
        assert_eq!(first.gs2_header, "p=tls-exporter,a=a@x,");
        assert_eq!(first.bare, "n=b=2C=3Dc@x,r=n+/=,x=y");
    }

    #[test]
    fn bad_client_first_messages_are_refused() {
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=u,r=a",
            "F,n,,n=u,r=a",
            "p,,n=u,r=a",
            "n,a,n=u,r=a",
            "n,b=c,n=u,r=a",
            "n,a=,n=u,r=a",
            "n,,n=,r=a",
            "n,,n=u",
            "n,,n=u,",
            "n,,n=u,r=",
            "n,,r=a,n=u",
            "n,,n=u=,r=a",
            "n,,n=u=2c,r=a",
            "n,,n=u=4D,r=a",
            "n,,n=u,r=\u{e9}",
            "n,,n=u,r=a b",
            "n,,n=u\0,r=a",
            "n,,n=u\n,r=a",
            "n,,n=u,r=a,",
            "n,,n=u,r=a,x",
            "n,,n=u,r=a,xx=1",
            "n,,n=u,r=a,r=b",
            "n,,n=u,r=a,n=v",
        ] {
            let parsed = ClientFirst::parse(message.as_bytes());
            assert!(matches!(parsed, Err(AuthError::Malformed { .. })), "{message:?}: {parsed:?}");
        }
        for message in ["n,,m=x,n=u,r=a", "n,,n=u,m=x,r=a", "n,,n=u,r=a,m=x"] {
            let parsed = ClientFirst::parse(message.as_bytes());
            assert_eq!(parsed.err(), Some(AuthError::Extension), "{message}");
        }
        for message in [
            format!("n,,n=u,r={}", "a".repeat(97)),
            format!("n,,n={},r=a", "u".repeat(449)),
            format!("n,a={},n=u,r=a", "u".repeat(449)),
            format!("n,,n=u,r=a,x={}", "y".repeat(1024)),
        ] {
            let parsed = ClientFirst::parse(message.as_bytes());
            assert!(matches!(parsed, Err(AuthError::TooLong { .. })), "{parsed:?}");
        }
    }

    #[test]
    fn bad_server_first_messages_are_refused() {
        assert!(ServerFirst::parse(b"r=ab,s=AAAA,i=4096,x=y").is_ok());
        for message in [
            "",
            "r=ab,s=AAAA",
            "r=a b,s=AAAA,i=4096",
            "r=ab,s=,i=4096",
            "r=ab,s=A,i=4096",
            "r=ab,s=AAAA,i=",
            "r=ab,s=AAAA,i=04096",
            "r=ab,s=AAAA,i=+4096",
            "r=ab,s=AAAA,i=4294967296",
            "r=ab,s=AAAA,i=4096,i=5000",
        ] {
            let parsed = ServerFirst::parse(message.as_bytes());
            assert!(matches!(parsed, Err(AuthError::Malformed { .. })), "{message:?}: {parsed:?}");
        }
        for got in [1, 4_095, 1_000_001, u32::MAX] {
            let parsed = ServerFirst::parse(format!("r=ab,s=AAAA,i={got}").as_bytes()).err();
            assert_eq!(parsed, Some(AuthError::Iterations { got }));
        }
        for message in [
            format!("r=ab,s={},i=4096", BASE64.encode([0; 65])),
            format!("r={},s=AAAA,i=4096", "a".repeat(193)),
        ] {
            let parsed = ServerFirst::parse(message.as_bytes());
            assert!(matches!(parsed, Err(AuthError::TooLong { .. })));
        }
        assert_eq!(ServerFirst::parse(b"m=x,r=ab").err(), Some(AuthError::Extension));
    }

    #[test]
    fn bad_final_messages_are_refused() {
        let proof = BASE64.encode([1; 32]);
        assert!(ClientFinal::parse(format!("c=biws,r=ab,x=y,p={proof}").as_bytes()).is_ok());
        for message in [
            "c=biws,r=ab".to_owned(),
            "c=biws,r=ab,p=".to_owned(),
            format!("c=biws,r=ab,p={},x=y", proof),
            format!("c=biws,r=ab,p={}", &proof[1..]),
            format!("c=biws,r=ab,p={}", BASE64.encode([1; 31])),
            format!("c=biws,r=ab,p={}", BASE64.encode([1; 33])),
            format!("c=biws,p={proof}"),
            format!("c=biws,r=ab,p={proof},p={proof}"),
        ] {
            let parsed = ClientFinal::parse(message.as_bytes());
            assert!(matches!(parsed, Err(AuthError::Malformed { .. })), "{message:?}: {parsed:?}");
        }
        assert!(matches!(ServerFinal::parse(b"e=other-error"), Ok(ServerFinal::Refusal)));
        for message in ["", "v=", "v=AAAA", "e=", "x=y"] {
            assert!(ServerFinal::parse(message.as_bytes()).is_err(), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_name_survives_its_escapes(name in "[\\PC=,]{1,64}") {
            if let Ok(escaped) = escape(&name) {
                prop_assert!(!escaped.contains(','));
                prop_assert_eq!(unescape(&escaped), Ok(name));
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
            let _ = ClientFirst::parse(&bytes);
            let _ = ServerFirst::parse(&bytes);
            let _ = ClientFinal::parse(&bytes);
            let _ = ServerFinal::parse(&bytes);
        }

        #[test]
        fn any_text_of_the_alphabet_is_a_message_or_an_error(text in "[nypamrcsive=,A23CDé\0]{0,40}") {
            let _ = ClientFirst::parse(text.as_bytes());
            let _ = ServerFirst::parse(text.as_bytes());
            let _ = ClientFinal::parse(text.as_bytes());
            let _ = ServerFinal::parse(text.as_bytes());
        }
    }
}
