//! Readers beside the keeper, thread by thread: for miri, which tries another interleaving and other values of relaxed
//! loads with each seed. No row is read here, and nothing is hashed, because miri knows no assembler.
//!
//! `MIRIFLAGS="-Zmiri-many-seeds=0..64" cargo +nightly miri test --no-default-features --lib validate::interleaved`

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::digest::{DigestScheme, Fingerprint, SecretDigest};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::keyring::Generation;
use crate::limit::{Limits, RateLimit};
use crate::owner::OwnerRecord;
use crate::store::{Revision, Stamp};
use crate::time::Timestamp;
use crate::token::{Locator, Prefix};
use crate::validate::change::{Change, KeyFacts, Told};
use crate::validate::entry::{Cell, KeyState, State};
use crate::validate::facts::{Owner, Standing, Traits};
use crate::validate::keeper::Keeper;
use crate::validate::replica::{Place, Replica};
use crate::validate::till::{NotCharged, Till};
use crate::version::{Stage, VersionRecord};

/// How many commits there are to catch up with.
const ROUNDS: u64 = if cfg!(miri) { 2 } else { 400 };
/// How many copies of the last round each reader keeps before it goes.
const KEPT: usize = if cfg!(miri) { 2 } else { 100 };
/// How many versions there are from the beginning; each of the first rounds adds two.
const HELD: usize = 10;
const ADDED: usize = 2;
const ADDING: usize = 4;

fn time(round: u64) -> Timestamp {
    Timestamp::MIN.plus(Duration::from_secs(round + 1)).unwrap()
}

fn told<R>(round: u64, record: R) -> Told<R> {
    Told::Row { revision: Revision(round + 1), record: Ok(record) }
}

/// Locators that are kept in one part of the index, so that it grows while somebody searches in it.
fn locators(replica: &Replica) -> Vec<Locator> {
    let digits = |n: u32| [1000, 100, 10, 1].map(|place| b'0' + (n / place % 10) as u8);
    let words = |n| [u64::from_le_bytes(*b"00000000"), u64::from(u32::from_le_bytes(digits(n)))];
    let all = (0..10_000).filter(|n| replica.seed.hash(words(*n)) >> 56 == 0);
    let locators = all.map(|n| Locator::try_from(format!("00000000{n:04}")).unwrap());
    locators.take(HELD + ADDED * ADDING).collect()
}

/// How many of the versions a round has.
fn held(round: u64) -> usize {
    HELD + ADDED * ADDING.min(round as usize)
}

/// The version that is gone in each other round.
const COMES_AND_GOES: usize = 3;

fn is_held(n: usize, round: u64) -> bool {
    n < held(round) && (n != COMES_AND_GOES || round.is_multiple_of(2))
}

fn version(n: usize, locator: Locator, round: u64) -> Change {
    let (key, number) = (KeyId::from(n as u128 + 1), VersionNo::new(1));
    let record = || VersionRecord {
        key,
        number,
        locator,
        digest: SecretDigest {
            scheme: DigestScheme::HmacSha256,
            generation: Generation::new(1),
            bytes: [round as u8; 32],
        },
        fingerprint: Fingerprint::try_from("fp_0123456789abcdef".to_owned()).unwrap(),
        stage: Stage::Active,
        issued_at: time(0),
        not_before: time(round),
        expires_at: Some(time(round)),
        offered_at: None,
        offered_until: None,
        delivered_at: Some(time(0)),
        activated_at: Some(time(0)),
        rotate_at: None,
        claimed_by: None,
        claim: None,
        claim_until: None,
        conflict_at: None,
        awaits_use: false,
        first_used_at: None,
        quiet_at: None,
        deprecated_at: None,
        grace_end: None,
        compromised: false,
        ended_at: None,
        end_reason: None,
        imported: None,
    };
    let told = if is_held(n, round) { told(round, Box::new(record())) } else { Told::Gone };
    Change::Version { key, number, told, claimed: None }
}

fn changes(locators: &[Locator], round: u64) -> Vec<Change> {
    let owner = || OwnerId::new("ada").unwrap();
    let traits = || Traits {
        prefix: Prefix::default(),
        scopes: Default::default(),
        role: None,
        limits: Default::default(),
        networks: None,
    };
    let held = locators.iter().enumerate().take(held(round));
    let keys = held.clone().map(|(n, _)| {
        let facts = KeyFacts {
            owner: owner(),
            traits: traits(),
            revoked: !round.is_multiple_of(2),
            issued_at: time(0),
            successor_by: None,
        };
        Change::Key(KeyId::from(n as u128 + 1), told(round, facts))
    });
    let record = OwnerRecord { suspended: !round.is_multiple_of(2), ..OwnerRecord::new(owner()) };
    let owner = Change::Owner(owner(), told(round, record));
    held.clone().map(|(n, locator)| version(n, *locator, round)).chain(keys).chain([owner]).collect()
}

/// The first round, of keys with these limits.
fn first_round(limits: Limits) -> (Replica, Keeper) {
    let (replica, mut keeper) = (Replica::new().unwrap(), Keeper::default());
    let locators = locators(&replica);
    let changes = changes(&locators, 0).into_iter().map(|change| match change {
        Change::Key(key, Told::Row { revision, record: Ok(facts) }) => {
            let traits = Traits { limits: limits.clone(), ..facts.traits };
            Change::Key(key, Told::Row { revision, record: Ok(KeyFacts { traits, ..facts }) })
        }
        change => change,
    });
    replica.leave();
    keeper.apply(&replica, changes.collect());
    replica.arrive(&Stamp::from(0), time(0));
    (replica, keeper)
}

