//! All or nothing, or all that can be; batch by batch, and on from where it stopped.

use std::sync::Arc;

use keyrota::{
    Actor, AuditFilter, DenialReason, EventKind, Import, ImportError, ImportReport, ImportSource, KeyFilter,
    KeyManager, LineOutcome, LineProblem, ManageError, OwnerLimit, TokenList, WeakAction,
};

use crate::common::{self, Bed, keyring, on_both_stores, owner};
use crate::hooked::{Fate, Hooked};
use crate::{csv, foreign, line};

fn problems(report: &ImportReport) -> Vec<(u64, LineProblem)> {
    let of = |line: &keyrota::LineReport| match &line.outcome {
        LineOutcome::Skipped(problem) => (line.line, problem.clone()),
        other => panic!("{other:?}"),
    };
    report.problems.iter().map(of).collect()
}

/// Lines 2 to 10: good, no digest, repeated, salted, good, bad status, too few cells, unknown owner's text, good.
fn mixed() -> Vec<String> {
    let salted = "pbkdf2_sha256$1000$saltsaltsaltsalt$V5t414KfNIwiILrbNqNqzQF6ZywC05Xo0xJavhgymcU=";
    vec![
        line(&foreign(1)),
        ",ada,x,active".to_owned(),
        line(&foreign(1)),
        format!("{salted},ada,x,active"),
        line(&foreign(2)),
        line(&foreign(3)).replace("active", "sometimes"),
        "abc,ada".to_owned(),
        line(&foreign(4)).replace(",ada,", ",a\u{202E}b,"),
        line(&foreign(5)),
    ]
}

#[test]
fn one_bad_line_keeps_all_from_being_imported_and_is_told() {
    on_both_stores(|bed| {
        let before = bed.store.head().unwrap();
        let mut told = Vec::new();
        let import = Import::from(csv(&mixed())).each_line(|line| told.push(line.line));
        let Err(ImportError::Refused(report)) = bed.root().import(import) else { panic!("not refused") };
        assert_eq!(bed.store.head().unwrap(), before, "nothing was written");
        assert_eq!((report.lines, report.imported, report.skipped), (9, 3, 6));
        let lines: Vec<_> = problems(&report).into_iter().map(|(line, _)| line).collect();
        assert_eq!((lines, told), (vec![3, 4, 5, 7, 8, 9], vec![3, 4, 5, 7, 8, 9]));
        assert!(!bed.is_granted(&foreign(1)));
    });
}

#[test]
fn bad_lines_are_left_out_with_their_reasons_where_that_is_asked() {
    on_both_stores(|bed| {
        let mut outcomes = Vec::new();
        let import =
            Import::from(csv(&mixed())).skip_bad_lines().each_line(|line| outcomes.push(line.clone()));
        let report = bed.root().import(import).unwrap();
        assert_eq!((report.lines, report.imported, report.skipped, report.unknown_strength), (9, 3, 6, 3));
        assert_eq!(outcomes.len(), 9);
        let found = problems(&report);
        assert_eq!(found[0], (3, LineProblem::NoSecret));
        assert_eq!(found[1], (4, LineProblem::Repeated));
        assert_eq!(found[2], (5, LineProblem::Digest(keyrota::DigestError::Salted)));
        assert!(matches!(found[3], (7, LineProblem::Form { column: "status", .. })));
        assert_eq!(found[4], (8, LineProblem::Cells));
        assert!(matches!(found[5], (9, LineProblem::Text(_))));
        assert!([1, 2, 5].iter().all(|n| bed.is_granted(&foreign(*n))));
        assert!(!bed.is_granted(&foreign(3)) && !bed.is_granted(&foreign(4)));
        let text = report.to_string();
        assert!(
            text.starts_with("9 lines: 3 imported, 6 left out") && text.contains("line 4: the same secret")
        );
        assert!(!text.contains(&crate::kept(keyrota::DigestForm::Sha256, &foreign(1))[..8]), "{text}");
    });
}

