//! Synthetic traffic of a year with daily and weekly shape: how often it is called changed, and how soon a change is.
#![allow(clippy::print_stdout, reason = "the numbers that it is about are shown")]

use super::*;

/// Numbers without a pattern.
struct Chance(u64);

impl Chance {
    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut product, mut count) = (self.unit(), 0);
        while product > (-mean).exp() {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// How a key is used.
#[derive(Clone, Copy)]
struct Traffic {
    /// Requests on a day of the week.
    daily: f64,
    /// How much of that there is at the weekend.
    weekend: f64,
    /// By how much days vary, as a standard deviation of the logarithm.
    varies: f64,
    /// How much of a day falls into its busiest eight hours.
    busy: f64,
    /// How much more in a year.
    growth: f64,
}

impl Traffic {
    /// The requests of each hour of a day.
    fn hours(&self, day: usize, chance: &mut Chance) -> [u64; 24] {
        let weekday = if day % 7 < 5 { 1.0 } else { self.weekend };
        let varied = (self.varies * chance.normal() - self.varies * self.varies / 2.0).exp();
        let mean = self.daily * weekday * varied * self.growth.powf(day as f64 / 365.0);
        std::array::from_fn(|hour| {
            let part = if (9..17).contains(&hour) { self.busy / 8.0 } else { (1.0 - self.busy) / 16.0 };
            chance.poisson(mean * part)
        })
    }
}

const KINDS: [Traffic; 7] = [
    Traffic { daily: 5.0, weekend: 1.0, varies: 0.0, busy: 0.33, growth: 1.0 },
    Traffic { daily: 60.0, weekend: 0.1, varies: 0.2, busy: 0.8, growth: 1.0 },
    Traffic { daily: 500.0, weekend: 0.0, varies: 0.3, busy: 0.9, growth: 1.0 },
    Traffic { daily: 3_000.0, weekend: 0.3, varies: 0.1, busy: 0.7, growth: 2.0 },
    Traffic { daily: 20_000.0, weekend: 0.5, varies: 0.5, busy: 0.6, growth: 1.0 },
    Traffic { daily: 100_000.0, weekend: 0.8, varies: 0.2, busy: 0.5, growth: 3.0 },
    Traffic { daily: 1_000_000.0, weekend: 0.2, varies: 0.35, busy: 0.7, growth: 1.0 },
];

/// The days before one, from the nearest on.
fn before(days: &[u64], day: usize) -> Vec<u64> {
    days[..day].iter().rev().take(DAYS).copied().collect()
}

#[test]
fn a_year_of_traffic_that_does_not_change_raises_next_to_no_alarm() {
    let (mut tests, mut alarms) = (0_u64, Vec::new());
    for (kind, traffic) in KINDS.iter().enumerate() {
        for key in 0..40_u64 {
            let mut chance = Chance(0x9E37_79B9 + key * 7_919 + kind as u64 * 104_729);
            (0..20).for_each(|_| _ = chance.unit());
            let days: Vec<u64> = (0..365).map(|day| traffic.hours(day, &mut chance).iter().sum()).collect();
            for day in 7 * FEWEST_WEEKS..days.len() {
                tests += 1;
                let told = change(days[day], true, &before(&days, day));
                alarms.extend(told.map(|told| (kind, key, day, days[day], told)));
            }
        }
    }
    println!("{} false alarms in {tests} days of 280 keys: {alarms:?}", alarms.len());
    assert!(tests > 90_000);
    assert!(alarms.len() <= 1, "{alarms:?}");
}

/// In how many hours a change is found that begins at six in the morning of a day, looking every six hours.
fn found_after(traffic: &Traffic, factor: f64, seed: u64) -> Option<usize> {
    // A weekday: at the weekend there may be nothing to be found.
    let (start, mut chance) = (7 * 20 + (seed % 4) as usize, Chance(seed * 2_654_435_761 + 1));
    (0..20).for_each(|_| _ = chance.unit());
    let mut days: Vec<u64> = Vec::new();
    for day in 0..start + 10 {
        let hours = traffic.hours(day, &mut chance);
        let changed = |hour: usize| day > start || day == start && hour >= 6;
        let hours: Vec<_> = hours
            .iter()
            .enumerate()
            .map(|(hour, n)| if changed(hour) { (*n as f64 * factor).round() as u64 } else { *n })
            .collect();
        if day >= start {
            let before = before(&days, day);
            for look in [6, 12, 18] {
                if change(hours[..look].iter().sum(), false, &before).is_some() {
                    return Some((day - start) * 24 + look - 6);
                }
            }
            if change(hours.iter().sum(), true, &before).is_some() {
                return Some((day - start) * 24 + 18);
            }
        }
        days.push(hours.iter().sum());
    }
    None
}

/// Of 40 keys of a kind: how many are found within so many hours, and the hours of the middle one.
fn found_within(kind: usize, factor: f64, hours: usize) -> usize {
    let mut found: Vec<_> =
        (1..=40).map(|seed| found_after(&KINDS[kind], factor, seed).unwrap_or(usize::MAX)).collect();
    found.sort_unstable();
    let count = found.iter().filter(|found| **found <= hours).count();
    let median = Some(found[19]).filter(|median| *median < usize::MAX);
    println!("traffic {kind} times {factor}: {count} of 40 within {hours} h, half of them after {median:?}");
    count
}

#[test]
fn a_key_that_is_used_ten_times_as_much_is_found_within_a_day_and_an_even_one_also_by_three_times_as_much() {
    for (kind, factor) in [(1, 10.0), (2, 10.0), (3, 10.0), (5, 10.0), (3, 3.0)] {
        assert_eq!(found_within(kind, factor, 24), 40, "traffic {kind} times {factor}");
    }
    // Days that differ by a third, or by a half.
    for (kind, factor, fewest) in [(6, 10.0, 28), (4, 10.0, 5), (4, 30.0, 24)] {
        assert!(found_within(kind, factor, 24) >= fewest, "traffic {kind} times {factor}");
    }
}

/// A fall is known of a whole day only: at the end of the first one, or of the next.
#[test]
fn a_key_that_falls_silent_is_found_within_two_days_however_its_days_vary_and_an_even_one_also_by_a_third() {
    for (kind, factor, fewest) in [
        (1, 0.0, 32),
        (2, 0.0, 32),
        (3, 0.0, 40),
        (4, 0.0, 32),
        (5, 0.0, 40),
        (6, 0.0, 32),
        (3, 0.1, 40),
        (5, 0.1, 20),
        (3, 0.3, 32),
    ] {
        assert!(found_within(kind, factor, 48) >= fewest, "traffic {kind} times {factor}");
    }
    // What cannot be seen: too little is used, or its days differ by as much themselves.
    for (kind, factor) in [(0, 0.0), (4, 0.1), (4, 0.3), (6, 0.3)] {
        assert_eq!(found_within(kind, factor, 48), 0, "traffic {kind} times {factor}");
    }
}

#[test]
fn what_never_was_used_is_found_once_it_is_and_a_monthly_job_is_not() {
    let silent = [0; DAYS];
    assert_eq!(change(49, false, &silent), None);
    assert_eq!(change(50, false, &silent), Some((Change::More, 0)));
    assert_eq!(change(1_000_000, true, &silent[..27]), None, "four weeks are needed");
    assert!(change(1_000_000, true, &silent[..28]).is_some());
    // On the first of each month, whatever its weekday.
    let mut days = vec![0_u64; 420];
    (0..14).for_each(|month| days[month * 30] = 100_000);
    let told: Vec<_> =
        (60..420).filter(|day| change(days[*day], true, &before(&days, *day)).is_some()).collect();
    assert_eq!(told, [0_usize; 0]);
}

#[test]
fn half_as_much_and_twice_as_much_are_no_change_and_a_steady_key_is_known_by_less() {
    let steady = [1_000; DAYS];
    assert_eq!(change(1_999, true, &steady), None);
    assert_eq!(change(2_000, true, &steady), Some((Change::More, 1_000)));
    assert_eq!(change(501, true, &steady), None);
    assert_eq!(change(500, true, &steady), Some((Change::Less, 1_000)));
    assert_eq!(change(500, false, &steady), None, "the day is not over");
    assert_eq!(change(0, false, &steady), None);
    // Weekdays are compared with their like.
    let mut weekly = [1_000_u64; DAYS];
    weekly.iter_mut().skip(6).step_by(7).for_each(|day| *day = 10);
    assert_eq!(change(10, true, &weekly), None);
    assert_eq!(change(1_000, true, &weekly).map(|(change, _)| change), Some(Change::More));
}

#[test]
fn a_day_that_differs_by_a_factor_such_as_days_do_is_no_change_though_chance_alone_would_not_make_it() {
    // One week this much, the next one nearly three times that: half as much again about their mean.
    let uneven: Vec<u64> = (0..DAYS).map(|day| if day / 7 % 2 == 0 { 12_130 } else { 32_970 }).collect();
    let (scale, others) = (dispersion(&uneven, 22_550.0), 8.0 * 22_550.0);
    assert!(surprise(180_000.0 / scale, (180_000.0 + others) / scale, 1.0 / 9.0) > -ODDS.ln());
    assert_eq!(change(180_000, true, &uneven), None);
    assert_eq!(change(300_000, true, &uneven), Some((Change::More, 22_550)));
}

#[test]
fn the_bound_is_never_below_the_tail_that_it_bounds() {
    // The binomial tail itself, for sums that can be had exactly.
    for all in [10_u32, 40, 90] {
        for n in [4.0_f64, 8.0] {
            let p = 1.0 / (n + 1.0);
            let mut weight = vec![0.0_f64; all as usize + 1];
            weight[0] = (1.0 - p).powi(all as i32);
            for k in 1..=all as usize {
                weight[k] = weight[k - 1] * (all as usize - k + 1) as f64 / k as f64 * p / (1.0 - p);
            }
            for k in 0..=all as usize {
                let bound = (-surprise(k as f64, all.into(), p)).exp();
                let (tail, is_upper) = if k as f64 > f64::from(all) * p {
                    (weight[k..].iter().sum::<f64>(), true)
                } else {
                    (weight[..=k].iter().sum::<f64>(), false)
                };
                assert!(tail <= bound * 1.000_001, "{k} of {all}, upper {is_upper}: {tail} above {bound}");
            }
        }
    }
}
