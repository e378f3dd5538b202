//! The acts of an emergency: replacing a leaked key, revoking as compromised, and finding a version by what is known
//! of its secret.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Bed, HOUR, MICRO, at, new_key, on_both_stores, owner, parts, token, v};
use keyrota::{
    DenialReason, Evidence, Fingerprint, IssuedKey, KeyId, KeyStatus, LifecycleError, Locator, ManageError,
    Replace, Revoke, RotationPolicy, RotationStatus, Stage,
};

const MINUTE: Duration = Duration::from_secs(60);

fn revision(bed: &Bed) -> u64 {
    bed.store.head().unwrap().unwrap().revision.0
}

fn compromised(bed: &Bed, key: KeyId) -> Vec<bool> {
    bed.keys.get(key).unwrap().versions.iter().map(|version| version.compromised).collect()
}

fn names(bed: &Bed, key: KeyId, number: usize) -> (Locator, Fingerprint) {
    let version = &bed.keys.get(key).unwrap().versions[number - 1];
    (version.locator, version.fingerprint)
}

/// The same locator with another secret, and a checksum that is right for it.
fn with_wrong_secret(known: &str) -> String {
    let (prefix, locator, secret) = parts(known);
    let last = if secret.ends_with('0') { "1" } else { "0" };
    token(prefix, locator, &format!("{}{last}", &secret[..42]))
}

#[test]
fn a_replacement_revokes_every_other_version_in_the_commit_that_makes_the_new_one() {
    on_both_stores(|bed| {
        let (issued, bystander) = (bed.issue("leaked"), bed.issue("bystander"));
        bed.go("2027-02-10 10:00");
        let second = bed.rotate(issued.key);
        bed.go("2027-02-10 12:00");
        let (other, before) = (bed.other_validator(), (bed.seq(), revision(&bed)));
        let third = bed.root().because("found in a log").replace(issued.key).unwrap();
        assert_eq!(revision(&bed), before.1 + 1, "one commit");
        let story = bed.story(before.0);
        let kinds: Vec<_> = story.iter().map(|line| line.split(" until").next().unwrap()).collect();
        let expected = [
            "version_ended v1 old=v1 revoked",
            "version_compromised v1 old=v1",
            "version_ended v2 old=v2 revoked",
            "version_compromised v2 old=v2",
            "rotation_cancelled",
            "version_issued v3 new=v3",
            "key_rotation v3 old=v2 new=v3",
            "rotation_completed",
        ];
        assert_eq!(kinds, expected);
        for entry in bed.entries(before.0) {
            assert_eq!(
                (entry.event.actor.name(), entry.event.reason.as_deref()),
                ("root", Some("found in a log"))
            );
        }
        for validator in [&bed.validator, &other, &bed.other_validator()] {
            for old in [issued.token.expose(), &second] {
                assert_eq!(validator.validate(old).unwrap_err().reason(), DenialReason::Revoked);
            }
            assert_eq!(validator.validate(third.token.expose()).unwrap().version(), v(3));
            assert!(validator.validate(bystander.token.expose()).is_ok());
        }
        let old = (third.old_version, third.old_valid_until);
        assert_eq!((third.version, old), (v(3), (Some(v(2)), Some(at("2027-02-10 12:00")))));
        assert_eq!(compromised(&bed, issued.key), [true, true, false]);
        let rotations = bed.keys.rotations(issued.key).unwrap();
        let statuses: Vec<_> = rotations.iter().map(|rotation| rotation.status).collect();
        assert_eq!(statuses, [RotationStatus::Cancelled, RotationStatus::Completed]);
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
        assert!(bed.root().rotate(issued.key).is_ok(), "no rotation is open");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn timeline_6_an_emergency_without_grace() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.go("2027-02-10 12:00");
        let new = bed.root().replace(issued.key).unwrap();
        assert_eq!((new.version, new.valid_until), (v(2), Some(at("2027-05-11 12:00"))));
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Revoked));
        assert!(bed.is_granted(new.token.expose()));
    });
}