#[test]
fn a_dry_run_says_what_would_become_of_each_line_and_writes_nothing() {
    on_both_stores(|bed| {
        let before = bed.store.head().unwrap();
        let mut outcomes = Vec::new();
        let import =
            Import::from(csv(&mixed())).dry_run().each_line(|line| outcomes.push(line.outcome.clone()));
        let report = bed.root().import(import).unwrap();
        assert!(report.dry_run && report.to_string().contains("3 would be imported"));
        assert_eq!((report.imported, report.skipped, outcomes.len()), (3, 6, 9));
        assert_eq!(bed.store.head().unwrap(), before);
        // What it said is what happens.
        let done = bed.root().import(Import::from(csv(&mixed())).skip_bad_lines()).unwrap();
        assert_eq!(problems(&done), problems(&report));
        let again = bed.root().import(Import::from(csv(&mixed())).dry_run()).unwrap();
        assert!(problems(&again).iter().filter(|(_, it)| matches!(it, LineProblem::Known(_))).count() == 3);
    });
}

fn many(n: usize) -> Vec<String> {
    (0..n).map(|n| line(&foreign(n)).replace(",ada,", &format!(",owner {},", n / 9))).collect()
}

#[test]
fn a_batch_has_one_entry_in_the_audit_log_and_the_store_is_sound() {
    on_both_stores(|bed| {
        let report =
            bed.keys.by(Actor::operator("root")).because("migration").import(Import::from(csv(&many(1_100))));
        assert_eq!(report.unwrap().imported, 1_100);
        let entries = bed.keys.audit(&AuditFilter::all().after(1), 100).unwrap();
        let events: Vec<_> = entries.into_iter().map(|entry| entry.event).collect();
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::KeysImported; 2]);
        let subjects: Vec<_> = events.iter().map(|event| event.subject.clone().unwrap()).collect();
        assert!(subjects[0].starts_with("1000 keys, key_") && subjects[0].ends_with("; 112 new owners"));
        assert!(subjects[1].starts_with("100 keys"));
        assert_eq!(events[0].reason.as_deref(), Some("migration"));
        assert!(bed.keys.check(None).unwrap().is_sound());
        assert!([0, 999, 1_000, 1_099].iter().all(|n| bed.is_granted(&foreign(*n))));
        assert_eq!(
            bed.keys.list(&KeyFilter::all().owner(owner("owner 5")), None, 100).unwrap().keys.len(),
            9
        );
    });
}

#[test]
fn an_import_that_was_stopped_goes_on_where_it_was() {
    for (fate, written) in
        [(Fate::NotWritten, 1_000), (Fate::UnknownAndLost, 1_000), (Fate::UnknownAndDurable, 1_100)]
    {
        let skips = fate == Fate::UnknownAndLost;
        let store = Hooked::new();
        let keys = KeyManager::open(Arc::clone(&store), keyring()).unwrap();
        let import = || {
            let import = Import::from(csv(&many(1_100)));
            if skips { import.skip_bad_lines() } else { import }
        };
        let act = || keys.by(Actor::operator("root")).request("move-1");
        let mut batches = 0;
        let stopping = import().each_line(|line| {
            if line.line == 2 && matches!(line.outcome, LineOutcome::Imported { .. }) {
                batches += 1;
                store.fate(&[fate]);
            }
        });
        let stopped = act().import(stopping).unwrap_err();
        let ImportError::Stopped { report, source } = stopped else { panic!("{stopped}") };
        assert_eq!((report.imported, batches), (1_000, 1));
        assert!(matches!(source, ManageError::NotWritten(_) | ManageError::OutcomeUnknown { .. }));
        let report = act().import(import()).unwrap();
        assert_eq!(
            (report.before, report.imported, report.skipped),
            (written, 1_100 - written, 0),
            "{fate:?}"
        );
        let versions = keys.imported().unwrap();
        assert_eq!((versions.remaining, versions.over), (1_100, 0));
        // Done is done.
        let report = act().import(import()).unwrap();
        assert_eq!((report.before, report.imported), (1_100, 0));
        // With another source under the same request, nothing is written.
        let other = Import::from(csv(&[line(&foreign(9_999))]));
        assert!(matches!(act().import(other), Err(ImportError::Stopped { .. })));
        let validator = keys.validator().unwrap();
        assert!((0..1_100).step_by(111).all(|n| validator.validate(foreign(n)).is_ok()));
        assert!(validator.validate(foreign(9_999)).is_err());
    }
}

