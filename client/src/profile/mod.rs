//! The profile: who one is, how that is proven, and where the server is.
//!
//! Which file it is in is left to `locate`, changing that file to `write`.

mod locate;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use impp_protocol::{Address, DeviceId, PORT};
use serde::Deserialize;

pub use locate::{default_path, locate};
pub use write::{New, create, ensure_device};
pub(crate) use write::{new_device, write_private};

/// Keys of a profile.
const KEYS: &[&str] =
    &["address", "server", "dns", "password", "certificate", "key", "trust", "device"];

/// Longest profile that is read, in bytes.
pub const PROFILE_BYTES_MAX: u64 = 64 * 1024;

/// Who one is.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The account.
    pub address: Address,
    /// Where its server is, host:port; without it where DNS says.
    pub server: Option<String>,
    /// DNS servers to ask; the system's if there are none.
    pub dns: Vec<SocketAddr>,
    /// How one proves to be that.
    pub credentials: Credentials,
    /// A PEM file with the certificates that the server's must lead to; without it the system's.
    pub trust: Option<PathBuf>,
    /// This device, if it has an id yet.
    pub device: Option<DeviceId>,
}

/// What proves that one is the account's owner.
#[derive(Clone)]
pub enum Credentials {
    /// A password, for SCRAM-SHA-256-PLUS.
    Password(String),
    /// A certificate and its key, for EXTERNAL: PEM files.
    Certificate {
        /// The certificate, and those that lead to its root.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Nothing: one proves no name (ANONYMOUS), and may look at presence and follow it alone.
    Nothing,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Password(_) => "Password(..)",
            Credentials::Certificate { .. } => "Certificate(..)",
            Credentials::Nothing => "Nothing",
        })
    }
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ProfileError {
    /// In words, with the file's name.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ProfileError {
    pub(crate) fn new(text: impl Into<String>) -> ProfileError {
        ProfileError { text: text.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ProfileError {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> ProfileError {
        ProfileError::new(format!("cannot {doing} {}: {error}", path.display()))
    }
}

#[derive(Deserialize)]
struct Raw {
    address: String,
    server: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    password: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    trust: Option<PathBuf>,
    device: Option<String>,
}

impl Profile {
    /// Reads the profile in a file.
    ///
    /// # Errors
    /// [`ProfileError`] if it cannot be read, says what it may not, or holds a password that
    /// others can read.
    pub fn load(path: &Path) -> Result<Profile, ProfileError> {
        let fail = |error: std::io::Error| ProfileError::io("read profile", path, &error);
        let data = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fail(error).hint("impp login ADDRESS makes one"),
            _ => fail(error),
        })?;
        if data.len() > PROFILE_BYTES_MAX {
            let text = format!("{}: longer than {PROFILE_BYTES_MAX} bytes", path.display());
            return Err(ProfileError::new(text));
        }
        let text = std::fs::read_to_string(path).map_err(fail)?;
        let profile = Profile::parse(&text, path)?;
        match profile.credentials {
            Credentials::Password(_) => refuse_readable(path, &data).map(|()| profile),
            Credentials::Certificate { .. } | Credentials::Nothing => Ok(profile),
        }
    }

    /// The same machine without a name, at the domain of this presentity: what the profile says of the way
    /// to its own domain does not lead to another.
    #[must_use]
    pub fn without_name(&self, presentity: &Address) -> Profile {
        let same = self.address.domain_str() == presentity.domain_str();
        Profile {
            address: presentity.clone(),
            server: self.server.clone().filter(|_| same),
            credentials: Credentials::Nothing,
            device: None,
            ..self.clone()
        }
    }

    /// Reads a profile's text; `path` is where relative paths start, and what errors name.
    ///
    /// # Errors
    /// [`ProfileError`] naming the line or key that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Profile, ProfileError> {
        let name = path.display();
        let at = |error: &toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ProfileError::new(format!("{name}:{line}: {}", error.message()))
        };
        let table: toml::Table = text.parse().map_err(|error| at(&error))?;
        if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown_key(text, path, unknown));
        }
        let raw: Raw = toml::from_str(text).map_err(|error| at(&error))?;
        let wrong = |key: &str, what: &dyn fmt::Display| {
            ProfileError::new(format!("{name}: {key}: {what}"))
        };
        let beside = |file: PathBuf| path.parent().map_or(file.clone(), |folder| folder.join(file));
        let files = (raw.certificate.map(beside), raw.key.map(beside));
        let credentials = credentials(raw.password, files);
        let credentials = credentials.map_err(|(key, what)| wrong(key, &what))?;
        let device = raw.device.map(|device| device.parse());
        let device = device.transpose().map_err(|error| wrong("device", &error))?;
        let mut dns = Vec::new();
        for server in &raw.dns {
            let expected = || wrong("dns", &format!("{server:?}: expected address:port"));
            dns.push(server.parse().map_err(|_| expected())?);
        }
        Ok(Profile {
            address: Address::parse(&raw.address).map_err(|error| wrong("address", &error))?,
            server: raw.server,
            dns,
            credentials,
            trust: raw.trust.map(beside),
            device,
        })
    }

    /// Where to connect to, host:port, if it is not left to DNS. A domain of a single label is in
    /// no DNS: its server is on its own host, on the default port.
    pub fn server(&self) -> Option<String> {
        match &self.server {
            Some(server) if has_port(server) => Some(server.clone()),
            Some(host) => Some(format!("{host}:{PORT}")),
            None => {
                let domain = self.address.domain();
                (!domain.is_global()).then(|| format!("{domain}:{PORT}"))
            }
        }
    }
}

