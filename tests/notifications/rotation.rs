//! What automatic rotation brings about.

use keyrota::{Actor, Claim, ClaimId, Notification};

use crate::common::{at, day, new_key};
use crate::stage::{Bed, line, on_both};

/// A line with what is to be done until when.
fn story(bed: &Bed) -> Vec<String> {
    let told = |told: &Notification| {
        let claim_by = told.claim_by.map(|until| format!(" claim by {}", day(until)));
        let ends = told.ends_at.map(|end| format!(" ends {}", day(end)));
        format!("{}{}{}", line(told), claim_by.unwrap_or_default(), ends.unwrap_or_default())
    };
    let lines = bed.ear.heard().iter().map(told).collect();
    bed.ear.forget();
    lines
}

/// Ticks each twelve hours until then.
fn pass_to(bed: &Bed, time: &str) {
    while keyrota::Clock::now(&bed.clock) < at(time) {
        let next = keyrota::Clock::now(&bed.clock).plus(12 * crate::common::HOUR).unwrap();
        bed.clock.set(next.min(at(time)));
        bed.tick();
    }
}

#[test]
fn a_rotation_by_itself_tells_until_when_to_claim_and_when_the_old_version_leaves() {
    on_both(|bed| {
        let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
        let validator = bed.keys.validator().unwrap();
        validator.validate(issued.token.expose()).unwrap();
        validator.flush().unwrap();
        pass_to(&bed, "2027-03-20");
        assert_eq!(story(&bed), ["issued v1 ends 2027-04-01", "potentially_stale v1 ends 2027-04-01"]);
        pass_to(&bed, "2027-03-26");
        assert_eq!(
            story(&bed),
            ["rotation_started v2 claim by 2027-06-16 ends 2027-04-01"],
            "and no warning besides"
        );
        pass_to(&bed, "2027-03-27 10:00");
        let claim = |id: &str| {
            let id = ClaimId::new(format!("{id:-<16}")).unwrap();
            bed.keys.by(Actor::service("client")).claim(Claim::with_token(issued.token.expose(), id))
        };
        claim("first").unwrap();
        claim("first").unwrap();
        assert!(claim("another").is_err());
        bed.tick();
        assert_eq!(story(&bed), ["rotation_claimed v2 ends 2027-03-28 10:00", "claim_conflict v2"]);
        pass_to(&bed, "2027-03-29");
        let lines = story(&bed);
        assert!(lines.contains(&"rotation_completed v2".to_owned()), "{lines:?}");
    });
}

#[test]
fn who_never_claims_is_warned_and_told_that_the_rotation_has_failed() {
    on_both(|bed| {
        bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
        pass_to(&bed, "2027-03-26");
        bed.ear.forget();
        pass_to(&bed, "2027-04-02");
        assert_eq!(story(&bed), ["expiring v1 24h ends 2027-04-01", "expired v1 ends 2027-04-01"]);
        pass_to(&bed, "2027-06-17");
        assert_eq!(story(&bed), ["rotation_failed v2"]);
        pass_to(&bed, "2027-09-01");
        assert_eq!(story(&bed), [""; 0], "nothing more is minted");
    });
}
