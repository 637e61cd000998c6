//! Addresses: `user@domain`, in one canonical form that every comparison, key and rule uses.
//!
//! The user part follows PRECIS UsernameCaseMapped (RFC 8265), the domain IDNA (UTS 46, strict).
//! Which services live behind an address, and whether it exists, is left to the server.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::LazyLock;

use arcstr::ArcStr;
use percent_encoding::percent_decode_str;
use precis_core::profile::Profile;
use precis_profiles::UsernameCaseMapped;
use unicode_security::MixedScript;

/// Longest user part in bytes, after canonicalisation (RFC 5321's local part).
pub const LOCAL_BYTES_MAX: usize = 64;
/// Longest domain in bytes, in its ASCII form (RFC 1035).
pub const DOMAIN_BYTES_MAX: usize = 253;
/// Longest label of a domain in bytes (RFC 1035).
const LABEL_BYTES_MAX: usize = 63;
/// Longest text that is looked at before canonicalisation; longer input is refused unread.
pub const ADDRESS_INPUT_BYTES_MAX: usize = 1024;

/// A domain name in canonical form: lower-case ASCII (A-labels), no trailing dot, no IP literal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(ArcStr);

impl Borrow<str> for Domain {
    /// Its canonical text, by which it is ordered and hashed: so one is found without being made.
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Domain {
    /// Reads a domain in any of its spellings.
    ///
    /// # Errors
    /// [`AddressError`] if it is no domain name, or an IP address.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        if text.len() > ADDRESS_INPUT_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if text.contains("//") {
            return Err(AddressError::Url);
        }
        if text.starts_with('[') || text.contains(':') {
            return Err(AddressError::IpLiteral);
        }
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| AddressError::BadDomain)?;
        if ascii.is_empty() || ascii.ends_with('.') || ascii.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::BadDomain);
        }
        // A numeric last label is what every resolver reads as an IPv4 address.
        let last = ascii.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || is_hex_number(last) {
            return Err(AddressError::IpLiteral);
        }
        Ok(Domain(ascii.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name means the same everywhere: one of a single label, such as localhost, means
    /// something else on each network, so it is in no DNS, has no links, and proves itself to nobody.
    pub fn is_global(&self) -> bool {
        self.0.contains('.')
    }

    /// Whether one of the two is the other, or ends with it by whole labels: who runs the shorter one
    /// gave the longer one away.
    pub fn is_nested_with(&self, other: &Domain) -> bool {
        let (long, short) = match self.0.len() < other.0.len() {
            true => (other, self),
            false => (self, other),
        };
        match long.0.strip_suffix(&*short.0) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

/// A principal's address in canonical form.
///
/// Two spellings of one address are equal; the same text names the presentity (`pres:`) and the
/// instant inbox (`im:`), RFC 3859 and RFC 3860. It is one pointer: most of what a server holds of who
/// follows whom is addresses, each many times over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(ArcStr);

/// Stands for whoever has no name (RFC 3323, 4.1.1.3). `invalid` is no domain that anybody has (RFC 2606).
static ANONYMOUS: LazyLock<Address> =
    LazyLock::new(|| Address("anonymous@anonymous.invalid".into()));

impl Address {
    /// What stands for all who have proven no name, where an address is expected. It is nobody's.
    pub fn anonymous() -> &'static Address {
        &ANONYMOUS
    }

    /// Whether it is that.
    pub fn is_anonymous(&self) -> bool {
        self == Address::anonymous()
    }

    /// Reads `user@domain`, or a `pres:` or `im:` URI of it. Headers of the URI (RFC 3859 and 3860, 3.1)
    /// are no part of the address, and are passed over.
    ///
    /// # Errors
    /// [`AddressError`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.len() > ADDRESS_INPUT_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        match text.split_once(':') {
            Some((scheme, rest)) if is_own_scheme(scheme) => {
                let to = rest.split_once('?').map_or(rest, |(to, _headers)| to);
                let plain = percent_decode_str(to).decode_utf8();
                Address::parse_plain(&plain.map_err(|_| AddressError::BadUser)?)
            }
            _ => Address::parse_plain(text),
        }
    }

    /// Reads an address that must already be in canonical form, as on the wire and in the store.
    ///
    /// # Errors
    /// [`AddressError`] as [`Address::parse`], and [`AddressError::NotCanonical`].
    pub fn parse_canonical(text: &str) -> Result<Address, AddressError> {
        let address = Address::parse_plain(text)?;
        if address.as_str() == text { Ok(address) } else { Err(AddressError::NotCanonical) }
    }

    /// An address made of a user part and a domain.
    ///
    /// # Errors
    /// [`AddressError`] if the user part is none.
    pub fn new(local: &str, domain: &Domain) -> Result<Address, AddressError> {
        let local = canonical_local(local)?;
        Ok(Address(format!("{local}@{}", domain.as_str()).into()))
    }

    fn parse_plain(text: &str) -> Result<Address, AddressError> {
        if text.len() > ADDRESS_INPUT_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressError::NoDomain)?;
        match is_canonical_local(local) && is_canonical_domain(domain) {
            true => Ok(Address(text.into())),
            false => Address::new(local, &Domain::parse(domain)?),
        }
    }

    /// The canonical text, `user@domain`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user part.
    pub fn local(&self) -> &str {
        self.parts().0
    }

    /// The text of the domain part.
    pub fn domain_str(&self) -> &str {
        self.parts().1
    }

    /// Neither part has an `@` of its own.
    fn parts(&self) -> (&str, &str) {
        // Short as they are, looking octet by octet is the fastest.
        let at = self.0.bytes().position(|octet| octet == b'@').unwrap_or(self.0.len());
        (&self.0[..at], self.0.get(at + 1..).unwrap_or_default())
    }

    /// The domain part.
    pub fn domain(&self) -> Domain {
        Domain(self.domain_str().into())
    }
}