#[test]
fn timeline_6_an_emergency_with_four_hours() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.tick_to(at("2027-02-10 12:00"));
        let before = bed.seq();
        let new = bed.root().replace(Replace::of(issued.key).grace(4 * HOUR)).unwrap();
        let end = at("2027-02-10 16:00");
        assert_eq!((new.version, new.valid_until), (v(2), Some(at("2027-05-11 12:00"))));
        assert_eq!((new.old_version, new.old_valid_until), (Some(v(1)), Some(end)));
        let expected = [
            "version_deprecated v1 old=v1 until 2027-02-10 16:00",
            "version_compromised v1 old=v1",
            "version_issued v2 new=v2 until 2027-05-11 12:00",
            "key_rotation v2 old=v1 new=v2 until 2027-02-10 16:00",
        ];
        assert_eq!(bed.story(before), expected);
        assert_eq!(compromised(&bed, issued.key), [true, false]);
        let other = bed.other_validator();
        for (time, is_valid) in [("12:00", true), ("15:59", true), ("16:00", false), ("23:00", false)] {
            bed.go(&format!("2027-02-10 {time}"));
            assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
            for validator in [&bed.validator, &other] {
                assert_eq!(validator.validate(issued.token.expose()).is_ok(), is_valid, "{time}");
                assert!(validator.validate(new.token.expose()).is_ok());
            }
        }
        bed.clock.set(end.minus_or_min(MICRO));
        let grant = other.validate(issued.token.expose()).unwrap();
        assert!(grant.is_deprecated() && grant.valid_until() == Some(end));
        bed.clock.set(end);
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Retired));
        bed.go("2027-02-10 17:00");
        let before = bed.seq();
        bed.tick();
        assert_eq!(bed.story(before), ["version_ended v1 old=v1 retired", "rotation_completed"]);
        assert_eq!(bed.entries(before)[0].event.at, end);
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_grace_of_more_than_four_hours_is_refused_and_denies_nothing() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        for grace in [4 * HOUR + MICRO, 24 * HOUR, Duration::MAX] {
            let replace = || bed.root().replace(Replace::of(issued.key).grace(grace));
            assert_eq!(bed.forbidden(replace), LifecycleError::GraceTooLong);
            assert!(bed.is_granted(issued.token.expose()));
        }
    });
}

#[test]
fn a_grace_outlives_neither_the_version_nor_its_key() {
    on_both_stores(|bed| {
        let of = |new: keyrota::NewKey| bed.root().issue(new).unwrap();
        let short = RotationPolicy::builder().lifetime(2 * HOUR).overlap(HOUR).build().unwrap();
        let (short, window) =
            (of(new_key("short").policy(short)), of(new_key("window").until(at("2027-01-01 02:00"))));
        bed.go("2027-01-01 01:00");
        for (issued, ends) in [(&short, "2027-01-01 03:00"), (&window, "2027-01-01 02:00")] {
            let new = bed.root().replace(Replace::of(issued.key).grace(4 * HOUR)).unwrap();
            assert_eq!(new.old_valid_until, Some(at("2027-01-01 02:00")));
            assert_eq!(new.valid_until, Some(at(ends)));
        }
        bed.go("2027-01-01 02:00");
        for issued in [&short, &window] {
            assert!(!bed.is_granted(issued.token.expose()));
        }
    });
}

