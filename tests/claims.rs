//! Claims: who gets a successor that waits, how often, and what everybody else gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod rotating;

use std::time::Duration;

use common::{Bed, keyring_of, parts, token};
use common::{DAY, HOUR, at, new_key, on_both_stores, owner, v};
use keyrota::{
    Actor, Claim, ClaimId, Claimant, ClockStart, Delivery, DenialReason, EventKind, Evidence, IssuedKey,
    LifecycleError, ManageError, NewKey, OwnerLimit, Replace, Revoke, RotatedKey, RotationPolicy,
    RotationStatus, Stage,
};
use rotating::claim_id;

/// A key whose successor waits since 03-25; v1 ends on 04-01.
fn waiting(bed: &Bed, new: NewKey) -> IssuedKey {
    let issued = bed.root().issue(new.auto_rotation(true)).unwrap();
    bed.tick_to(at("2027-03-25"));
    issued
}

fn by_token(bed: &Bed, token: &str, id: &ClaimId) -> Result<RotatedKey, ManageError> {
    bed.keys.by(Actor::service("edge")).claim(Claim::with_token(token, id.clone()))
}

fn by_owner(bed: &Bed, issued: &IssuedKey, id: &ClaimId) -> Result<RotatedKey, ManageError> {
    bed.keys.by(Actor::owner("ada")).claim(Claim::for_owner(issued.key, id.clone()))
}

fn conflicts(bed: &Bed) -> usize {
    bed.entries(0).iter().filter(|entry| entry.event.kind == EventKind::ClaimConflict).count()
}

#[test]
fn the_same_claim_gets_the_same_secret_and_another_one_an_alarm_that_is_recorded_once_an_hour() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let (first, second) = (claim_id("pod one of ten"), claim_id("pod two of ten"));
        let claimed = by_token(&bed, issued.token.expose(), &first).unwrap();
        assert_eq!((claimed.version, claimed.old_version), (v(2), Some(v(1))));
        assert_eq!(claimed.valid_until, Some(at("2027-06-23")));
        assert_eq!(claimed.old_valid_until, Some(at("2027-03-26")));
        let before = bed.seq();
        let again = by_token(&bed, issued.token.expose(), &first).unwrap();
        assert_eq!(again.token.expose(), claimed.token.expose());
        assert_eq!(bed.seq(), before, "a repetition records nothing");
        for _ in 0..9 {
            let refused = by_token(&bed, issued.token.expose(), &second).unwrap_err();
            assert!(
                matches!(refused, ManageError::Lifecycle(LifecycleError::AlreadyClaimed { version }) if version == v(2))
            );
        }
        assert_eq!(conflicts(&bed), 1);
        let alarm = bed.entries(before).remove(0).event;
        let presented = bed.keys.get(issued.key).unwrap().versions[0].fingerprint;
        assert_eq!(
            (alarm.key, alarm.version, alarm.claimant, alarm.old_fingerprint),
            (Some(issued.key), Some(v(2)), Some(Claimant::Holder), Some(presented))
        );
        bed.clock.advance(HOUR).unwrap();
        assert!(by_token(&bed, issued.token.expose(), &second).is_err());
        assert!(by_owner(&bed, &issued, &second).is_err());
        assert_eq!(conflicts(&bed), 2);
        assert_eq!(bed.keys.get(issued.key).unwrap().versions.len(), 2, "nothing was made anew");
    });
}

#[test]
fn a_claim_can_be_repeated_until_the_first_use_is_recorded_or_the_old_version_has_ended() {
    on_both_stores(|bed| {
        let id = claim_id("the client's own");
        let issued = waiting(&bed, new_key("used"));
        let claimed = by_token(&bed, issued.token.expose(), &id).unwrap();
        bed.clock.advance(HOUR).unwrap();
        assert!(bed.is_granted(claimed.token.expose()));
        assert!(by_token(&bed, issued.token.expose(), &id).is_ok(), "a use that nobody knows of is none yet");
        bed.validator.flush().unwrap();
        let over = by_token(&bed, issued.token.expose(), &id).unwrap_err();
        assert!(matches!(over, ManageError::Lifecycle(LifecycleError::AlreadyClaimed { .. })), "{over}");
        assert_eq!(sealed(&bed), 0, "the copy is gone");
    });
    on_both_stores(|bed| {
        let id = claim_id("the client's own");
        let issued = waiting(&bed, new_key("unused"));
        by_token(&bed, issued.token.expose(), &id).unwrap();
        bed.go("2027-03-25T23:59:59.999999Z");
        assert!(by_token(&bed, issued.token.expose(), &id).is_ok());
        bed.go("2027-03-26");
        let over = by_token(&bed, issued.token.expose(), &id).unwrap_err();
        assert!(matches!(over, ManageError::Lifecycle(LifecycleError::NotClaimable)), "{over}");
        assert!(by_owner(&bed, &issued, &id).is_err(), "nor for the owner");
        bed.tick();
        assert_eq!(sealed(&bed), 0, "the copy is gone");
    });
}

