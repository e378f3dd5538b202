//! A year of notifications to a receiver that comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use keyrota::{KeyId, NotificationId, NotificationKind as Kind, RotationPolicy};

use crate::common::{DAY, HOUR, START, at, new_key, on_both_places, owner};
use crate::stage::{Bed, no};

/// splitmix64: the same numbers in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

#[test]
fn in_a_year_of_a_flapping_receiver_each_arrives_in_the_order_of_its_key_and_without_a_storm() {
    on_both_places(|place| {
        let bed = Bed::new(place);
        let mut dice = Dice(7);
        let policy = RotationPolicy::builder().lifetime(30 * DAY).overlap(3 * DAY).build().unwrap();
        let (mut keys, mut written) = (Vec::<KeyId>::new(), 0usize);
        let (mut down_until, mut most_in_an_hour) = (0u64, 0);
        let mut outages = 0;
        for step in 0..365 * 2u64 {
            let now = at(START).plus(u32::try_from(step).unwrap() * 12 * HOUR).unwrap();
            bed.clock.set(now);
            match dice.roll(6) {
                0 => {
                    keys.push(bed.root().issue(new_key(&format!("k{step}")).policy(policy)).unwrap().key);
                    written += 1;
                }
                1 | 2 if !keys.is_empty() => {
                    let key = keys[dice.roll(keys.len() as u64) as usize];
                    written += usize::from(bed.root().rotate(key).is_ok());
                }
                3 if !keys.is_empty() && dice.roll(4) == 0 => {
                    bed.root().revoke(keys.swap_remove(dice.roll(keys.len() as u64) as usize)).unwrap();
                    written += 1;
                }
                4 if dice.roll(10) == 0 => {
                    bed.root().suspend(owner("ada")).unwrap();
                    bed.root().resume(owner("ada")).unwrap();
                    written += 2;
                }
                _ => {}
            }
            // Down for up to four days; when it is up, one in five attempts fails.
            if step >= down_until && dice.roll(20) == 0 {
                down_until = step + 1 + dice.roll(8);
                outages += 1;
            }
            let (is_down, seed) = (step < down_until, dice.roll(u64::MAX));
            let mut fails = Dice(seed);
            bed.ear.answers(move |_| if is_down || fails.roll(5) == 0 { no() } else { Ok(()) });
            let before = bed.ear.attempts().len();
            bed.tick();
            most_in_an_hour = most_in_an_hour.max(bed.ear.attempts().len() - before);
        }
        bed.ear.answers(|_| Ok(()));
        for hour in 0..12u32 {
            bed.clock.set(at(START).plus(365 * DAY + hour * HOUR).unwrap());
            bed.tick();
        }
        let (attempts, heard) = (bed.ear.attempts(), bed.ear.heard());
        let tried: BTreeSet<NotificationId> = attempts.iter().map(|told| told.id).collect();
        let arrived: BTreeSet<_> = heard.iter().map(|told| told.id).collect();
        for told in attempts.iter().filter(|told| !arrived.contains(&told.id)) {
            let pointless = [Kind::Expiring, Kind::Unused, Kind::RotationStarted].contains(&told.kind);
            assert!(pointless, "{told} was tried and has not arrived");
        }
        assert!(tried.is_superset(&arrived));
        assert_eq!(heard.len(), arrived.len(), "and, as no answer was lost, once");
        assert!(bed.keys.dead_letters("ops", 10).unwrap().is_empty());
        let of_acts = heard.iter().filter(|told| told.actor.is_some()).count();
        assert!(of_acts * 10 > written * 9, "{of_acts} of {written}, but for what was pointless");

        let mut last = BTreeMap::new();
        for told in heard.iter().filter(|told| told.key.is_some()) {
            let before = last.insert(told.key, told.at).unwrap_or(told.at);
            // What time brought about is told when it is found, and may be of before the tick.
            let slack = told.actor.is_none() || before <= told.at;
            assert!(slack, "{told} after {before}");
        }
        for key in last.keys() {
            let of_key: Vec<_> = heard.iter().filter(|told| told.key == *key).map(|told| told.kind).collect();
            let revoked = of_key.iter().position(|kind| *kind == Kind::Revoked);
            assert_eq!(of_key[0], Kind::Issued, "{of_key:?}");
            assert!(revoked.is_none_or(|at| at == of_key.len() - 1), "{of_key:?}");
        }
        let ratio = attempts.len() as f64 / heard.len() as f64;
        assert!(heard.len() > 400 && outages > 10, "{} notifications, {outages} outages", heard.len());
        assert!(ratio < 2.0, "{ratio} attempts for each");
        assert!(most_in_an_hour < 60, "{most_in_an_hour}");
    });
}