#[test]
fn with_grace_the_version_in_use_alone_goes_on() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let second = bed.rotate(issued.key);
        bed.go("2027-01-01 01:00");
        let third = bed.root().replace(Replace::of(issued.key).grace(HOUR)).unwrap();
        assert_eq!((third.old_version, third.old_valid_until), (Some(v(2)), Some(at("2027-01-01 02:00"))));
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Revoked));
        assert!(bed.is_granted(&second));
        // The replacement leaks as well: what was still running out ends now.
        bed.go("2027-01-01 01:30");
        let fourth = bed.root().replace(issued.key).unwrap();
        for old in [issued.token.expose(), &second, third.token.expose()] {
            assert_eq!(bed.denial(old), Some(DenialReason::Revoked));
        }
        assert!(bed.is_granted(fourth.token.expose()));
        assert_eq!(compromised(&bed, issued.key), [true, true, true, false]);

        // A key without an active version: the one that was deprecated last is in use.
        let leaving = bed.issue("leaving");
        bed.root().deprecate(leaving.key).unwrap();
        let new = bed.root().replace(Replace::of(leaving.key).grace(HOUR)).unwrap();
        assert_eq!((new.old_version, new.old_valid_until), (Some(v(1)), Some(at("2027-01-01 02:30"))));
        assert!(bed.is_granted(leaving.token.expose()));
        bed.go("2027-01-01 02:30");
        assert!(!bed.is_granted(leaving.token.expose()));
        assert!(bed.is_granted(new.token.expose()));
    });
}

#[test]
fn a_key_that_is_over_revoked_suspended_or_unknown_is_not_replaced() {
    on_both_stores(|bed| {
        let issue =
            |name: &str, of: &str| bed.root().issue(keyrota::NewKey::new(owner(of), name).unwrap()).unwrap();
        let (revoked, expired, cut) = (issue("revoked", "ada"), issue("expired", "ada"), issue("cut", "ada"));
        let suspended = issue("suspended", "bob");
        bed.root().revoke(revoked.key).unwrap();
        bed.root().revoke((cut.key, v(1))).unwrap();
        bed.root().suspend(owner("bob")).unwrap();
        let replace = |key| bed.root().replace(Replace::of(key).grace(HOUR));
        assert_eq!(bed.forbidden(|| replace(revoked.key)), LifecycleError::KeyRevoked);
        assert_eq!(bed.forbidden(|| replace(suspended.key)), LifecycleError::OwnerSuspended);
        let nothing_left = |error, key| matches!(error, ManageError::NothingToReplace(told) if told == key);
        assert!(nothing_left(bed.refused(|| replace(cut.key)), cut.key));
        let nobody = "key_0000000000000000000001".parse().unwrap();
        assert!(matches!(bed.refused(|| replace(nobody)), ManageError::UnknownKey(key) if key == nobody));
        bed.root().resume(owner("bob")).unwrap();
        assert!(bed.is_granted(suspended.token.expose()), "a refused replacement leaves no mark");
        bed.go("2027-04-01");
        assert!(nothing_left(bed.refused(|| replace(expired.key)), expired.key), "before any tick");
        bed.tick_to(at("2027-04-02"));
        assert!(nothing_left(bed.refused(|| replace(expired.key)), expired.key));
        assert!(bed.root().rotate(expired.key).is_ok(), "which is what the error advises");
    });
}

#[test]
fn a_repeated_request_shows_the_same_token_for_a_quarter_of_an_hour() {
    on_both_stores(|bed| {
        let issued = bed.root().request("issue").issue(new_key("ci")).unwrap();
        let how = Replace::of(issued.key).grace(HOUR);
        let replace = || bed.root().request("again").replace(how);
        let first = replace().unwrap();
        let before = (bed.seq(), revision(&bed));
        bed.clock.set(bed.keys.now().unwrap().plus(15 * MINUTE).unwrap().minus_or_min(MICRO));
        let second = replace().unwrap();
        assert_eq!(second.token.expose(), first.token.expose());
        assert_eq!((second.version, second.valid_until), (first.version, first.valid_until));
        assert_eq!((second.old_version, second.old_valid_until), (Some(v(1)), Some(at("2027-01-01 01:00"))));
        let reused = bed.root().request("again").replace(issued.key);
        assert!(matches!(reused, Err(ManageError::RequestReused(_))), "another grace is another act");
        bed.go("2027-01-01 00:15");
        let done = |result| {
            matches!(result, Err(ManageError::AlreadyDone { key, version, .. })
                if key == issued.key && version == Some(v(2)))
        };
        assert!(done(replace()));
        assert_eq!((bed.seq(), revision(&bed)), before, "no repetition wrote anything");
        assert_eq!(bed.keys.get(issued.key).unwrap().versions.len(), 2);
        let of_issue = bed.root().request("issue").issue(new_key("ci"));
        assert!(matches!(of_issue, Err(ManageError::AlreadyDone { .. })));
    });
}