#[test]
fn without_a_request_id_a_second_run_imports_what_the_first_did_not() {
    on_both_stores(|bed| {
        assert_eq!(bed.root().import(Import::from(csv(&many(50)))).unwrap().imported, 50);
        assert!(matches!(bed.root().import(Import::from(csv(&many(60)))), Err(ImportError::Refused(_))));
        let report = bed.root().import(Import::from(csv(&many(60))).skip_bad_lines()).unwrap();
        assert_eq!((report.imported, report.skipped), (10, 50));
        assert_eq!(bed.keys.imported().unwrap().remaining, 60);
    });
}

#[test]
fn an_owner_holds_no_more_than_it_may_unless_its_limit_is_raised() {
    on_both_stores(|bed| {
        let issued = bed.issue("first");
        let lines: Vec<_> = (0..12).map(|n| line(&foreign(n))).collect();
        let Err(ImportError::Refused(report)) = bed.root().import(Import::from(csv(&lines))) else {
            panic!()
        };
        // One of the ten is issued; what was not sound counts for nothing.
        assert_eq!((report.imported, report.skipped), (9, 3));
        assert!(problems(&report).iter().all(|(_, it)| *it == LineProblem::OwnerLimit { limit: 10 }));
        // Revoked keys need no place.
        let revoked: Vec<_> = (20..40).map(|n| line(&foreign(n)).replace("active", "revoked")).collect();
        assert_eq!(bed.root().import(Import::from(csv(&revoked))).unwrap().imported, 20);
        assert_eq!(bed.root().import(Import::from(csv(&lines)).raise_limits()).unwrap().imported, 12);
        assert_eq!(bed.keys.owner(owner("ada")).unwrap().limit, Some(OwnerLimit::new(13).unwrap()));
        assert!(bed.is_granted(&foreign(11)) && bed.is_granted(issued.token.expose()));
        let full = bed.root().issue(common::new_key("one more")).unwrap_err();
        assert!(matches!(full, ManageError::OwnerLimitReached { .. }));
        bed.root().suspend(owner("ada")).unwrap();
        let report = bed.root().import(Import::from(csv(&[line(&foreign(50))])).dry_run()).unwrap();
        assert_eq!(problems(&report), [(2, LineProblem::OwnerSuspended)]);
    });
}

#[test]
fn batches_of_one_owner_are_counted_on_also_when_others_issue_in_between() {
    let store = Hooked::new();
    let keys = KeyManager::open(Arc::clone(&store), keyring()).unwrap();
    let root = || keys.by(Actor::operator("root"));
    root().set_owner_limit(owner("ada"), Some(OwnerLimit::new(1_101).unwrap())).unwrap();
    let lines: Vec<_> = (0..1_100).map(|n| line(&foreign(n))).collect();
    let mut issued = 0;
    let import = Import::from(csv(&lines)).skip_bad_lines().each_line(|line| {
        if line.line == 2 {
            (0..5).for_each(|_| drop(root().issue(common::new_key("meanwhile")).unwrap()));
            issued += 5;
        }
    });
    let report = root().import(import).unwrap();
    assert_eq!((report.imported, report.skipped), (1_096, 4));
    assert_eq!(issued, 5);
}

