//! Points in time as the protocol carries them: milliseconds since the Unix epoch, UTC.
//!
//! Reading the clock is left to the callers.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The largest time that can be written in RFC 3339 (almost the end of the year 9999).
    pub const MAX: Timestamp = Timestamp(253_402_207_200_000);

    /// A time from milliseconds since the epoch, clamped to [`Timestamp::MAX`].
    pub fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis.min(Timestamp::MAX.0))
    }

    /// Milliseconds since the epoch.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Reads RFC 3339, with any offset.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let parsed: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(parsed.as_millisecond()).ok().map(Timestamp::from_millis)
    }

    /// This time plus a duration, clamped.
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.0.saturating_add(millis))
    }

    /// This time minus a duration, not before the epoch.
    #[must_use]
    pub fn before(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }

    /// This time so many milliseconds later, or earlier if they are negative; clamped.
    #[must_use]
    pub fn shifted(self, millis: i64) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_add_signed(millis))
    }

    /// By how many milliseconds this is later than `other`; negative if it is earlier.
    pub fn ahead_of(self, other: Timestamp) -> i64 {
        // No time is later than the end of the year 9999.
        self.0.cast_signed() - other.0.cast_signed()
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(i64::try_from(self.0).unwrap_or(i64::MAX)) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_rfc_3339() {
        let time = Timestamp::parse("2026-12-01T01:02:03.5+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-12-01T00:02:03.5Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("1960-01-01T00:00:00Z"), None);
    }

    #[test]
    fn arithmetic_is_clamped() {
        assert_eq!(Timestamp::from_millis(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(5).before(Duration::from_secs(1)).as_millis(), 0);
        assert_eq!(Timestamp::from_millis(5).shifted(-6).as_millis(), 0);
        assert_eq!(Timestamp::MAX.shifted(i64::MAX), Timestamp::MAX);
        assert_eq!(
            Timestamp::from_millis(5).ahead_of(Timestamp::MAX.shifted(5)),
            5 - 253_402_207_200_000
        );
        assert!(!Timestamp::MAX.to_string().ends_with("ms"));
    }
}
