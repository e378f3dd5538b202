//! Several processes do the same at once: it is done once, and the limits hold.

use std::collections::BTreeSet;

use keyrota::{AuditEntry, AuditFilter, EventKind, KeyFilter, KeyManager, ManualClock, NewKey, SqliteStore};

use crate::stage::{
    Bed, HOUR, Process, ask_all, ask_all_at_once, assert_sound, folder, keyring, owner, root, start,
};

#[test]
fn four_processes_that_tick_together_record_each_transition_once() {
    let bed = Bed::new(10);
    let end = start().plus(HOUR).unwrap();
    for n in 0..200 {
        let new = NewKey::new(owner(&format!("owner-{}", n / 10)), "ci").unwrap().until(end);
        // Every fourth leaves a sealed copy to be removed.
        let by = bed.keys.by(root());
        let by = if n % 4 == 0 { by.request(format!("issue-{n}")) } else { by };
        by.issue(new).unwrap();
    }
    let later = start().plus(2 * HOUR).unwrap();
    let mut processes = Process::start_on(&bed.path(), later, 4);
    let mut sums = [0; 5];
    let mut unfinished = true;
    while unfinished {
        unfinished = false;
        for answer in ask_all(&mut processes, "tick") {
            let words: Vec<_> = answer.split_whitespace().collect();
            let ["ticked", counts @ .., more] = words.as_slice() else { panic!("{answer}") };
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.parse::<usize>().unwrap());
            unfinished |= *more == "true";
        }
    }
    assert_eq!(
        sums,
        [200, 0, 0, 50, 0],
        "expired, retired, completed, cleaned, faults of all ticks together"
    );

    let entries = bed.keys.audit(&AuditFilter::all().kind(EventKind::VersionEnded), usize::MAX).unwrap();
    assert_eq!(entries.len(), 200);
    let concerned: BTreeSet<_> = entries.iter().map(|entry| (entry.event.key, entry.event.version)).collect();
    assert_eq!(concerned.len(), 200, "one entry for each version");
    assert!(entries.iter().all(|entry| entry.event.at == end), "each ended at its deadline");
    bed.assert_sound();

    let before = (bed.revision(), bed.keys.audit_head().unwrap());
    for answer in ask_all(&mut processes, "tick") {
        assert_eq!(answer, "ticked 0 0 0 0 0 false");
    }
    assert_eq!((bed.revision(), bed.keys.audit_head().unwrap()), before, "a second tick writes nothing");
}

#[test]
fn of_many_processes_that_issue_for_one_owner_at_once_ten_succeed() {
    const PROCESSES: usize = 16;
    const OWNERS: usize = 6;
    let bed = Bed::new(10);
    let mut processes = bed.processes(PROCESSES);
    for n in 0..OWNERS {
        let place = bed.folder.path().join(format!("place-{n}"));
        let answers = ask_all_at_once(&mut processes, &place, &format!("issue owner-{n}"));
        let issued = answers.iter().filter(|answer| answer.starts_with("issued ")).count();
        let refused = answers.iter().filter(|answer| *answer == "limit").count();
        assert_eq!((issued, refused), (10, PROCESSES - 10), "{answers:?}");
        let filter = KeyFilter::all().owner(owner(&format!("owner-{n}")));
        assert_eq!(bed.keys.list(&filter, None, 1_000).unwrap().keys.len(), 10);
    }
    assert_eq!(bed.count(EventKind::KeyIssued), 10 * OWNERS);
    assert_eq!(bed.count(EventKind::OwnerAdded), OWNERS, "each owner was entered once");
    bed.assert_sound();
}

#[test]
fn a_place_that_a_revocation_frees_is_taken_once() {
    let bed = Bed::new(10);
    let keys: Vec<_> = (0..10).map(|_| bed.issue("ada").0).collect();
    let mut processes = bed.processes(4);
    for key in &keys {
        bed.keys.by(root()).revoke(*key).unwrap();
        let answers = ask_all(&mut processes, "issue ada");
        let issued = answers.iter().filter(|answer| answer.starts_with("issued ")).count();
        let refused = answers.iter().filter(|answer| *answer == "limit").count();
        assert_eq!((issued, refused), (1, 3), "{answers:?}");
    }
    bed.assert_sound();
}

