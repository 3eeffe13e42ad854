//! Moments: milliseconds since the Unix epoch, printed and parsed as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Unit;
use jiff::civil::Time;
use jiff::fmt::friendly::{Spacing, SpanPrinter};
use jiff::fmt::temporal::Pieces;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// A moment in UTC with millisecond precision, never before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const ZERO: Timestamp = Timestamp(0);
    /// Later than any other moment; as an upper bound only.
    pub const MAX: Timestamp = Timestamp(u64::MAX);
    /// The last moment that RFC 3339 can write: 9999-12-30T22:00:00Z.
    const LAST: u64 = 253_402_207_200_000;

    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This moment and `span` later; stays at [`Timestamp::MAX`] instead of overflowing.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    /// This moment less `span`; stays at [`Timestamp::ZERO`] instead of underflowing.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this moment lies; zero when it lies before it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads a moment as people write it: RFC 3339, or a date with or without a time, which is taken for UTC.
    ///
    /// # Errors
    /// What is neither, and what [`Timestamp::from_str`] refuses.
    pub fn parse_in_utc(text: &str) -> Result<Self, Invalid> {
        let Ok(pieces) = Pieces::parse(text) else {
            return Err(Invalid::new("not a time such as 2026-01-31 09:30"));
        };
        match pieces.offset().is_none() && pieces.time_zone_annotation().is_none() {
            true => format!("{}Z", pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()))).parse(),
            false => text.parse(),
        }
    }

    fn to_jiff(self) -> jiff::Timestamp {
        let millis = self.0.min(Self::LAST) as i64;
        jiff::Timestamp::from_millisecond(millis).expect("clamped to the years that jiff can hold")
    }

    /// The moment as `YYYY-MM-DD HH:MM:SS` in UTC, the form of source 001's `event_triggered`.
    pub fn to_civil_text(self) -> String {
        self.to_jiff().strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The moment as `YYYY-MM-DD HH:MM:SS.mmm +0000`, the form of the steps in source 002's event history.
    pub fn to_zoned_text(self) -> String {
        self.to_jiff().strftime("%Y-%m-%d %H:%M:%S%.3f +0000").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;

    /// Reads RFC 3339 with any offset. Moments before 1970, and the last day and a half of 9999, are refused.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| {
            // Whoever means "never" writes a time that is well-formed and too late.
            let whole = |pieces: &Pieces<'_>| pieces.time().is_some() && pieces.to_numeric_offset().is_some();
            match Pieces::parse(text).ok().filter(whole) {
                Some(pieces) if pieces.date().year() < 1970 => Invalid::new("lies before 1970"),
                Some(_) => Invalid::new("lies beyond 9999-12-30T22:00:00Z"),
                None => Invalid::new("not an RFC 3339 time such as 2026-01-31T09:30:00Z"),
            }
        })?;
        u64::try_from(moment.as_millisecond()).map(Timestamp).map_err(|_| Invalid::new("lies before 1970"))
    }
}

/// A span of time as people write it: `1h30m`.
pub fn duration_text(duration: Duration) -> String {
    SpanPrinter::new().spacing(Spacing::None).zero_unit(Unit::Second).unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339_and_reads_back() {
        let moment = Timestamp::from_millis(1_705_314_600_123);
        assert_eq!(moment.to_string(), "2024-01-15T10:30:00.123Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2024-01-15T11:30:00.123+01:00".parse(), Ok(moment));
        assert_eq!(moment.to_civil_text(), "2024-01-15 10:30:00");
        assert_eq!(moment.to_zoned_text(), "2024-01-15 10:30:00.123 +0000");
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::ZERO.before(Duration::from_secs(1)), Timestamp::ZERO);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
        assert!(Timestamp::MAX.to_string().starts_with("9999"));
    }

    #[test]
    fn what_people_write_is_taken_for_utc_unless_it_says_otherwise() {
        let moment = "2026-01-31T09:30:00Z".parse::<Timestamp>();
        for text in ["2026-01-31 09:30", "2026-01-31T09:30", "2026-01-31T09:30:00", "2026-01-31T10:30:00+01:00"] {
            assert_eq!(Timestamp::parse_in_utc(text), moment, "{text}");
        }
        assert_eq!(Timestamp::parse_in_utc("2026-01-31"), "2026-01-31T00:00:00Z".parse());
        for text in ["", "yesterday", "09:30", "2026-02-30", "31.01.2026", "1969-12-31", "2026-01-31 25:00"] {
            assert!(Timestamp::parse_in_utc(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in ["", "yesterday", "2024-01-15", "1969-12-31T23:59:59Z", "2024-13-01T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for early in ["-009999-01-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(early.parse::<Timestamp>(), Err(Invalid::new("lies before 1970")), "{early}");
        }
        for never in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999-08:00"] {
            assert_eq!(never.parse::<Timestamp>(), Err(Invalid::new("lies beyond 9999-12-30T22:00:00Z")), "{never}");
        }
    }
}
