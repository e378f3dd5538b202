//! What people write on a command line: spans, dates, and the library's own words.

use std::time::Duration;

use clap::ValueEnum;
use keyrota::{
    Clock as _, Metadata, MetadataError, Prefix, RoleName, SystemClock, TextError, Timestamp, VersionNo,
};

/// Microseconds of each unit that people write, under the name by which it is told first.
const UNITS: [(&[&str], u64); 8] = [
    (&["us"], 1),
    (&["ms"], 1_000),
    (&["s", "sec", "second", "seconds"], 1_000_000),
    (&["min", "m", "minute", "minutes"], 60_000_000),
    (&["h", "hour", "hours"], 3_600_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["w", "week", "weeks"], 604_800_000_000),
    (&["y", "year", "years"], 31_536_000_000_000),
];

/// `90d`, `24h`, `15min`, `2w`, `1y` (365 days), `1d 12h`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a span as 90d, 24h, 15min, 2w, 1y or 1d12h".to_owned();
    let mut rest = text.trim();
    let mut micros = 0_u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let of_unit = |(names, _): &&(&[&str], u64)| names.contains(&unit.to_ascii_lowercase().as_str());
        let (_, scale) = UNITS.iter().find(of_unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
        micros = part.and_then(|part| micros.checked_add(part)).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(micros))
}

/// Days: who is told of weeks and years has to multiply.
const LARGEST_TOLD: u64 = 86_400_000_000;

/// A span as people write it, in its largest units: `90d`, `1d 12h`.
pub(crate) fn told(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (names, scale) in UNITS.iter().rev().filter(|(_, scale)| *scale <= LARGEST_TOLD) {
        if let [name, ..] = names
            && rest >= *scale
        {
            parts.push(format!("{}{name}", rest / scale));
            rest %= scale;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// `2027-03-01`, `2027-03-01 14:30`, `2027-03-01T14:30:00Z`, `now`, `today`, `tomorrow`, `in 3d`, `2w ago`; in UTC.
pub(crate) fn date(text: &str) -> Result<Timestamp, String> {
    date_at(text.trim(), SystemClock.now())
}

fn date_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    const DAY: Duration = Duration::from_secs(86_400);
    let wrong = || {
        "write a date as 2027-03-01, \"2027-03-01 14:30\", 2027-03-01T14:30:00Z, tomorrow, \"in 3d\" or \"2w ago\" (UTC)"
            .to_owned()
    };
    let told = now.to_string();
    let midnight = || told.get(..10).ok_or_else(wrong).and_then(|day| date_at(day, now));
    let later = |from: Timestamp, by: Duration| from.plus(by).map_err(|error| error.to_string());
    match text {
        "now" => return Ok(now),
        "today" => return midnight(),
        "tomorrow" => return later(midnight()?, DAY),
        "yesterday" => return Ok(midnight()?.minus_or_min(DAY)),
        _ => {}
    }
    if let Some(by) = text.strip_prefix("in ") {
        return later(now, span(by)?);
    }
    if let Some(by) = text.strip_suffix(" ago") {
        return Ok(now.minus_or_min(span(by)?));
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{}:00Z", text.replacen(' ', "T", 1)),
        19 => format!("{}Z", text.replacen(' ', "T", 1)),
        _ => text.to_owned(),
    };
    full.parse().map_err(|_| wrong())
}

/// `2` or `v2`.
pub(crate) fn version(text: &str) -> Result<VersionNo, String> {
    let number = text.strip_prefix('v').unwrap_or(text).parse::<u32>();
    number.map(VersionNo::new).map_err(|_| "a version is a number: 2 or v2".to_owned())
}

pub(crate) fn role(text: &str) -> Result<RoleName, TextError> {
    RoleName::new(text)
}

pub(crate) fn prefix(text: &str) -> Result<Prefix, TextError> {
    Prefix::new(text)
}

pub(crate) fn metadata(text: &str) -> Result<Metadata, MetadataError> {
    Metadata::from_json(text)
}

pub(crate) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("say on or off".to_owned()),
    }
}

/// A switch that can also be left to whatever stands above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
    /// As the owner says, or else the deployment.
    Inherit,
}

impl Switch {
    pub(crate) fn word(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Inherit => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let seconds = Duration::from_secs;
        for (text, expected) in [
            ("90d", seconds(90 * 86_400)),
            ("24h", seconds(86_400)),
            ("15min", seconds(900)),
            ("15m", seconds(900)),
            ("2 weeks", seconds(14 * 86_400)),
            ("1y", seconds(365 * 86_400)),
            ("1d12h", seconds(129_600)),
            (" 1d 12h ", seconds(129_600)),
            ("250ms", Duration::from_millis(250)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(span(text), Ok(expected), "{text}");
        }
        for bad in ["", "90", "d", "90 fortnights", "-1d", "1.5h", "99999999999y", "1mo", "1d,2h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_is_told_as_it_could_be_written() {
        for (text, told_as) in
            [("90d", "90d"), ("36h", "1d 12h"), ("5h", "5h"), ("1w90s", "7d 1min 30s"), ("0s", "0s")]
        {
            assert_eq!(told(span(text).unwrap()), told_as);
            assert_eq!(span(told_as), span(text));
        }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        let now = "2027-02-28T13:14:15Z".parse().unwrap();
        for (text, expected) in [
            ("2027-03-01", "2027-03-01T00:00:00Z"),
            ("2027-03-01 14:30", "2027-03-01T14:30:00Z"),
            ("2027-03-01T14:30:05", "2027-03-01T14:30:05Z"),
            ("2027-03-01T14:30:00+02:00", "2027-03-01T12:30:00Z"),
            ("now", "2027-02-28T13:14:15Z"),
            ("today", "2027-02-28T00:00:00Z"),
            ("tomorrow", "2027-03-01T00:00:00Z"),
            ("yesterday", "2027-02-27T00:00:00Z"),
            ("in 1d12h", "2027-03-02T01:14:15Z"),
            ("2w ago", "2027-02-14T13:14:15Z"),
        ] {
            assert_eq!(date_at(text, now).map(|date| date.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for bad in
            ["", "2027-02-30", "28.02.2027", "in", "in 3", "ago", "2027-3-1", "9999999-01-01", "é027-03-01"]
        {
            assert!(date_at(bad, now).is_err(), "{bad}");
        }
    }
}