fn sealed(bed: &Bed) -> usize {
    let mut count = 0;
    let all = keyrota::RowFilter::All { after: None };
    bed.store
        .scan(keyrota::RowKind::Sealed, all, &mut |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    count
}

#[test]
fn a_claim_with_a_token_that_is_none_is_unknown_and_writes_nothing() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let id = claim_id("somebody's claim");
        let (prefix, locator, secret) = parts(issued.token.expose());
        let mut wrong = secret.to_owned();
        wrong.replace_range(..1, if secret.starts_with('0') { "1" } else { "0" });
        let unknown = parts(issued.token.expose()).1.chars().rev().collect::<String>();
        for presented in [
            String::new(),
            "key_nonsense".to_owned(),
            token(prefix, locator, &wrong),
            token("acme", locator, secret),
            token(prefix, &unknown, secret),
        ] {
            let refused = bed.refused(|| by_token(&bed, &presented, &id));
            assert!(matches!(refused, ManageError::UnknownToken), "{refused}");
        }
        assert!(by_token(&bed, issued.token.expose(), &id).is_ok());
    });
}

#[test]
fn a_policy_can_leave_claims_to_the_owner_and_a_late_successor_is_the_owner_s_anyway() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().delivery(Delivery::Sealed { claimant: Claimant::Owner });
        let issued = waiting(&bed, new_key("ci").policy(policy.build().unwrap()));
        let id = claim_id("the owner's claim");
        let grant = bed.validator.validate(issued.token.expose()).unwrap();
        assert_eq!(grant.successor(), None, "the holder cannot claim it");
        let refused = bed.forbidden(|| by_token(&bed, issued.token.expose(), &id));
        assert_eq!(refused, LifecycleError::NotClaimable);
        bed.tick_to(at("2027-04-02"));
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Expired));
        let refused = bed.forbidden(|| by_token(&bed, issued.token.expose(), &id));
        assert_eq!(refused, LifecycleError::NotClaimable, "an expired token proves nothing");
        let claimed = by_owner(&bed, &issued, &id).unwrap();
        assert!(bed.is_granted(claimed.token.expose()));
        assert_eq!(by_owner(&bed, &issued, &id).unwrap().token.expose(), claimed.token.expose());
    });
}

#[test]
fn the_successor_shows_in_grants_of_the_current_version_while_it_waits_and_in_no_others() {
    on_both_stores(|bed| {
        let (issued, other) = (waiting(&bed, new_key("ci")), bed.issue("other"));
        let watcher = bed.other_validator();
        for validator in [&bed.validator, &watcher, &bed.other_validator()] {
            let successor = validator.validate(issued.token.expose()).unwrap().successor().unwrap();
            assert_eq!((successor.claim_by, successor.ends), (at("2027-06-16"), Some(at("2027-04-01"))));
            assert_eq!(validator.validate(other.token.expose()).unwrap().successor(), None);
        }
        let claimed = by_token(&bed, issued.token.expose(), &claim_id("the client's own")).unwrap();
        for validator in [&bed.validator, &watcher, &bed.other_validator()] {
            let old = validator.validate(issued.token.expose()).unwrap();
            assert_eq!((old.successor(), old.is_deprecated()), (None, true));
            assert_eq!(validator.validate(claimed.token.expose()).unwrap().successor(), None);
        }
        bed.root().roll_back(issued.key).unwrap();
        for validator in [&bed.validator, &watcher, &bed.other_validator()] {
            let current = validator.validate(issued.token.expose()).unwrap();
            assert_eq!((current.successor(), current.is_deprecated()), (None, false));
        }
        // Held back, but in time: half of what was left.
        bed.tick_to(at("2027-03-29"));
        let successor = bed.validator.validate(issued.token.expose()).unwrap().successor();
        assert!(successor.is_some(), "the next one waits");
        bed.root().cancel(issued.key).unwrap();
        assert_eq!(watcher.validate(issued.token.expose()).unwrap().successor(), None);
    });
}

