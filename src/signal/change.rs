//! Whether a key's use has changed sharply, against its own history: a test on the counts of days.
//!
//! A day is compared with the same weekday of up to eight weeks before, so that a weekly shape is no change. Were all
//! requests independent of each other, then, of the requests of today and of those n days together, today's would be
//! binomial with one part in n + 1, whatever the key's true rate: no rate has to be estimated, and a short or a silent
//! history makes the test cautious instead of wrong. Requests do depend on each other, so that days vary more than that:
//! by a factor that is estimated from how much all of those 56 days vary about their weekday's mean, once as a factor
//! and once as one that grows with the mean; the larger counts, and is raised by two standard errors.
//!
//! For a rise all counts are divided by it: as if requests came in crowds of that size. That would make silence as likely
//! as that none of a few crowds comes, however many requests there were; but a key whose days differ by factors is not
//! silent for that. For a fall, therefore, days are taken for those of a rate that differs by factors (gamma), with counts
//! of the same variance (negative binomial).
//!
//! A change is told when that is below [`ODDS`], and, since days can also vary by factors, when it is [`DEVIATIONS`] away on
//! the scale of logarithms, too; when today is outside of all that its weekday has shown; and when the difference is of a
//! size that matters.

/// How many weeks are looked back.
pub(crate) const WEEKS: usize = 8;
/// How many days before the one that is tested are looked at.
pub(crate) const DAYS: usize = 7 * WEEKS;
/// How many weeks of a key's life are needed.
pub(crate) const FEWEST_WEEKS: usize = 4;
/// One false alarm in so many tests of a key that has not changed, at most, where its days vary as it is estimated.
pub(crate) const ODDS: f64 = 1e-7;
/// How many standard deviations of the logarithm from its weekday's mean a day is at least.
const DEVIATIONS: f64 = 4.5;
/// What matters: twice as many, or half, and by so many requests.
const FACTOR: f64 = 2.0;
const DIFFERENCE: f64 = 50.0;

/// How a key's use has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Less,
}

/// The days of a weekday, from the nearest on.
fn of_weekday(before: &[u64], days_ago: usize) -> impl Iterator<Item = f64> + Clone {
    before.iter().skip(days_ago).step_by(7).map(|count| *count as f64)
}

fn mean(days: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = days.clone().count() as f64;
    (days.sum::<f64>() / n.max(1.0), n)
}

/// By what factor days vary more than independent requests would make them, for days of this mean; at least 1.
fn dispersion(before: &[u64], of_mean: f64) -> f64 {
    // Of all weekdays: squares about the mean, relative to it; and what of them the mean does not explain, relative to
    // its square.
    let (mut relative, mut excess, mut squared, mut freedom) = (0.0, 0.0, 0.0, 0.0_f64);
    for weekday in 0..7 {
        let days = of_weekday(before, weekday);
        let (mean, n) = mean(days.clone());
        if n > 1.0 && mean > 0.0 {
            let squares: f64 = days.map(|count| (count - mean).powi(2)).sum();
            relative += squares / mean;
            excess += squares - (n - 1.0) * mean;
            squared += (n - 1.0) * mean * mean;
            freedom += n - 1.0;
        }
    }
    if freedom == 0.0 {
        return 1.0;
    }
    let grows = 1.0 + (excess / squared).max(0.0) * of_mean;
    let raised = 1.0 + 2.0 * (2.0 / freedom).sqrt();
    (relative / freedom).max(grows).max(1.0) * raised
}

/// How many standard deviations a day is away from its weekday's mean, on the scale of logarithms. Weekdays count by how
/// much is used on them: where little is, chance alone makes factors.
fn deviations(today: f64, before: &[u64]) -> f64 {
    let (mut squares, mut freedom, mut of_today) = (0.0, 0.0, (0.0, 0.0));
    for weekday in 0..7 {
        let weight = mean(of_weekday(before, weekday)).0 + 1.0;
        let days = of_weekday(before, weekday).map(f64::ln_1p);
        let (mean, n) = mean(days.clone());
        squares += weight * days.map(|day| (day - mean).powi(2)).sum::<f64>();
        freedom += weight * (n - 1.0).max(0.0);
        if weekday == 6 {
            of_today = (mean, n);
        }
    }
    let (mean, n) = of_today;
    // The mean is not known better than from n days.
    let deviation = (squares / f64::max(freedom, 1.0) * (1.0 + 1.0 / n.max(1.0))).sqrt();
    (today.ln_1p() - mean).abs() / deviation.max(f64::MIN_POSITIVE)
}

/// −ln of Chernoff's bound: how unlikely it is that `part` of `all` fall to what has the probability `p`.
fn surprise(part: f64, all: f64, p: f64) -> f64 {
    let term = |x: f64, expected: f64| if x > 0.0 { x * (x / expected).ln() } else { 0.0 };
    term(part, all * p) + term(all - part, all * (1.0 - p))
}

/// ln of the likelihood ratio between a rate of today's own and one that all days have, for counts whose variance is
/// `scale` times their mean because their rate differs by factors from day to day. By Wilks's theorem the chance of more
/// than x is about that of a normal deviate beyond √(2x), which is less than e⁻ˣ.
fn surprise_of_fall(today: f64, others: f64, n: f64, scale: f64) -> f64 {
    let shape = others / n / (scale - 1.0);
    let term = |count: f64, shape: f64, mean: f64| {
        let of_count = if count > 0.0 { count * (count / mean).ln() } else { 0.0 };
        of_count - (count + shape) * ((count + shape) / (mean + shape)).ln()
    };
    let mean = (today + others) / (n + 1.0);
    term(today, shape, mean) + term(others, n * shape, n * mean)
}

/// Whether a key's use on a day has changed, and how many requests were to be expected. `before` are the days before it,
/// from the nearest on, as far back as the key was there. Of a day that is not over yet, only that it already has too many
/// can be said: its count only grows, so that looking often makes no more false alarms than looking once.
pub(crate) fn change(today: u64, is_over: bool, before: &[u64]) -> Option<(Change, u64)> {
    let before = before.get(..DAYS).unwrap_or(before);
    let same = of_weekday(before, 6);
    let (mean, n) = mean(same.clone());
    if n < FEWEST_WEEKS as f64 {
        return None;
    }
    let today = today as f64;
    let is_more = today >= FACTOR * mean && today - mean >= DIFFERENCE && same.clone().all(|day| day < today);
    let is_less = is_over
        && today * FACTOR <= mean
        && mean - today >= DIFFERENCE
        && same.clone().all(|day| day > today);
    if !is_more && !is_less {
        return None;
    }
    let (scale, others) = (dispersion(before, mean), same.sum::<f64>());
    let surprise = if is_more {
        surprise(today / scale, (today + others) / scale, 1.0 / (n + 1.0))
    } else {
        surprise_of_fall(today, others, n, scale)
    };
    let found = surprise > -ODDS.ln() && deviations(today, before) >= DEVIATIONS;
    found.then_some((if is_more { Change::More } else { Change::Less }, mean.round() as u64))
}

#[cfg(test)]
mod tests;
