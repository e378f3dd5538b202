//! The arithmetic of limits, and the bounds within which they are made.

mod quotas;
mod rates;
mod several;
mod slices;

use std::time::Duration;

use crate::limit::{LimitError, LimitStatus, Quota, RateLimit, Refill, Refusal};
use crate::time::Timestamp;

const START: &str = "2027-01-01T00:00:00Z";
const SECOND: u64 = 1_000_000;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn micros(after: u64) -> Timestamp {
    at(START).plus(Duration::from_micros(after)).unwrap()
}

/// What a limit says that refuses.
fn limited(refusal: Refusal) -> LimitStatus {
    match refusal {
        Refusal::Limited(status) => status,
        Refusal::Moved => panic!("nothing has moved"),
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
    /// A number of so many bits at most, each length as likely as any other.
    fn up_to_bits(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits);
        (1 << bits) + self.below(1 << bits)
    }
}

#[test]
fn bounds_are_bounds() {
    let day = Duration::from_secs(86_400);
    assert_eq!(RateLimit::per(0, day), Err(LimitError::NoUses));
    assert_eq!(RateLimit::per(1, 366 * day + Duration::from_micros(1)), Err(LimitError::Span));
    assert_eq!(RateLimit::per(1, Duration::from_micros(999)), Err(LimitError::Span));
    assert_eq!(RateLimit::per(1, Duration::MAX), Err(LimitError::Span));
    assert_eq!(RateLimit::per_second(10_000_001), Err(LimitError::TooFast));
    assert!(RateLimit::per_second(10_000_000).is_ok() && RateLimit::per(1, 366 * day).is_ok());
    let yearly = RateLimit::per(1, 365 * day).unwrap();
    assert_eq!(yearly.with_burst(0), Err(LimitError::Burst));
    assert_eq!(yearly.with_burst(101), Err(LimitError::Burst));
    assert!(yearly.with_burst(100).is_ok());
    assert_eq!(Quota::new(0, Refill::Never), Err(LimitError::NoUses));
    assert_eq!(Quota::new(Quota::MAX_USES + 1, Refill::Never), Err(LimitError::QuotaTooLarge));
    assert_eq!(Quota::new(1, Refill::Every(Duration::from_secs(3_599))), Err(LimitError::Refill));
    assert_eq!(Quota::new(1, Refill::Every(36_501 * day)), Err(LimitError::Refill));
    let small = Quota::new(3, Refill::Monthly).unwrap();
    assert_eq!(
        (small.lease(), small.with_lease(0), small.with_lease(4)),
        (1, Err(LimitError::Lease), Err(LimitError::Lease))
    );
}
