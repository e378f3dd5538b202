//! What automatic rotation brings about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyrota::{
    Actor, AuditFilter, Claim, ClaimId, Claimant, Delivery, EventKind, Handover, Notification,
    NotificationKind, RotationPolicy, SecretSink, Severity, SinkError,
};

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
fn a_claim_is_told_with_who_claimed_and_from_where() {
    on_both(|bed| {
        let issued = [(); 2].map(|()| bed.root().issue(new_key("ci").auto_rotation(true)).unwrap());
        pass_to(&bed, "2027-03-26");
        bed.ear.forget();
        let source = "203.0.113.9".parse::<std::net::IpAddr>().unwrap();
        let id = |text: &str| ClaimId::new(format!("{text:-<16}")).unwrap();
        let [held, owned] = &issued;
        let act = || bed.keys.by(Actor::service("api"));
        act().claim(Claim::with_token(held.token.expose(), id("held")).from(source)).unwrap();
        assert!(act().claim(Claim::with_token(held.token.expose(), id("thief"))).is_err());
        act().claim(Claim::for_owner(owned.key, id("owned")).from(source)).unwrap();
        assert!(act().claim(Claim::for_owner(owned.key, id("again"))).is_err());
        bed.tick();
        let told = bed.ear.heard();
        let facts = |key, kind| {
            let one = told.iter().find(|told| told.key == Some(key) && told.kind == kind).unwrap();
            (one.severity, one.claimant.unwrap(), one.source.clone(), one.old_fingerprint)
        };
        let first = bed.keys.get(held.key).unwrap().versions[0].fingerprint;
        let (claimed, conflict) = (NotificationKind::RotationClaimed, NotificationKind::ClaimConflict);
        let (holder, owner) = (Claimant::Holder, Claimant::Owner);
        assert_eq!(
            facts(held.key, claimed),
            (Severity::Warning, holder, Some(source.to_string()), Some(first))
        );
        assert_eq!(facts(held.key, conflict), (Severity::Critical, holder, None, Some(first)));
        assert_eq!(facts(owned.key, claimed), (Severity::Info, owner, Some(source.to_string()), None));
        assert_eq!(facts(owned.key, conflict), (Severity::Critical, owner, None, None));
        let line = told.iter().find(|told| told.kind == claimed && told.key == Some(held.key)).unwrap();
        let claimed_by = ", claimed by whoever holds the old one from 203.0.113.9, by service api";
        assert!(line.to_string().ends_with(claimed_by), "{line}");
        let json = line.to_json();
        assert!(json.contains(r#""claimant":"holder","source":"203.0.113.9""#), "{json}");
        // What is told is what the audit log has.
        let entries = bed.keys.audit(&AuditFilter::all().key(owned.key), 100).unwrap();
        let entry = entries.iter().find(|entry| entry.event.kind == EventKind::VersionClaimed).unwrap();
        assert_eq!((entry.event.claimant, entry.event.source), (Some(owner), Some(source)));
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
        assert_eq!(story(&bed), ["rotation_failed v2 unclaimed"]);
        pass_to(&bed, "2027-09-01");
        assert_eq!(story(&bed), [""; 0], "nothing more is minted");
    });
}

/// A sink that is away until it is told to be there.
#[derive(Clone, Default)]
struct Away(Arc<AtomicBool>);

impl SecretSink for Away {
    fn put(&self, _: &Handover<'_>) -> Result<(), SinkError> {
        if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err(SinkError::Unavailable) }
    }
}

#[test]
fn what_a_sink_has_answered_is_told_like_everything_else() {
    on_both(|bed| {
        let sink = Away::default();
        let keys = bed.builder().sink(sink.clone()).channel("sinks", bed.ear.clone()).open().unwrap();
        let bed = Bed { keys, ..bed };
        let policy = RotationPolicy::builder().delivery(Delivery::Sink).build().unwrap();
        bed.root().issue(new_key("ci").policy(policy).auto_rotation(true)).unwrap();
        pass_to(&bed, "2027-03-24");
        bed.ear.forget();
        pass_to(&bed, "2027-03-25 12:00");
        let kinds = |bed: &Bed| {
            let kinds = bed.ear.heard().iter().map(|told| told.kind.to_string()).collect::<Vec<_>>();
            bed.ear.forget();
            kinds
        };
        assert_eq!(kinds(&bed), ["rotation_started", "delivery_failing"]);
        sink.0.store(true, Ordering::SeqCst);
        pass_to(&bed, "2027-03-26");
        assert_eq!(kinds(&bed), ["rotation_started"], "the successor is active");
        pass_to(&bed, "2027-03-28");
        assert_eq!(kinds(&bed), ["rotation_completed"]);
    });
}