#[test]
fn a_successor_shows_until_the_last_moment_to_claim_it_and_no_longer_without_a_tick() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().lifetime(181 * DAY).rotate_every(90 * DAY).build().unwrap();
        let issued = bed.root().issue(new_key("ci").policy(policy).auto_rotation(true)).unwrap();
        bed.tick_to(at("2027-04-01"));
        let shown = || bed.validator.validate(issued.token.expose()).unwrap();
        let claim_by = shown().successor().unwrap().claim_by;
        assert_eq!(claim_by, at("2027-06-30"));
        bed.clock.set(claim_by.minus_or_min(Duration::from_micros(1)));
        let grant = shown();
        assert!(grant.successor().is_some());
        bed.clock.set(claim_by);
        assert_eq!(shown().successor(), None);
        assert_eq!(bed.validator.still_valid(&grant).unwrap().successor(), None);
        let refused = by_token(&bed, issued.token.expose(), &claim_id("too late")).unwrap_err();
        assert!(matches!(refused, ManageError::Lifecycle(LifecycleError::NothingToClaim)), "{refused:?}");
    });
}

#[test]
fn a_sealed_successor_that_nobody_claimed_does_not_validate_even_with_its_secret() {
    on_both_stores(|bed| {
        let issued = waiting(
            &bed,
            new_key("ci")
                .policy(RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap()),
        );
        assert_eq!(bed.stage(issued.key, 2), Stage::Pending);
        assert!(!bed.keys.get(issued.key).unwrap().versions[1].is_valid);
        let claimed = by_token(&bed, issued.token.expose(), &claim_id("the client's own")).unwrap();
        assert_eq!(bed.stage(issued.key, 2), Stage::Pending, "until its first use");
        assert!(bed.is_granted(claimed.token.expose()) && bed.is_granted(issued.token.expose()));
        bed.validator.flush().unwrap();
        assert_eq!(bed.stage(issued.key, 2), Stage::Active);
        assert_eq!(bed.stage(issued.key, 1), Stage::Deprecated);
    });
}

#[test]
fn what_a_stolen_token_claimed_goes_with_it() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let claimed = by_token(&bed, issued.token.expose(), &claim_id("a thief's own id")).unwrap();
        bed.root().revoke((issued.key, v(1))).unwrap();
        assert!(bed.is_granted(claimed.token.expose()), "not known to be stolen");
        bed.root().revoke(Revoke::of((issued.key, v(1))).compromised()).unwrap();
        assert_eq!(bed.denial(claimed.token.expose()), Some(DenialReason::Revoked));
        let versions = bed.keys.get(issued.key).unwrap().versions;
        assert!(versions.iter().all(|version| version.compromised));
    });
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let claimed = by_owner(&bed, &issued, &claim_id("the owner's own")).unwrap();
        bed.root().revoke(Revoke::of((issued.key, v(1))).compromised()).unwrap();
        assert!(bed.is_granted(claimed.token.expose()), "the owner did not claim with it");
    });
}

#[test]
fn a_revoked_version_takes_its_waiting_successor_along_and_an_emergency_leaves_nothing_to_claim() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        bed.root().revoke((issued.key, v(1))).unwrap();
        assert_eq!((bed.stage(issued.key, 2), sealed(&bed)), (Stage::Ended, 0));
        let other = waiting(&bed, new_key("other"));
        bed.root().replace(Replace::of(other.key).grace(HOUR)).unwrap();
        let id = claim_id("the client's own");
        assert_eq!(bed.forbidden(|| by_token(&bed, other.token.expose(), &id)), LifecycleError::NotClaimable);
        assert_eq!(bed.forbidden(|| by_owner(&bed, &other, &id)), LifecycleError::NothingToClaim);
        assert_eq!(sealed(&bed), 0);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn suspension_pauses_claims_and_management_does_not() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let id = claim_id("the client's own");
        bed.root().suspend(owner("ada")).unwrap();
        for claim in [by_token(&bed, issued.token.expose(), &id), by_owner(&bed, &issued, &id)] {
            assert!(matches!(claim, Err(ManageError::Lifecycle(LifecycleError::OwnerSuspended))));
        }
        bed.root().resume(owner("ada")).unwrap();
        bed.root().set_management(false).unwrap();
        assert!(by_token(&bed, issued.token.expose(), &id).is_ok());
    });
}

