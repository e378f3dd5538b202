//! The text forms of limits: `10/s burst 50, 1000/h, quota 100000 monthly`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limit::{LimitError, Limits, Quota, RateLimit, Refill};

/// Microseconds of each unit, the largest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Digits and nothing else: no sign, no white space.
fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

fn small(text: &str) -> Option<u32> {
    number(text).and_then(|number| number.try_into().ok())
}

/// `15min`, or `min` for one.
fn span(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, name) = text.split_at_checked(digits)?;
    let count = if count.is_empty() { 1 } else { number(count)? };
    let (_, micros) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    count.checked_mul(*micros).map(Duration::from_micros)
}

/// The count and the largest unit of which the span is a multiple.
fn parts(span: Duration) -> (u128, &'static str) {
    let micros = span.as_micros();
    let whole = UNITS.iter().find(|(_, unit)| micros.is_multiple_of(u128::from(*unit)));
    whole.map_or((micros, "us"), |(name, unit)| (micros / u128::from(*unit), name))
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = parts(self.span());
        match count {
            1 => write!(f, "{}/{unit}", self.uses())?,
            _ => write!(f, "{}/{count}{unit}", self.uses())?,
        }
        if self.burst() == self.uses() { Ok(()) } else { write!(f, " burst {}", self.burst()) }
    }
}

impl FromStr for RateLimit {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        const SYNTAX: LimitError = LimitError::Syntax { form: "60/min or 10/s burst 50" };
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(small(burst).ok_or(SYNTAX)?)),
            None => (text, None),
        };
        let (uses, per) = rate.split_once('/').ok_or(SYNTAX)?;
        let limit = Self::per(small(uses).ok_or(SYNTAX)?, span(per).ok_or(SYNTAX)?)?;
        burst.map_or(Ok(limit), |burst| limit.with_burst(burst))
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.uses())?;
        match self.refill() {
            Refill::Never => f.write_str("once")?,
            Refill::Daily => f.write_str("daily")?,
            Refill::Monthly => f.write_str("monthly")?,
            Refill::Every(span) => {
                let (count, unit) = parts(span);
                write!(f, "every {count}{unit}")?;
            }
        }
        if self.has_usual_lease() { Ok(()) } else { write!(f, " lease {}", self.lease()) }
    }
}

impl FromStr for Quota {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        const SYNTAX: LimitError =
            LimitError::Syntax { form: "500 daily, 500 monthly, 500 every 7d or 500 once" };
        let (quota, lease) = match text.split_once(" lease ") {
            Some((quota, lease)) => (quota, Some(number(lease).ok_or(SYNTAX)?)),
            None => (text, None),
        };
        let (uses, refill) = quota.split_once(' ').ok_or(SYNTAX)?;
        let refill = match refill {
            "once" => Refill::Never,
            "daily" => Refill::Daily,
            "monthly" => Refill::Monthly,
            other => Refill::Every(other.strip_prefix("every ").and_then(span).ok_or(SYNTAX)?),
        };
        let quota = Self::new(number(uses).ok_or(SYNTAX)?, refill)?;
        lease.map_or(Ok(quota), |lease| quota.with_lease(lease))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.rates().iter().map(RateLimit::to_string);
        let quota = self.quota().map(|quota| format!("quota {quota}"));
        let all: Vec<_> = rates.chain(quota).collect();
        f.pad(if all.is_empty() { "none".to_owned() } else { all.join(", ") }.as_str())
    }
}

impl FromStr for Limits {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        const SYNTAX: LimitError =
            LimitError::Syntax { form: "10/s burst 50, 1000/h, quota 100000 monthly, or none" };
        const LONGEST: usize = 1_024;
        match text {
            "none" => return Ok(Self::NONE),
            text if text.len() > LONGEST => return Err(SYNTAX),
            _ => {}
        }
        let (mut rates, mut quota) = (Vec::new(), None);
        for part in text.split(',').map(str::trim) {
            match part.strip_prefix("quota ") {
                Some(part) if quota.is_none() => quota = Some(part.parse()?),
                Some(_) => return Err(SYNTAX),
                None => rates.push(part.parse()?),
            }
        }
        let limits = Self::new(rates)?;
        Ok(quota.map_or(limits.clone(), |quota| limits.with_quota(quota)))
    }
}