/// What somebody signs in with: a certificate and its key, or else a password. What is wrong with it, and
/// at which key of the profile.
fn credentials(
    password: Option<String>,
    files: (Option<PathBuf>, Option<PathBuf>),
) -> Result<Credentials, (&'static str, &'static str)> {
    match (password, files) {
        (_, (Some(certificate), Some(key))) => Ok(Credentials::Certificate { certificate, key }),
        (Some(password), (None, None)) => Ok(Credentials::Password(password)),
        (None, (None, None)) => Err(("password", "missing, and no certificate and key instead")),
        (_, (Some(_), None)) => Err(("key", "missing beside certificate")),
        (_, (None, Some(_))) => Err(("certificate", "missing beside key")),
    }
}

/// Whether a port stands behind the host; colons inside brackets are an IPv6 address's.
fn has_port(server: &str) -> bool {
    let host_end = server.rfind(']').unwrap_or(0);
    server[host_end..].contains(':')
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

fn unknown_key(text: &str, path: &Path, key: &str) -> ProfileError {
    let starts = |line: &str| line.trim_start().trim_start_matches(['[', '"']).starts_with(key);
    let line = text.lines().position(starts).map_or(1, |index| index + 1);
    let error = ProfileError::new(format!("{}:{line}: unknown key {key:?}", path.display()));
    let nearest = KEYS.iter().map(|known| (strsim::jaro_winkler(known, key), known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness > 0.8 => error.hint(format!("did you mean {known:?}?")),
        _ => error,
    }
}

#[cfg(unix)]
fn refuse_readable(path: &Path, data: &std::fs::Metadata) -> Result<(), ProfileError> {
    use std::os::unix::fs::PermissionsExt;
    if data.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} holds a password and others may read it", path.display());
    Err(ProfileError::new(text).hint(format!("chmod 600 {}", path.display())))
}

#[cfg(not(unix))]
fn refuse_readable(_: &Path, _: &std::fs::Metadata) -> Result<(), ProfileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, ProfileError> {
        Profile::parse(text, Path::new("/home/a/profiles/alice.toml"))
    }

    #[test]
    fn a_profile_is_read_and_its_paths_are_beside_it() {
        let profile = parse(
            "address = \"Alice@localhost\"\npassword = \"p\"\nserver = \"127.0.0.1:4000\"\n\
             trust = \"../tls/ca.pem\"\ndevice = \"000102030405060708090a0b0c0d0e0f\"\n",
        )
        .unwrap();
        assert_eq!(profile.address.as_str(), "alice@localhost");
        assert_eq!(profile.server().as_deref(), Some("127.0.0.1:4000"));
        assert_eq!(profile.trust.as_deref(), Some(Path::new("/home/a/profiles/../tls/ca.pem")));
        let device = profile.device.unwrap();
        assert_eq!(device.to_string(), "000102030405060708090a0b0c0d0e0f");
        assert!(!format!("{profile:?}").contains("\"p\""));
    }

    #[test]
    fn without_a_server_dns_says_where_it_is_but_of_single_labels() {
        let of = |domain: &str, line: &str| {
            let text = format!("address = \"a@{domain}\"\npassword = \"p\"\n{line}");
            parse(&text).unwrap()
        };
        let server = |line: &str| of("b.example", line).server();
        assert_eq!(server(""), None);
        assert_eq!(of("localhost", "").server().as_deref(), Some("localhost:2778"));
        assert_eq!(server("server = \"host\"").as_deref(), Some("host:2778"));
        assert_eq!(server("server = \"[::1]\"").as_deref(), Some("[::1]:2778"));
        assert_eq!(server("server = \"[::1]:5\"").as_deref(), Some("[::1]:5"));
        let dns = of("b.example", "dns = [\"127.0.0.1:53\", \"[::1]:5353\"]").dns;
        assert_eq!(dns, ["127.0.0.1:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let of = |text: &str| {
            let error = parse(text).unwrap_err();
            (error.text.replace("/home/a/profiles/", ""), error.hint)
        };
        let (text, hint) = of("address = \"a@b.example\"\npasword = \"p\"\n");
        assert_eq!(text, "alice.toml:2: unknown key \"pasword\"");
        assert_eq!(hint.as_deref(), Some("did you mean \"password\"?"));
        assert!(of("address = \"a@b.example\"\n").0.contains("password: missing"));
        assert!(of("address = \"a\"\npassword = \"p\"").0.contains("address: no domain"));
        assert!(of("address = \"a@b\"\ncertificate = \"c\"").0.contains("key: missing"));
        assert!(of("address = \"a@b\"\npassword = \"p\"\ndevice = \"1\"").0.contains("device"));
        let dns = "address = \"a@b\"\npassword = \"p\"\ndns = [\"here\"]";
        assert!(of(dns).0.contains("dns: \"here\": expected address:port"));
        assert!(of("address = \"a@b\"\npassword = 3\n").0.starts_with("alice.toml:2:"));
        assert!(of("\n=\n").0.starts_with("alice.toml:2:"));
    }
}