#[test]
fn roles_prefixes_and_owners_are_checked() {
    on_both_stores(|bed| {
        let source = |text: &str| ImportSource::csv(std::io::Cursor::new(text.to_owned()));
        let hash = crate::kept(keyrota::DigestForm::Sha256, &foreign(1));
        let with_role = format!("sha256,role\n{hash},reader\n");
        let dry = |import: Import<'static>| problems(&bed.root().import(import.dry_run()).unwrap());
        assert_eq!(
            dry(Import::from(source(&with_role)).owner(owner("ada"))),
            [(2, LineProblem::UnknownRole)]
        );
        assert_eq!(dry(Import::from(source(&format!("sha256\n{hash}\n")))), [(2, LineProblem::NoOwner)]);
        bed.root().set_role("reader".try_into().unwrap(), ["orders:read"].try_into().unwrap()).unwrap();
        assert_eq!(dry(Import::from(source(&with_role)).owner(owner("ada"))), []);
        let foreign_prefix = keyrota::Prefix::new("other").unwrap();
        let wrong = Import::from(source(&with_role)).owner(owner("ada")).prefix(foreign_prefix);
        assert!(matches!(
            bed.root().import(wrong),
            Err(ImportError::Stopped { source: ManageError::PrefixNotAllowed(_), .. })
        ));
        bed.root().import(Import::from(source(&with_role)).owner(owner("ada"))).unwrap();
        let read = common::scope("orders:read");
        assert!(bed.validator.validate_for(foreign(1), keyrota::Demand::scope(&read)).is_ok());
    });
}

#[test]
fn a_token_of_this_library_s_own_is_not_imported() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let text = format!("{},another-token-4711,weak", issued.token.expose());
        let import = Import::from(ImportSource::tokens(&text, TokenList::Any)).owner(owner("eve"));
        let report = bed.root().import(import.weak(WeakAction::Refuse).dry_run()).unwrap();
        assert_eq!(
            problems(&report),
            [(1, LineProblem::OwnForm), (2, LineProblem::Weak), (3, LineProblem::Weak)]
        );
        assert_eq!(bed.validator.validate(issued.token.expose()).unwrap().owner(), owner("ada"));
    });
}

#[test]
fn while_management_is_off_nothing_is_imported() {
    on_both_stores(|bed: Bed| {
        bed.root().set_management(false).unwrap();
        let stopped = bed.root().import(Import::from(csv(&[line(&foreign(1))]))).unwrap_err();
        assert!(matches!(stopped, ImportError::Stopped { source: ManageError::ManagementDisabled, .. }));
        assert_eq!(bed.denial(&foreign(1)), Some(DenialReason::Unknown));
    });
}

/// A request id that has no room for the number of the last batch would stop an import half-way, for good.
#[test]
fn a_request_id_without_room_for_all_batches_is_refused_before_the_first() {
    on_both_stores(|bed| {
        let import = |id: usize| {
            let act = bed.root().request("r".repeat(id));
            act.import(Import::from(csv(&[line(&foreign(id))])))
        };
        let longest = keyrota::RequestId::MAX_BYTES - "#18446744073709551615".len();
        assert_eq!(import(longest).unwrap().imported, 1);
        let before = bed.store.head().unwrap();
        let refused = import(longest + 1).unwrap_err();
        assert!(matches!(refused, ImportError::Stopped { source: ManageError::Text(_), .. }), "{refused}");
        assert_eq!(bed.store.head().unwrap(), before);
    });
}

/// Also if the caller gave none: the id of a batch would be of no use.
#[test]
fn an_import_whose_outcome_is_open_names_the_request_under_which_it_goes_on() {
    for (given, fate) in [
        (Some("move-1"), Fate::UnknownAndLost),
        (None, Fate::UnknownAndLost),
        (None, Fate::UnknownAndDurable),
    ] {
        let store = Hooked::new();
        let keys = KeyManager::open(Arc::clone(&store), keyring()).unwrap();
        let act = |request: Option<&str>| {
            let act = keys.by(Actor::operator("root"));
            request.into_iter().fold(act, |act, id| act.request(id))
        };
        let import = Import::from(csv(&many(1_010))).each_line(|line| {
            if line.line == 2 {
                store.fate(&[fate]);
            }
        });
        let stopped = act(given).import(import).unwrap_err();
        let ImportError::Stopped { source: ManageError::OutcomeUnknown { request, .. }, .. } = stopped else {
            panic!("{stopped}")
        };
        assert!(given.is_none_or(|given| given == request.as_str()), "{request}");
        let written = if fate == Fate::UnknownAndDurable { 1_010 } else { 1_000 };
        let report = act(Some(request.as_str())).import(Import::from(csv(&many(1_010)))).unwrap();
        assert_eq!((report.before, report.imported, report.skipped), (written, 1_010 - written, 0));
        assert_eq!(keys.imported().unwrap().remaining, 1_010);
    }
}
