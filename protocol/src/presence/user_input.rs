//! What the field `user-input` says: whether somebody uses the device or service, after how long
//! without input it counts as idle, and when there was input last (RFC 4480 3.14).
//!
//! Who may know how much of it is left to the access rules.

use std::fmt;

use crate::time::Timestamp;

const THRESHOLD: &str = "idle-threshold=";
const LAST: &str = "last-input=";

/// `active` or `idle`, then what else is known, in this order, each behind one space:
/// `idle-threshold=SECONDS`, `last-input=TIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserInput {
    /// Whether there was none for longer than the threshold.
    pub idle: bool,
    /// So many seconds without input make it idle.
    pub idle_threshold: Option<u32>,
    /// When there was input last.
    pub last_input: Option<Timestamp>,
}

impl UserInput {
    /// Reads a value; `None` for a text of another form, which the field may hold too.
    pub fn parse(value: &str) -> Option<UserInput> {
        let mut words = value.split(' ').peekable();
        let idle = match words.next()? {
            "active" => false,
            "idle" => true,
            _ => return None,
        };
        let seconds = words.peek().and_then(|word| word.strip_prefix(THRESHOLD));
        let idle_threshold = match seconds {
            Some(seconds) if seconds.bytes().all(|b| b.is_ascii_digit()) => {
                words.next();
                Some(seconds.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        let last_input = match words.next() {
            Some(word) => Some(Timestamp::parse(word.strip_prefix(LAST)?)?),
            None => None,
        };
        words.next().is_none().then_some(UserInput { idle, idle_threshold, last_input })
    }
}

impl fmt::Display for UserInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.idle { "idle" } else { "active" })?;
        if let Some(seconds) = self.idle_threshold {
            write!(f, " {THRESHOLD}{seconds}")?;
        }
        match self.last_input {
            Some(time) => write!(f, " {LAST}{time}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for value in [
            "active",
            "idle",
            "idle idle-threshold=600",
            "active last-input=2026-01-01T00:00:00Z",
            "idle idle-threshold=0 last-input=2026-01-01T00:00:00Z",
        ] {
            assert_eq!(
                UserInput::parse(value).map(|input| input.to_string()).as_deref(),
                Some(value)
            );
        }
    }

    #[test]
    fn other_forms_are_none() {
        for value in [
            "",
            "Idle",
            "idle ",
            "idle  idle-threshold=600",
            "idle idle-threshold=+600",
            "idle idle-threshold=",
            "idle idle-threshold=99999999999",
            "idle last-input=2026-01-01T00:00:00Z idle-threshold=600",
            "idle last-input=yesterday",
            "idle since=2026-01-01T00:00:00Z",
        ] {
            assert_eq!(UserInput::parse(value), None, "{value}");
        }
    }
}