/// What is wrong with a text that should be an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than any address can be.
    #[error(
        "longer than {ADDRESS_INPUT_BYTES_MAX} bytes, or than {LOCAL_BYTES_MAX} in its user part"
    )]
    TooLong,
    /// No `@`, or nothing behind it.
    #[error("no domain: expected user@domain")]
    NoDomain,
    /// The user part is empty or breaks RFC 8265.
    #[error("bad user part: expected letters, digits and simple punctuation of one script")]
    BadUser,
    /// The domain part breaks IDNA.
    #[error("bad domain: expected a domain name")]
    BadDomain,
    /// The domain part is an IP address.
    #[error("an IP address is no domain: expected a domain name")]
    IpLiteral,
    /// There is a URL where a name should stand.
    #[error("a URL is no domain: expected the name alone, such as example.com")]
    Url,
    /// Right in meaning, but another spelling than the canonical one.
    #[error("not in canonical form")]
    NotCanonical,
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

impl std::str::FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Domain, AddressError> {
        Domain::parse(text)
    }
}

fn is_own_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("im") || scheme.eq_ignore_ascii_case("pres")
}

fn is_hex_number(label: &str) -> bool {
    label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a user part is canonical as it stands, by its bytes alone: most are, and the tables of
/// Unicode are dear. What it does not know it leaves to [`canonical_local`].
fn is_canonical_local(local: &str) -> bool {
    let is_own = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+');
    (1..=LOCAL_BYTES_MAX).contains(&local.len()) && local.bytes().all(is_own)
}

/// Whether a domain is canonical as it stands, as [`is_canonical_local`]: labels of letters, digits
/// and single hyphens (two are where A-labels begin), the last of which begins with a letter.
fn is_canonical_domain(domain: &str) -> bool {
    let is_own = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_own)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.contains("--")
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.len() <= DOMAIN_BYTES_MAX
        && domain.split('.').all(is_label)
        && last.starts_with(|c: char| c.is_ascii_lowercase())
}