/// Uses a version so often, as validations do; tells how often it was allowed.
fn uses(replica: &Replica, position: u32, uses: u64) -> u64 {
    let entry = replica.slab.get(position).unwrap();
    let profile = replica.shared.profile(entry.facts().profile()).unwrap();
    let place = Place { position, entry };
    let once = || {
        loop {
            let mut till = Till::of(replica, entry);
            match till.charge(profile, time(0), 1) {
                Ok(_) => {
                    if till.count(&place, time(0)) == Some(0) {
                        replica.slab.note(position);
                    }
                    return true;
                }
                Err(NotCharged::Refused(..)) => return false,
                Err(NotCharged::Moved) => {}
            }
        }
    };
    (0..uses).map(|_| u64::from(once())).sum()
}

/// As the follower catches up with a feed of two pages.
fn catch_up(replica: &Replica, keeper: &mut Keeper, locators: &[Locator], round: u64) {
    let mut first = changes(locators, round);
    let second = first.split_off(first.len() / 3);
    replica.leave();
    keeper.apply(replica, first);
    keeper.apply(replica, second);
    replica.arrive(&Stamp::from(round), time(round));
}

/// What a validation copies of one version, if it keeps the copy; all of it has to be of the round that it compared.
fn validate(replica: &Replica, committed: &AtomicU64, (n, locator): (usize, Locator)) -> Option<u64> {
    let round = committed.load(Ordering::Acquire);
    let seen = replica.sequence.begin().filter(|_| replica.is_at(&Stamp::from(round)))?;
    replica.prefetch_index(locator.words());
    let likely = replica.likely(locator.words());
    let facts = replica.find(locator.words(), likely.as_ref(), true).map(|place| place.entry.facts());
    let owner = facts.and_then(|facts| replica.shared.owner(facts.owner())).map(Owner::standing);
    let high_water = replica.high_water();
    if !replica.sequence.holds(seen) {
        return None;
    }
    assert_eq!(high_water, time(round));
    assert_eq!(facts.is_some(), is_held(n, round), "version {n} in round {round}");
    if let Some(facts) = facts {
        let is_odd = !round.is_multiple_of(2);
        assert_eq!(facts.key(), KeyId::from(n as u128 + 1));
        assert_eq!(facts.digest(), [u64::from_ne_bytes([round as u8; 8]); 4], "in round {round}");
        assert_eq!((facts.not_before(), facts.end()), (time(round), Some(time(round))));
        assert_eq!((facts.state(), facts.version()), (State::Live, VersionNo::new(1)));
        assert_eq!(facts.key_state(), if is_odd { KeyState::Revoked } else { KeyState::Sound });
        assert!(
            matches!(owner, Some(Standing::Sound { suspended, .. }) if suspended == is_odd),
            "{owner:?} in round {round}"
        );
    }
    Some(round)
}

#[test]
fn a_copy_that_is_kept_beside_the_keeper_is_of_one_moment() {
    let replica = Replica::new().unwrap();
    let locators = locators(&replica);
    let mut keeper = Keeper::default();
    catch_up(&replica, &mut keeper, &locators, 0);
    let committed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (replica, locators, committed) = (&replica, &locators, &committed);
            scope.spawn(move || {
                let mut asked = locators.iter().copied().enumerate().cycle().skip(reader * 7);
                let mut kept = 0;
                while kept < KEPT {
                    let is_last =
                        asked.next().and_then(|of| validate(replica, committed, of)) == Some(ROUNDS);
                    kept += usize::from(is_last);
                    std::thread::yield_now();
                }
            });
        }
        for round in 1..=ROUNDS {
            committed.store(round, Ordering::Release);
            catch_up(&replica, &mut keeper, &locators, round);
        }
    });
    assert_eq!(keeper.held(), held(ROUNDS));
}

/// More threads than there are stripes use two keys, which are given stripes meanwhile, and whose counts are taken.
#[test]
fn uses_are_counted_once_and_limited_exactly_while_a_key_is_given_stripes() {
    let burst = if cfg!(miri) { 1030 } else { 20_000 };
    let asking = if cfg!(miri) { 3 } else { 20 };
    // Natively more than there are: the last ones are granted out of all slices.
    let each = if cfg!(miri) { 20 } else { 1_500 };
    let (replica, mut keeper) = first_round(RateLimit::per_hour(burst).unwrap().into());
    let hot = [0, 1];
    let mut counted = 0;
    let allowed: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..asking)
            .map(|thread| {
                let replica = &replica;
                let of = move |n: u64| uses(replica, hot[n as usize % 2], each);
                scope.spawn(move || of(thread) + of(thread + 1))
            })
            .collect();
        for round in 0..if cfg!(miri) { 3 } else { 300 } {
            keeper.stripe(&replica, hot[round % 2]);
            counted += keeper.take_counts(&replica).iter().map(|granted| granted.allowed).sum::<u64>();
            std::thread::yield_now();
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    counted += keeper.take_counts(&replica).iter().map(|granted| granted.allowed).sum::<u64>();
    assert_eq!(counted, allowed);
    assert_eq!(allowed, (2 * each * asking).min(2 * u64::from(burst)));
    for position in hot {
        assert!(matches!(replica.slab.get(position).unwrap().cell(), Cell::Cells(_)));
    }
}
