//! How imported keys become keys like any other: by the same rotation.

use keyrota::{AutoRotation, Claim, ClaimId, DenialReason, Evidence, Import, ManageError, Stage};

use crate::common::{DAY, HOUR, at, on_both_stores, v};
use crate::{csv, foreign, import, line, run};

#[test]
fn an_imported_key_rotates_into_a_token_of_this_library_without_a_gap() {
    on_both_stores(|bed| {
        let old = foreign(1);
        let key = import(&bed, &[&old])[0];
        let new = bed.root().rotate(key).unwrap();
        assert!(new.token.expose().starts_with("key_"));
        assert_eq!(new.valid_until, Some(at("2027-04-01")), "the policy's lifetime, not for ever");
        assert_eq!(new.old_valid_until, Some(at("2027-01-02")));
        let grant = bed.validator.validate(&old).unwrap();
        assert_eq!((grant.key(), grant.is_deprecated()), (key, true));
        assert_eq!(bed.validator.validate(new.token.expose()).unwrap().version(), v(2));
        bed.clock.advance(DAY).unwrap();
        assert_eq!(bed.denial(&old), Some(DenialReason::Retired));
        assert!(bed.is_granted(new.token.expose()));
        bed.tick();
        let report = bed.keys.imported().unwrap();
        assert_eq!((report.remaining, report.over), (0, 1), "nothing of the other system is left");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn whoever_holds_the_old_token_claims_the_successor_with_it() {
    on_both_stores(|bed| {
        let (old, other) = (foreign(1), foreign(2));
        let key = import(&bed, &[&old, &other])[0];
        let id = || ClaimId::new([7; 8].iter().chain(&[9; 8]).copied().collect::<Vec<u8>>()).unwrap();
        let claim = |token: &str| bed.root().claim(Claim::with_token(token, id()));
        assert!(matches!(claim("nobody's-token-at-all-12345"), Err(ManageError::UnknownToken)));
        bed.root().set_auto_rotation(key, Some(true)).unwrap();
        bed.root().schedule(key, at("2027-01-01 01:00")).unwrap();
        bed.clock.advance(HOUR).unwrap();
        bed.tick();
        assert!(bed.validator.validate(&old).unwrap().successor().is_some());
        // Also after the digest was upgraded.
        bed.validator.flush().unwrap();
        assert!(matches!(claim(&old[1..]), Err(ManageError::UnknownToken)));
        let claimed = claim(&old).unwrap();
        assert_eq!((claimed.key, claimed.version), (key, v(2)));
        assert_eq!(claim(&old).unwrap().token.expose(), claimed.token.expose());
        assert!(bed.is_granted(claimed.token.expose()) && bed.is_granted(&old));
        bed.clock.advance(DAY).unwrap();
        assert_eq!(bed.denial(&old), Some(DenialReason::Retired));
        assert_eq!(bed.keys.find(Evidence::Token(&other)).unwrap().map(|(_, version)| version), Some(v(1)));
        assert_eq!(bed.keys.find(Evidence::Token("nothing")).unwrap(), None);
    });
}

#[test]
fn none_rotates_by_itself_unless_that_was_asked_whatever_the_deployment_says() {
    on_both_stores(|bed| {
        let resting = import(&bed, &[&foreign(0)])[0];
        // Said of all keys, and carried on to each of them.
        bed.root().set_auto_rotation(AutoRotation::Deployment, Some(true)).unwrap();
        bed.tick();
        let lines: Vec<_> = (1..=100).map(|n| line(&foreign(n))).collect();
        let mut enrolled = Vec::new();
        run(&bed.keys, Import::from(csv(&lines)).rotate_within(20 * DAY).raise_limits(), &mut enrolled);
        bed.tick_to(at("2027-06-01"));
        let rested = bed.keys.get(resting).unwrap();
        assert_eq!((rested.versions.len(), rested.rotates, rested.next_rotation_at), (1, false, None));
        assert!(bed.is_granted(&foreign(0)));
        assert!(enrolled.iter().all(|key| bed.keys.get(*key).unwrap().versions.len() > 1));
    });
}

#[test]
fn rotations_that_are_spread_begin_at_different_times() {
    on_both_stores(|bed| {
        let lines: Vec<_> = (1..=100).map(|n| line(&foreign(n))).collect();
        let mut keys = Vec::new();
        run(&bed.keys, Import::from(csv(&lines)).rotate_within(20 * DAY).raise_limits(), &mut keys);
        let mut due: Vec<_> =
            keys.iter().map(|key| bed.keys.get(*key).unwrap().next_rotation_at.unwrap()).collect();
        due.sort_unstable();
        assert!(due[0] >= at("2027-01-01") && due[99] < at("2027-01-21"));
        // Of a hundred that are spread evenly over 20 days, no four days have forty.
        assert!(due.windows(40).all(|some| some[39].since(some[0]) > 4 * DAY), "{due:?}");
        bed.tick_to(at("2027-01-21"));
        for key in keys {
            assert_eq!(bed.stage(key, 2), Stage::Pending);
        }
    });
}

#[test]
fn a_successor_does_not_outlive_the_end_that_the_key_came_with() {
    on_both_stores(|bed| {
        let token = foreign(1);
        let text =
            format!("sha256,hard_end\n{},2027-02-01\n", crate::kept(keyrota::DigestForm::Sha256, &token));
        let source = keyrota::ImportSource::csv(std::io::Cursor::new(text));
        let key = crate::import_from(&bed, |import| import, source)[0];
        assert_eq!(bed.root().rotate(key).unwrap().valid_until, Some(at("2027-02-01")));
    });
}