/// RFC 8265 UsernameCaseMapped, less what would make an address ambiguous as text: `@` (it ends
/// the user part), `:` and `/` (schemes, paths), quotes; and less mixed scripts (UTS 39),
/// so that no two accounts look alike by borrowing a letter.
fn canonical_local(local: &str) -> Result<Cow<'_, str>, AddressError> {
    let profile = UsernameCaseMapped::new();
    let canonical = profile.enforce(local).map_err(|_| AddressError::BadUser)?;
    if canonical.len() > LOCAL_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    let stable = profile.enforce(&*canonical).is_ok_and(|again| again == canonical);
    let plain = !canonical.chars().any(|c| matches!(c, '@' | ':' | '/' | '"' | '<' | '>'));
    if stable && plain && canonical.is_single_script() {
        Ok(canonical)
    } else {
        Err(AddressError::BadUser)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> Result<String, AddressError> {
        Address::parse(text).map(|a| a.to_string())
    }

    #[test]
    fn a13_spellings_of_one_address_are_one() {
        for text in [
            "alice@example.com",
            "ALICE@Example.COM",
            "alice@example.com.",
            "pres:alice@example.com",
            "IM:alice@example.com",
            "im:%61lice@example.com",
            "im:alice@example.com?subject=tea",
            "ａｌｉｃｅ@example.com",
            "alice@ｅｘａｍｐｌｅ.com",
            "alice@example。com",
        ] {
            assert_eq!(canonical(text).as_deref(), Ok("alice@example.com"), "{text}");
        }
        assert_eq!(canonical("bob@bücher.example").as_deref(), Ok("bob@xn--bcher-kva.example"));
        assert_eq!(
            canonical("bob@xn--bcher-kva.example").as_deref(),
            Ok("bob@xn--bcher-kva.example")
        );
        assert_eq!(canonical("жанна@example.com").as_deref(), Ok("жанна@example.com"));
    }

    #[test]
    fn a12_a13_bad_addresses_are_refused_in_words() {
        for (text, error) in [
            ("alice", AddressError::NoDomain),
            ("alice@", AddressError::NoDomain),
            ("@example.com", AddressError::BadUser),
            ("a b@example.com", AddressError::BadUser),
            ("a\0b@example.com", AddressError::BadUser),
            ("a\r\nb@example.com", AddressError::BadUser),
            ("al\u{200b}ice@example.com", AddressError::BadUser),
            ("\u{202e}alice@example.com", AddressError::BadUser),
            ("аlice@example.com", AddressError::BadUser),
            ("alice@127.0.0.1", AddressError::IpLiteral),
            ("alice@0x7f000001", AddressError::IpLiteral),
            ("alice@2130706433", AddressError::IpLiteral),
            ("alice@[::1]", AddressError::IpLiteral),
            ("alice@example.com:2778", AddressError::IpLiteral),
            ("alice@exa mple.com", AddressError::BadDomain),
            ("alice@example..com", AddressError::BadDomain),
            ("alice@bob@example.com", AddressError::BadDomain),
            ("alice@-a.example", AddressError::BadDomain),
        ] {
            assert_eq!(canonical(text), Err(error), "{text:?}");
        }
        assert_eq!(
            canonical(&format!("{}@example.com", "a".repeat(65))),
            Err(AddressError::TooLong)
        );
        assert_eq!(canonical(&"a".repeat(2000)), Err(AddressError::TooLong));
        assert!(canonical(&format!("a@{}.com", "b".repeat(64))).is_err());
    }

    #[test]
    fn an_address_is_one_pointer() {
        assert_eq!(size_of::<Address>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Address>>(), size_of::<usize>());
        assert_eq!(size_of::<Domain>(), size_of::<usize>());
    }

    #[test]
    fn domains_are_nested_by_whole_labels() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        for (one, other, nested) in [
            ("example.org", "example.org", true),
            ("people.example.org", "example.org", true),
            ("a.b.example.org", "example.org", true),
            ("badexample.org", "example.org", false),
            ("a.example.org", "b.example.org", false),
            ("example.org", "example.com", false),
            ("org.example", "org", false),
        ] {
            assert_eq!(domain(one).is_nested_with(&domain(other)), nested, "{one} {other}");
            assert_eq!(domain(other).is_nested_with(&domain(one)), nested, "{other} {one}");
        }
    }

    #[test]
    fn only_the_canonical_spelling_passes_on_the_wire() {
        assert!(Address::parse_canonical("alice@example.com").is_ok());
        for text in ["Alice@example.com", "alice@example.com.", "pres:alice@example.com"] {
            assert!(Address::parse_canonical(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point(local in "\\PC{1,12}", domain in "[a-zA-Z0-9.-]{1,20}") {
            if let Ok(address) = Address::parse(&format!("{local}@{domain}")) {
                prop_assert_eq!(Address::parse_canonical(address.as_str()), Ok(address.clone()));
                prop_assert_eq!(format!("{}@{}", address.local(), address.domain()), address.to_string());
            }
        }

        #[test]
        fn what_is_canonical_by_its_bytes_is_so_by_the_tables(
            local in "[a-z0-9._+-]{1,66}|[ -~]{1,6}",
            domain in "([a-z0-9-]{1,8}\\.){0,3}[a-z0-9-]{1,65}|[ -~]{1,8}",
        ) {
            if is_canonical_local(&local) {
                prop_assert_eq!(canonical_local(&local), Ok(Cow::from(&*local)));
            }
            if is_canonical_domain(&domain) {
                prop_assert_eq!(Domain::parse(&domain).map(|d| d.to_string()), Ok(domain));
            }
        }

        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC{0,40}@?\\PC{0,40}") {
            let _ = Address::parse(&text);
        }
    }
}
