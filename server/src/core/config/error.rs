//! Errors of the configuration, in words: the file, the line, what is wrong, what to do.

use std::fmt;
use std::path::Path;

use impp_protocol::Domain;
use impp_protocol::sasl::scram::Iterations;
use impp_trust::FileError;
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: the file, and the line if it is known.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error about a file, or one line of it.
    pub fn new(path: &Path, line: Option<usize>, message: String) -> ConfigError {
        let place = match line {
            Some(line) => format!("{}:{line}", path.display()),
            None => path.display().to_string(),
        };
        ConfigError { place, message, hint: None }
    }

    /// What the TOML parser found, with the line, and the nearest key for an unknown one.
    pub fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|span| line_of(text, span.start));
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        // serde says: unknown field `x`, expected one of `a`, `b`
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field")
            && let Some(unknown) = quoted.next()
        {
            let mut found = ConfigError::new(path, line, format!("unknown key \"{unknown}\""));
            found.hint = nearest(unknown, quoted).map(|key| format!("did you mean \"{key}\"?"));
            return found;
        }
        ConfigError::new(path, line, message)
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Its section, and which one of those that can be repeated.
    pub(super) section: (&'static str, usize),
    /// Its name there.
    pub(super) name: &'static str,
    /// What is wrong.
    pub message: String,
}

impl SettingError {
    /// The line on which the setting is, if it is in the text at all.
    pub(super) fn line(&self, text: &str) -> Option<usize> {
        let root = DeTable::parse(text).ok()?;
        let (section, index) = self.section;
        let section = root.get_ref().get(section)?.get_ref();
        let section = match section {
            DeValue::Array(_) => section.get(index)?.get_ref(),
            _ => section,
        };
        Some(line_of(text, section.get(self.name)?.span().start))
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// A file that the configuration names.
impl From<FileError> for ConfigError {
    fn from(FileError { path, message, hint }: FileError) -> ConfigError {
        ConfigError { hint, ..ConfigError::new(&path, None, message) }
    }
}

/// An error of the system, in words.
pub fn plain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|key| (strsim::jaro_winkler(unknown, key), key));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then_some(best.1)
}

/// Reads a domain name of the configuration that may be absent.
pub(super) fn maybe_domain<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Domain>, D::Error> {
    domain(deserializer).map(Some)
}

/// Enough for passwords that people choose.
pub(super) fn iterations_default() -> Iterations {
    Iterations::CHOSEN_PASSWORD
}

/// Reads how often passwords are hashed.
pub(super) fn iterations<'de, D: Deserializer<'de>>(from: D) -> Result<Iterations, D::Error> {
    Iterations::new(u32::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// Reads a domain name of the configuration.
pub(super) fn domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Domain, D::Error> {
    let text = String::deserialize(deserializer)?;
    Domain::parse(&text).map_err(|error| serde::de::Error::custom(format!("\"{text}\": {error}")))
}