#[test]
fn an_empty_file_that_several_processes_open_at_once_is_founded_once() {
    let folder = folder();
    let mut processes: Vec<_> = (0..6).map(|_| Process::start()).collect();
    let time = start().unix_micros();
    let paths: Vec<_> = (0..50).map(|n| folder.path().join(format!("{n}.db"))).collect();
    for path in &paths {
        let open = format!("open {} {time}", path.display());
        let answers = ask_all_at_once(&mut processes, &path.with_extension("place"), &open);
        let answers: BTreeSet<_> = answers.into_iter().collect();
        let [answer] = answers.iter().collect::<Vec<_>>()[..] else { panic!("{answers:?}") };
        assert!(answer.starts_with("opened sto_"), "{answer}");
        let clock = ManualClock::new(start());
        let store = SqliteStore::open(path).unwrap();
        let keys = KeyManager::builder(store, keyring()).clock(clock).open().unwrap();
        let entries = keys.audit(&AuditFilter::all(), 10).unwrap();
        let kinds: Vec<_> = entries.iter().map(|entry| entry.event.kind).collect();
        assert_eq!(kinds, [EventKind::StoreFounded]);
        assert_sound(&keys);
    }
}

/// The numbers and tokens of the rotations that succeeded.
fn rotated(answers: &[String]) -> Vec<(u32, String)> {
    let parse = |answer: &String| match answer.split_whitespace().collect::<Vec<_>>()[..] {
        ["rotated", number, token] => Some((number.parse().unwrap(), token.to_owned())),
        _ => None,
    };
    answers.iter().filter_map(parse).collect()
}

#[test]
fn of_several_processes_that_rotate_one_key_at_once_one_succeeds_in_each_overlap() {
    const PROCESSES: usize = 6;
    let bed = Bed::new(10);
    let (key, mut current) = bed.issue("ada");
    let validator = bed.keys.validator().unwrap();
    let mut processes = bed.processes(PROCESSES);
    for round in 0..8 {
        bed.clock.advance(25 * HOUR).unwrap();
        ask_all(&mut processes, &format!("clock {}", keyrota::Clock::now(&bed.clock).unix_micros()));
        assert!(validator.validate(&current).is_ok());
        let place = bed.folder.path().join(format!("place-{round}"));
        let answers = ask_all_at_once(&mut processes, &place, &format!("rotate {key}"));
        let [(number, token)] = &rotated(&answers)[..] else { panic!("{answers:?}") };
        assert_eq!(answers.iter().filter(|answer| *answer == "open").count(), PROCESSES - 1, "{answers:?}");
        assert_eq!(*number, round + 2);
        assert!(validator.validate(&current).unwrap().is_deprecated(), "the old version is in its grace");
        assert!(!validator.validate(token).unwrap().is_deprecated());
        current.clone_from(token);
    }
    let versions = bed.keys.get(key).unwrap().versions;
    let numbers: Vec<_> = versions.iter().map(|version| version.number.get()).collect();
    assert_eq!(numbers, (1..=9).collect::<Vec<_>>());
    assert_eq!(bed.count(EventKind::KeyRotation), 8);
    bed.assert_sound();
}

#[test]
fn while_an_owner_is_suspended_no_process_mints_a_version_for_it() {
    const EACH: usize = 25;
    let bed = Bed::new(1_000);
    let (key, _) = bed.issue("ada");
    let mut processes = bed.processes(4);
    let supersede = format!("supersede {key}");
    let commands = [["suspend ada", "resume ada"], [&supersede, "issue ada"], ["suspend ada", "resume ada"]];
    let commands = commands.into_iter().chain([[supersede.as_str(); 2]]);
    let commands: Vec<_> = commands.flat_map(|both| both.repeat(EACH)).collect();
    for (process, commands) in processes.iter_mut().zip(commands.chunks(2 * EACH)) {
        commands.iter().for_each(|command| process.tell(command));
    }
    for process in &processes {
        for _ in 0..2 * EACH {
            let answer = process.answer();
            let word = answer.split(' ').next();
            assert!(matches!(word, Some("done" | "rotated" | "issued" | "suspended")), "{answer}");
        }
    }
    let (mut suspended, mut turns, mut minted) = (false, 0, 0);
    for entry in bed.keys.audit(&AuditFilter::all().owner(owner("ada")), usize::MAX).unwrap() {
        match entry.event.kind {
            EventKind::OwnerSuspended | EventKind::OwnerResumed => {
                suspended = entry.event.kind == EventKind::OwnerSuspended;
                turns += 1;
            }
            EventKind::KeyIssued | EventKind::VersionIssued => {
                assert!(!suspended, "{entry:?}");
                minted += 1;
            }
            _ => {}
        }
    }
    assert!(turns > 2 && minted > 1, "{turns} {minted}");
    bed.assert_sound();
}