#[test]
fn after_an_emergency_no_request_shows_a_revoked_token_again() {
    on_both_stores(|bed| {
        let issue = || bed.root().request("issue").issue(new_key("ci"));
        let issued = issue().unwrap();
        let rotate = || bed.root().request("rotate").rotate(issued.key);
        rotate().unwrap();
        let replace = || bed.root().request("replace").replace(issued.key);
        let third = replace().unwrap();
        assert!(matches!(issue(), Err(ManageError::AlreadyDone { .. })));
        assert!(matches!(rotate(), Err(ManageError::AlreadyDone { .. })));
        assert_eq!(replace().unwrap().token.expose(), third.token.expose());
        bed.root().revoke((issued.key, v(3))).unwrap();
        assert!(matches!(replace(), Err(ManageError::AlreadyDone { .. })));
    });
}

#[test]
fn revoking_as_compromised_marks_every_version_once() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.rotate(issued.key);
        let before = bed.seq();
        bed.root().revoke(Revoke::of(issued.key).compromised()).unwrap();
        let expected = [
            "key_revoked",
            "version_ended v1 old=v1 revoked",
            "version_compromised v1 old=v1",
            "version_ended v2 old=v2 revoked",
            "version_compromised v2 old=v2",
            "rotation_cancelled",
        ];
        assert_eq!(bed.story(before), expected);
        assert_eq!(compromised(&bed, issued.key), [true, true]);
        let before = revision(&bed);
        for again in [
            Revoke::of(issued.key).compromised(),
            Revoke::of((issued.key, v(2))).compromised(),
            issued.key.into(),
        ] {
            bed.root().revoke(again).unwrap();
        }
        assert_eq!(revision(&bed), before, "repeating it changes nothing");
    });
}

