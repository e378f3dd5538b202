//! One quota, used by several processes of which one is killed: never more uses than the quota in all, and all of them
//! but what the dead process had leased.

use keyrota::{KeyManager, NewKey, Quota, Refill, Validator};

use crate::stage::{Bed, Process, Tally, ask_all, assert_sound, owner, root};

const QUOTA: u64 = 100;
const LEASE: u64 = 8;

/// Uses a token on several threads, and leases anew after each few uses; tells how many were granted, and adds each to
/// the tally as soon as it was.
pub(crate) fn spend(
    validator: &Validator,
    token: &str,
    tally: &Tally,
    threads: usize,
    times: usize,
) -> String {
    let spend = || {
        let mut granted = 0;
        for time in 0..times {
            if validator.validate(token).is_ok() {
                tally.add();
                granted += 1;
            }
            if time % 3 == 0 {
                validator.flush().unwrap();
            }
        }
        granted
    };
    let granted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(spend)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    format!("spent {granted}")
}

fn issue(keys: &KeyManager, name: &str) -> String {
    let quota = Quota::new(QUOTA, Refill::Monthly).unwrap().with_lease(LEASE).unwrap();
    let issued = keys.by(root()).issue(NewKey::new(owner("ada"), name).unwrap().limits(quota)).unwrap();
    issued.token.expose().to_owned()
}

fn granted(answer: &str) -> u64 {
    answer.strip_prefix("spent ").unwrap().parse().unwrap()
}

#[test]
fn a_quota_is_used_by_all_processes_together_but_for_what_a_dead_one_had_leased() {
    let bed = Bed::new(100);
    let token = issue(&bed.keys, "ci");
    let tally = bed.path().with_extension("spent");
    let mut processes = bed.processes(3);
    let spend = |threads, times| format!("spend {token} {threads} {times} {}", tally.display());
    // One thread, and fewer uses than half a lease: what is left of the lease is known.
    let by_the_dead = granted(&processes[0].ask(&spend(1, 3)));
    assert_eq!(by_the_dead, 3);
    processes[0].kill();
    let mut by_the_others = 0;
    for _ in 0..3 {
        let answers = ask_all(&mut processes[1..], &spend(4, 40));
        by_the_others += answers.iter().map(|answer| granted(answer)).sum::<u64>();
    }
    let lost = LEASE - by_the_dead;
    assert!(
        (QUOTA - lost - LEASE..=QUOTA - lost).contains(&(by_the_dead + by_the_others)),
        "{by_the_others}"
    );
    assert_eq!(Tally::open(tally).count() as u64, by_the_dead + by_the_others);
    assert_sound(&bed.keys);
}

#[test]
fn a_quota_is_never_exceeded_wherever_a_process_is_killed() {
    let bed = Bed::new(100);
    for round in 0..12 {
        let token = issue(&bed.keys, &format!("ci-{round}"));
        let path = bed.path().with_extension(format!("spent-{round}"));
        let tally = Tally::open(path.clone());
        let mut processes = bed.processes(2);
        let command = format!("spend {token} 4 40 {}", path.display());
        processes.iter_mut().for_each(|process| process.tell(&command));
        while tally.count() < 3 + round * 5 {
            std::thread::yield_now();
        }
        let mut dying: Process = processes.remove(0);
        dying.kill();
        let [other] = &mut processes[..] else { panic!("two processes") };
        other.answer();
        other.ask(&command);
        let spent = tally.count() as u64;
        assert!(spent <= QUOTA, "{spent} uses of {QUOTA}");
        assert!(spent >= QUOTA - 2 * LEASE - 4, "{spent} uses of {QUOTA}: no more is lost than was leased");
    }
    assert_sound(&bed.keys);
}
