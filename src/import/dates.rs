//! Dates as other systems write them.

use crate::time::Timestamp;

/// RFC 3339, the same with a blank or without an offset (then it is UTC), a day, or a number of seconds, milliseconds
/// or microseconds since 1970, told apart by their size; seconds may have a fraction.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        // Eleven digits of seconds last until the year 5138, and so do fourteen of milliseconds.
        let micros = match text.len() {
            ..12 => number.checked_mul(1_000_000)?,
            12..15 => number.checked_mul(1_000)?,
            _ => number,
        };
        return Timestamp::from_unix_micros(micros).ok();
    }
    if let Some((seconds, fraction)) = text.split_once('.')
        && [seconds, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    {
        let digits = format!("{fraction:0<6}");
        let micros = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
        let micros = micros.checked_add(digits.get(..6)?.parse().ok()?)?;
        return Timestamp::from_unix_micros(micros).ok();
    }
    let (day, rest) = text.split_at_checked(10)?;
    let time = rest.trim_start_matches([' ', 'T', 't']);
    let time = if time.is_empty() { "00:00:00" } else { time };
    let clock = time.split(['+', '-', 'Z', 'z']).next().unwrap_or(time).trim_end();
    let offset = time.get(clock.len()..)?.trim();
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let offset = match offset {
        "" => "Z".to_owned(),
        // `+00`, as PostgreSQL writes it, and `+0000`.
        offset => match (offset.len(), offset.split_at_checked(3)) {
            (3, _) => format!("{offset}:00"),
            (5, Some((hours, minutes))) => format!("{hours}:{minutes}"),
            _ => offset.to_owned(),
        },
    };
    format!("{day}T{clock}{seconds}{offset}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_other_systems_are_read() {
        for (text, expected) in [
            ("2027-01-02T03:04:05Z", "2027-01-02T03:04:05Z"),
            ("2027-01-02 03:04:05", "2027-01-02T03:04:05Z"),
            ("2027-01-02 03:04:05.678901+00:00", "2027-01-02T03:04:05.678901Z"),
            ("2027-01-02 03:04:05.5+00", "2027-01-02T03:04:05.5Z"),
            ("2027-01-02T05:04:05+0200", "2027-01-02T03:04:05Z"),
            ("2027-01-02 03:04 Z", "2027-01-02T03:04:00Z"),
            ("2027-01-02", "2027-01-02T00:00:00Z"),
            ("1798858800", "2027-01-02T03:00:00Z"),
            ("1798858800000", "2027-01-02T03:00:00Z"),
            ("1798858800000000", "2027-01-02T03:00:00Z"),
            // As Python's `time.time()` and what keeps it write them.
            ("1798858800.5", "2027-01-02T03:00:00.5Z"),
            ("1798858800.1234567", "2027-01-02T03:00:00.123456Z"),
        ] {
            assert_eq!(parse(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for bad in [
            "",
            "-",
            "soon",
            "02/01/2027",
            "2027-13-01",
            "2027-01-02T25:00:00",
            "-5",
            "5.",
            ".5",
            "1798858800.5.5",
            "99999999999999999.5",
            "99999999999999999999",
            "2027-01-0é",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
