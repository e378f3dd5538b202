//! `Timestamp`: microseconds since the Unix epoch, and the arithmetic that refuses to overflow.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// Always between 1970 and the end of the year 9999, so that each value has an RFC 3339 form and fits the
/// integers that a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Timestamp(i64);

/// A time lies outside the years 1970 to 9999, or is not in the RFC 3339 form.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// The result would lie before 1970 or after the year 9999; use a nearer date or a shorter duration.
    #[error("the time lies outside the years 1970 to 9999; use a nearer date or a shorter duration")]
    OutOfRange,
    /// The text is not an RFC 3339 date and time such as `2027-01-01T00:00:00Z`.
    #[error("not an RFC 3339 date and time such as 2027-01-01T00:00:00Z")]
    Syntax,
}

crate::text::debug_as_told!(TimeError);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// The time that many microseconds after the Unix epoch.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] before 1970 or after the year 9999.
    pub const fn from_unix_micros(micros: i64) -> Result<Self, TimeError> {
        if micros < Self::MIN.0 || micros > Self::MAX.0 {
            Err(TimeError::OutOfRange)
        } else {
            Ok(Self(micros))
        }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// `self + span`; microseconds are kept, finer parts of the span are dropped.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] past the year 9999.
    pub fn plus(self, span: Duration) -> Result<Self, TimeError> {
        let span = i64::try_from(span.as_micros()).map_err(|_| TimeError::OutOfRange)?;
        Self::from_unix_micros(self.0.checked_add(span).ok_or(TimeError::OutOfRange)?)
    }

    /// `self - span`, or 1970 when that lies earlier.
    #[must_use]
    pub fn minus_or_min(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(span).max(Self::MIN.0))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// A system time held inside the years 1970 to 9999: what lies outside becomes the nearer end.
    #[must_use]
    pub fn saturating_from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(span) => Self::MIN.plus(span).unwrap_or(Self::MAX),
            Err(_) => Self::MIN,
        }
    }
}

impl TryFrom<i64> for Timestamp {
    type Error = TimeError;
    fn try_from(micros: i64) -> Result<Self, TimeError> {
        Self::from_unix_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(time: Timestamp) -> Self {
        time.0
    }
}

impl TryFrom<OffsetDateTime> for Timestamp {
    type Error = TimeError;
    fn try_from(time: OffsetDateTime) -> Result<Self, TimeError> {
        let micros = time.unix_timestamp_nanos().div_euclid(1_000);
        Self::from_unix_micros(i64::try_from(micros).map_err(|_| TimeError::OutOfRange)?)
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(time: Timestamp) -> Self {
        Self::from_unix_timestamp_nanos(i128::from(time.0) * 1_000).unwrap_or(Self::UNIX_EPOCH)
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = TimeError;
    fn try_from(time: SystemTime) -> Result<Self, TimeError> {
        Self::MIN.plus(time.duration_since(UNIX_EPOCH).map_err(|_| TimeError::OutOfRange)?)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + time.since(Timestamp::MIN)
    }
}

/// RFC 3339 in UTC, such as `2027-01-01T00:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&OffsetDateTime::from(*self).format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimeError::Syntax)?.try_into()
    }
}

/// The earlier of two optional deadlines, where none means never.
pub(crate) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_and_reads_as_rfc_3339() {
        for text in ["2027-01-01T00:00:00Z", "2038-01-19T03:14:08Z", "9999-12-31T23:59:59.999999Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        assert_eq!("2027-01-01T02:00:00+02:00".parse(), "2027-01-01T00:00:00Z".parse::<Timestamp>());
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimeError::Syntax));
        assert_eq!("1969-12-31T23:59:59Z".parse::<Timestamp>(), Err(TimeError::OutOfRange));
    }

    #[test]
    fn arithmetic_past_the_year_9999_is_an_error_and_never_wraps() {
        assert_eq!(Timestamp::MAX.plus(Duration::from_micros(1)), Err(TimeError::OutOfRange));
        assert_eq!(Timestamp::MIN.plus(Duration::MAX), Err(TimeError::OutOfRange));
        assert_eq!(Timestamp::MIN.minus_or_min(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::from_unix_micros(-1), Err(TimeError::OutOfRange));
        assert_eq!(Timestamp::MAX.plus(Duration::from_nanos(999)), Ok(Timestamp::MAX));
    }

    #[test]
    fn conversions_keep_the_microsecond() {
        let t = Timestamp::from_unix_micros(4_102_444_800_000_001).unwrap();
        assert_eq!(Timestamp::try_from(OffsetDateTime::from(t)), Ok(t));
        assert_eq!(Timestamp::try_from(SystemTime::from(t)), Ok(t));
        assert_eq!(Timestamp::saturating_from(SystemTime::from(t)), t);
    }

    #[test]
    fn serde_refuses_what_no_timestamp_can_be() {
        assert!(serde_json::from_str::<Timestamp>("-1").is_err());
        assert_eq!(serde_json::to_string(&Timestamp::MAX).unwrap(), "253402300799999999");
    }
}