#[test]
fn a_version_that_was_over_already_can_still_be_marked_compromised() {
    on_both_stores(|bed| {
        let marked = |issued: &IssuedKey, target: Revoke, expected: &[&str]| {
            let before = bed.seq();
            bed.root().revoke(target).unwrap();
            assert_eq!(bed.story(before), expected);
            bed.root().revoke(target).unwrap();
            assert_eq!(bed.story(before), expected, "once");
            assert!(compromised(&bed, issued.key)[0]);
            assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Revoked));
        };
        let (revoked, cut) = (bed.issue("revoked"), bed.issue("cut"));
        bed.root().revoke(revoked.key).unwrap();
        bed.root().revoke((cut.key, v(1))).unwrap();
        assert_eq!((compromised(&bed, revoked.key), compromised(&bed, cut.key)), (vec![false], vec![false]));
        marked(&revoked, Revoke::of(revoked.key).compromised(), &["version_compromised v1 old=v1"]);
        marked(&cut, Revoke::of((cut.key, v(1))).compromised(), &["version_compromised v1 old=v1"]);

        let expired = bed.root().issue(new_key("expired").until(at("2027-01-01 01:00"))).unwrap();
        bed.go("2027-01-01 02:00");
        bed.tick();
        assert_eq!(bed.denial(expired.token.expose()), Some(DenialReason::Expired));
        let both = ["version_ended v1 old=v1 revoked", "version_compromised v1 old=v1"];
        marked(&expired, Revoke::of((expired.key, v(1))).compromised(), &both);
        let version = bed.keys.get(expired.key).unwrap().versions[0].clone();
        assert_eq!(
            (version.stage, version.ended_at),
            (Stage::Ended, Some(at("2027-01-01 01:00"))),
            "it ended then"
        );
        assert_eq!(bed.keys.get(expired.key).unwrap().status, KeyStatus::Ended);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_report_by_token_locator_or_fingerprint_revokes_the_version_that_it_names() {
    on_both_stores(|bed| {
        type Of = fn(&Bed, &IssuedKey) -> Option<(KeyId, keyrota::VersionNo)>;
        let reports: [Of; 3] = [
            |bed, issued| bed.root().report_compromised(Evidence::Token(issued.token.expose())).unwrap(),
            |bed, issued| {
                bed.root().report_compromised(Evidence::Locator(names(bed, issued.key, 1).0)).unwrap()
            },
            |bed, issued| {
                bed.root().report_compromised(Evidence::Fingerprint(names(bed, issued.key, 1).1)).unwrap()
            },
        ];
        for report in reports {
            let (issued, other) = (bed.issue("leaked"), bed.other_validator());
            let second = bed.rotate(issued.key);
            let before = bed.seq();
            assert_eq!(report(&bed, &issued), Some((issued.key, v(1))));
            let expected =
                ["version_ended v1 old=v1 revoked", "version_compromised v1 old=v1", "rotation_completed"];
            assert_eq!(bed.story(before), expected);
            for validator in [&bed.validator, &other] {
                assert_eq!(
                    validator.validate(issued.token.expose()).unwrap_err().reason(),
                    DenialReason::Revoked
                );
                assert!(validator.validate(&second).is_ok(), "the version that did not leak");
            }
            let before = revision(&bed);
            assert_eq!(report(&bed, &issued), Some((issued.key, v(1))));
            assert_eq!(revision(&bed), before, "repeating it changes nothing");
        }
    });
}

#[test]
fn a_token_with_a_wrong_secret_finds_nothing_and_changes_nothing() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let elsewhere = Bed::at(common::Place::memory(), at(common::START));
        let stranger = elsewhere.issue("stranger");
        let (locator, fingerprint) = names(&elsewhere, stranger.key, 1);
        let wrong = with_wrong_secret(issued.token.expose());
        let cut = &issued.token.expose()[..issued.token.expose().len() - 1];
        let before = bed.store.head().unwrap();
        for evidence in [
            Evidence::Token(&wrong),
            Evidence::Token(cut),
            Evidence::Token(""),
            Evidence::Token(stranger.token.expose()),
            Evidence::Locator(locator),
            Evidence::Fingerprint(fingerprint),
        ] {
            assert_eq!(bed.keys.find(evidence).unwrap(), None, "{evidence:?}");
            assert_eq!(
                bed.root().request("report").report_compromised(evidence).unwrap(),
                None,
                "{evidence:?}"
            );
            assert!(!format!("{evidence:?}").contains(parts(issued.token.expose()).2));
        }
        assert_eq!(bed.store.head().unwrap(), before);
        assert!(bed.is_granted(issued.token.expose()));
    });
}

#[test]
fn a_version_is_found_by_all_that_is_known_of_it_also_when_it_is_over() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let second = bed.rotate(issued.key);
        let found = |number: usize, token: &str| {
            let (locator, fingerprint) = names(&bed, issued.key, number);
            for evidence in
                [Evidence::Token(token), Evidence::Locator(locator), Evidence::Fingerprint(fingerprint)]
            {
                let expected = Some((issued.key, v(number as u32)));
                assert_eq!(bed.keys.find(evidence).unwrap(), expected, "{evidence:?}");
            }
        };
        let before = bed.store.head().unwrap();
        found(1, issued.token.expose());
        found(2, &second);
        assert_eq!(bed.store.head().unwrap(), before, "looking writes nothing");
        bed.go("2027-01-03");
        bed.tick();
        found(1, issued.token.expose());
        bed.root().revoke(issued.key).unwrap();
        found(1, issued.token.expose());
        found(2, &second);
        let gone = names(&bed, issued.key, 2);
        bed.root().purge(Duration::ZERO).unwrap();
        for evidence in [Evidence::Token(&second), Evidence::Locator(gone.0), Evidence::Fingerprint(gone.1)] {
            assert_eq!(bed.keys.find(evidence).unwrap(), None);
        }
    });
}