#[test]
fn a_revocation_of_all_keys_of_an_owner_misses_none_that_was_issued_before_it() {
    const EACH: usize = 25;
    let bed = Bed::new(1_000);
    bed.issue("ada");
    let mut processes = bed.processes(4);
    for _ in 0..EACH {
        processes[..3].iter_mut().for_each(|process| process.tell("issue ada"));
        processes[3].tell("revoke-owners ada");
    }
    for _ in 0..EACH {
        let answers: Vec<_> = processes.iter().map(Process::answer).collect();
        assert!(answers[..3].iter().all(|answer| answer.starts_with("issued ")), "{answers:?}");
        assert_eq!(answers[3], "done");
    }
    // In the order of the commits; the entries of one revocation carry one request id.
    let mut entries = bed.keys.audit(&AuditFilter::all().owner(owner("ada")), usize::MAX).unwrap();
    entries.retain(|entry| matches!(entry.event.kind, EventKind::KeyIssued | EventKind::KeyRevoked));
    let is_one_act = |a: &AuditEntry, b: &AuditEntry| a.event.request == b.event.request;
    let mut live = BTreeSet::new();
    for act in entries.chunk_by(is_one_act) {
        let keys: BTreeSet<_> = act.iter().map(|entry| entry.event.key).collect();
        if act[0].event.kind == EventKind::KeyIssued {
            live.extend(keys);
        } else {
            assert_eq!(keys, std::mem::take(&mut live), "all that had been issued by then, and each once");
        }
    }
    assert_eq!(bed.count(EventKind::KeyIssued), 3 * EACH + 1);
    bed.assert_sound();
}

#[test]
fn rotations_that_supersede_each_other_from_several_processes_use_no_number_twice() {
    const PROCESSES: usize = 4;
    const EACH: usize = 8;
    let bed = Bed::new(10);
    let (key, _) = bed.issue("ada");
    let mut processes = bed.processes(PROCESSES);
    for _ in 0..EACH {
        processes.iter_mut().for_each(|process| process.tell(&format!("supersede {key}")));
    }
    let answers: Vec<_> =
        (0..EACH).flat_map(|_| processes.iter().map(Process::answer).collect::<Vec<_>>()).collect();
    let mut rotated = rotated(&answers);
    rotated.sort_unstable();
    let numbers: Vec<_> = rotated.iter().map(|(number, _)| *number).collect();
    let total = u32::try_from(PROCESSES * EACH).unwrap();
    assert_eq!(numbers, (2..=total + 1).collect::<Vec<_>>(), "{answers:?}");
    let validator = bed.keys.validator().unwrap();
    let valid: Vec<_> =
        rotated.iter().filter(|(_, token)| validator.validate(token).is_ok()).map(|(n, _)| *n).collect();
    assert_eq!(valid, [total, total + 1], "the last one, and its predecessor in its grace");
    bed.assert_sound();
}

#[test]
fn an_act_that_several_processes_repeat_under_one_request_id_is_done_once_and_answered_alike() {
    let bed = Bed::new(100);
    let (key, _) = bed.issue("ada");
    let mut processes = bed.processes(5);
    for n in 0..10 {
        let answers = ask_all(&mut processes, &format!("issue ada as issue-{n}"));
        assert!(answers[0].starts_with("issued "), "{answers:?}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    let answers = ask_all(&mut processes, &format!("rotate {key} as rotate-1"));
    assert!(answers[0].starts_with("rotated 2 "), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!((bed.count(EventKind::KeyIssued), bed.count(EventKind::KeyRotation)), (11, 1));
    bed.assert_sound();
}