#[test]
fn a_key_that_has_networks_is_claimed_by_token_from_there_only() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci").networks(["192.0.2.0/24"].try_into().unwrap()));
        let id = claim_id("the client's own");
        let from = |address: &str| {
            let claim = Claim::with_token(issued.token.expose(), id.clone());
            let claim = claim.from(address.parse::<std::net::IpAddr>().unwrap());
            bed.keys.by(Actor::service("edge")).claim(claim)
        };
        assert_eq!(
            bed.forbidden(|| by_token(&bed, issued.token.expose(), &id)),
            LifecycleError::NotClaimable
        );
        assert_eq!(bed.forbidden(|| from("198.51.100.1")), LifecycleError::NotClaimable);
        let before = bed.seq();
        from("192.0.2.7").unwrap();
        let told = bed.entries(before).remove(0).event;
        assert_eq!(
            (told.kind, told.claimant, told.source),
            (EventKind::VersionClaimed, Some(Claimant::Holder), Some("192.0.2.7".parse().unwrap()))
        );
    });
}

#[test]
fn a_claim_under_a_request_id_is_answered_again_to_the_same_token_only() {
    on_both_stores(|bed| {
        let (issued, other) = (waiting(&bed, new_key("ci")), bed.issue("other"));
        let id = claim_id("the client's own");
        let act = |token: &str| {
            bed.keys.by(Actor::service("edge")).request("req-9").claim(Claim::with_token(token, id.clone()))
        };
        let claimed = act(issued.token.expose()).unwrap();
        assert_eq!(act(issued.token.expose()).unwrap().token.expose(), claimed.token.expose());
        assert!(matches!(act(other.token.expose()), Err(ManageError::RequestReused(_))));
        let (prefix, locator, secret) = parts(issued.token.expose());
        let mut wrong = secret.to_owned();
        wrong.replace_range(..1, if secret.starts_with('0') { "1" } else { "0" });
        assert!(matches!(act(&token(prefix, locator, &wrong)), Err(ManageError::RequestReused(_))));
        bed.clock.advance(2 * DAY).unwrap();
        assert!(matches!(act(issued.token.expose()), Err(ManageError::AlreadyDone { .. })));
    });
}

#[test]
fn a_key_counts_again_when_its_late_successor_is_claimed() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
        bed.root().set_owner_limit(owner("ada"), Some(OwnerLimit::new(1).unwrap())).unwrap();
        bed.tick_to(at("2027-04-02"));
        let other = bed.root().issue(new_key("other")).unwrap();
        let id = claim_id("the owner's own");
        assert!(matches!(by_owner(&bed, &issued, &id), Err(ManageError::OwnerLimitReached { .. })));
        bed.root().revoke(other.key).unwrap();
        by_owner(&bed, &issued, &id).unwrap();
        let full = bed.root().issue(new_key("third"));
        assert!(matches!(full, Err(ManageError::OwnerLimitReached { .. })));
    });
}

#[test]
fn a_first_use_under_a_clock_that_jumped_is_not_recorded_before_it_is_confirmed() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).lifetime(900 * DAY);
        let issued = bed.root().issue(new_key("ci").policy(policy.build().unwrap())).unwrap();
        let second = bed.rotate(issued.key);
        bed.tick();
        bed.go("2027-02-15");
        assert!(bed.is_granted(&second));
        bed.validator.flush().unwrap();
        assert_eq!(bed.stage(issued.key, 2), Stage::Pending, "45 days ahead, and nobody has confirmed that");
        bed.root().confirm_clock(at("2027-02-15")).unwrap();
        bed.validator.catch_up().unwrap();
        bed.validator.flush().unwrap();
        assert_eq!(bed.stage(issued.key, 2), Stage::Active);
    });
}

#[test]
fn a_copy_that_waits_opens_under_no_other_master_key() {
    on_both_stores(|bed| {
        waiting(&bed, new_key("ci"));
        let stranger = keyrota::KeyManager::open(bed.place.open(), keyring_of(9));
        assert!(stranger.is_err());
        assert_eq!(sealed(&bed), 1);
    });
}

#[test]
fn a_rotation_whose_successor_is_revoked_with_a_leaked_token_is_cancelled_and_not_completed() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        let claimed = by_token(&bed, issued.token.expose(), &claim_id("whoever was first")).unwrap();
        let before = bed.seq();
        bed.root().report_compromised(Evidence::Token(issued.token.expose())).unwrap();
        assert!(!bed.is_granted(claimed.token.expose()), "the leaked token may have claimed it");
        let status = || bed.keys.rotations(issued.key).unwrap().remove(0).status;
        assert_eq!(status(), RotationStatus::Cancelled);
        bed.tick_to(at("2027-04-02"));
        assert_eq!(status(), RotationStatus::Cancelled);
        let kinds: Vec<_> = bed.entries(before).into_iter().map(|entry| entry.event.kind).collect();
        assert!(kinds.contains(&EventKind::RotationCancelled), "{kinds:?}");
        assert!(!kinds.contains(&EventKind::RotationCompleted), "{kinds:?}");
    });
}

#[test]
fn a_rotation_whose_old_version_is_revoked_has_come_to_its_end() {
    on_both_stores(|bed| {
        let issued = waiting(&bed, new_key("ci"));
        by_owner(&bed, &issued, &claim_id("the owner's own")).unwrap();
        bed.root().revoke(Revoke::of((issued.key, v(1)))).unwrap();
        assert_eq!(bed.keys.rotations(issued.key).unwrap().remove(0).status, RotationStatus::Completed);
    });
}

#[test]
fn who_waits_to_be_claimed_is_listed_in_pages_until_it_is_claimed_or_too_late() {
    on_both_stores(|bed| {
        let listed = |after, limit| bed.keys.waiting_claims(after, limit).unwrap();
        let names = |page: &keyrota::WaitingPage| {
            page.claims.iter().map(|claim| claim.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        // Keys of one millisecond are in no order.
        let pause = || bed.clock.advance(Duration::from_millis(1)).unwrap();
        let by_owner_only = Delivery::Sealed { claimant: Claimant::Owner };
        let by_owner_only = RotationPolicy::builder().delivery(by_owner_only).build().unwrap();
        let announced = RotationPolicy::builder().delivery(Delivery::Announce).build().unwrap();
        let issue = |new: NewKey| {
            pause();
            bed.root().issue(new.auto_rotation(true)).unwrap()
        };
        // Its rotation is in progress until the first use, but nobody waits for it once it is claimed.
        let by_use = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
        let first = issue(new_key("first").policy(by_use));
        let second = issue(new_key("second").policy(by_owner_only));
        issue(new_key("announced").policy(announced));
        let third = issue(new_key("third"));
        let revoked = issue(new_key("revoked"));
        assert_eq!(names(&listed(None, 10)), [""; 0]);
        bed.tick();
        bed.tick_to(at("2027-03-25 01:00"));
        bed.root().revoke(revoked.key).unwrap();
        let all = listed(None, 10);
        assert_eq!((names(&all), all.next), (["first", "second", "third"].map(str::to_owned).to_vec(), None));
        let told = &all.claims[1];
        let told_end = bed.keys.get(second.key).unwrap().versions[0].ends_at.unwrap();
        assert_eq!((told.key, told.version, told.owner), (second.key, v(2), owner("ada")));
        assert_eq!((told.claimant, told.current), (Claimant::Owner, Some(v(1))));
        assert_eq!(
            (told.since, told.claim_by, told.current_ends_at),
            (at("2027-03-25 01:00"), at("2027-06-16 01:00"), Some(told_end))
        );
        assert_eq!(all.claims[0].claimant, Claimant::Holder);
        assert_eq!(told.rotation, bed.keys.rotations(second.key).unwrap()[0].id);
        let page = listed(None, 2);
        assert_eq!(names(&page), ["first", "second"]);
        let rest = listed(page.next, 2);
        assert_eq!((names(&rest), rest.next), (vec!["third".to_owned()], None));

        by_token(&bed, first.token.expose(), &claim_id("the client's own")).unwrap();
        assert_eq!(names(&listed(None, 10)), ["second", "third"], "nobody waits for what was claimed");
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(names(&listed(None, 10)), ["second", "third"]);
        bed.root().resume(owner("ada")).unwrap();
        bed.tick_to(at("2027-04-02"));
        let late = listed(None, 1);
        assert_eq!((late.claims[0].current, late.claims[0].current_ends_at), (None, None));
        by_owner(&bed, &third, &claim_id("the owner's own")).unwrap();
        assert_eq!(names(&listed(None, 10)), ["second"]);
        bed.clock.set(at("2027-06-16 01:00"));
        assert_eq!(names(&listed(None, 10)), [""; 0], "too late, before any tick has said so");
    });
}
