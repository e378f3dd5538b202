//! Writes and syncs of the disk that fail: the caller is told what is certain, a repetition converges, what was to be
//! revoked is denied, and the same process works on once the fault is over.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use keyrota::{
    AuditFilter, DenialReason, EventKind, KeyId, KeyManager, ManageError, ManualClock, NewKey, Stage,
    StoreError, StoreErrorKind, Validator,
};
use tempfile::TempDir;

use crate::calls::{self, Fate, File, Plan, sort};
use crate::stage::{
    ANSWER, HOUR, Template, assert_sound, assert_whole, begin_child, copy, database, log, manager, owner,
    root, say, start, thinned, try_manager,
};

/// One process at work on a database.
pub(crate) struct Site {
    pub(crate) folder: Folder,
    pub(crate) clock: ManualClock,
    pub(crate) keys: KeyManager,
    pub(crate) validator: Validator,
    /// A key that nothing happens to.
    pub(crate) bystander: String,
    /// A key whose first version is in its grace, and its tokens.
    pub(crate) key: KeyId,
    pub(crate) old: String,
    pub(crate) token: String,
}

/// Where a site is.
pub(crate) enum Folder {
    Own(TempDir),
    Lent(PathBuf),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Lent(folder) => folder,
        }
    }
}

/// The acts that are tried under faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Issue,
    Rotate,
    Revoke,
    Tick,
}

pub(crate) const DEEDS: [Deed; 4] = [Deed::Issue, Deed::Rotate, Deed::Revoke, Deed::Tick];

impl Site {
    pub(crate) fn new(template: &Template) -> Self {
        Self::at(Folder::Own(template.copy()))
    }

    /// In a folder that stays.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self::at(Folder::Lent(folder.to_owned()))
    }

    fn at(folder: Folder) -> Self {
        let clock = ManualClock::new(start());
        let keys = manager(folder.path(), &clock);
        let validator = keys.validator().unwrap();
        let issue = |name| keys.by(root()).issue(NewKey::new(owner(name), "ci").unwrap()).unwrap();
        let bystander = issue("bystander").token.expose().to_owned();
        let ada = issue("ada");
        let rotated = keys.by(root()).rotate(ada.key).unwrap();
        let (old, token) = (ada.token.expose().to_owned(), rotated.token.expose().to_owned());
        clock.advance(25 * HOUR).unwrap();
        Self { folder, clock, keys, validator, bystander, key: ada.key, old, token }
    }

    /// Does one of the deeds under its request id; what it shows is a token or nothing.
    pub(crate) fn carry_out(&self, deed: Deed) -> Result<String, ManageError> {
        let act = self.keys.by(root()).request(format!("{deed:?}"));
        match deed {
            Deed::Issue => act
                .issue(NewKey::new(owner("bob"), "ci").unwrap())
                .map(|issued| issued.token.expose().to_owned()),
            Deed::Rotate => act.rotate(self.key).map(|rotated| rotated.token.expose().to_owned()),
            Deed::Revoke => act.revoke(self.key).map(|()| String::new()),
            Deed::Tick => {
                while self.keys.tick()?.more {}
                Ok(String::new())
            }
        }
    }

    pub(crate) fn count(&self, kind: EventKind) -> usize {
        self.keys.audit(&AuditFilter::all().kind(kind), usize::MAX).unwrap().len()
    }

    pub(crate) fn denial(&self, token: &str) -> Option<DenialReason> {
        self.validator.validate(token).err().map(|denial| denial.reason())
    }

    /// The deed was done exactly once, after a repetition.
    pub(crate) fn assert_done(&self, deed: Deed, shown: &str, context: &str) {
        assert_sound(&self.keys, context);
        let (issued, rotated, revoked) = match deed {
            Deed::Issue => (3, 1, 0),
            Deed::Rotate => (2, 2, 0),
            Deed::Revoke => (2, 1, 1),
            Deed::Tick => (2, 1, 0),
        };
        let crowd = AuditFilter::all().kind(EventKind::KeyIssued).owner(owner("crowd"));
        let crowd = self.keys.audit(&crowd, usize::MAX).unwrap().len();
        assert_eq!(self.count(EventKind::KeyIssued) - crowd, issued, "{context}");
        assert_eq!(self.count(EventKind::KeyRotation), rotated, "{context}");
        assert_eq!(self.count(EventKind::KeyRevoked), revoked, "{context}");
        let verdict = (deed == Deed::Revoke).then_some(DenialReason::Revoked);
        assert_eq!(self.denial(&self.token), verdict, "{context}");
        assert_eq!(self.denial(&self.bystander), None, "{context}");
        assert!(self.denial(&self.old).is_some(), "{context}");
        if matches!(deed, Deed::Issue | Deed::Rotate) {
            assert_eq!(self.denial(shown), None, "{context}");
        }
        let stage = self.keys.get(self.key).unwrap().versions[0].stage;
        assert_eq!(stage, Stage::Ended, "{context}");
        // Whoever opens the file, now or after a restart of the machine, sees the same.
        for folder in [self.folder.path(), copy(self.folder.path()).path()] {
            let other = manager(folder, &self.clock);
            assert_eq!(other.audit_head().unwrap(), self.keys.audit_head().unwrap(), "{context}");
            assert_eq!(
                other.validator().unwrap().validate(&self.token).is_ok(),
                verdict.is_none(),
                "{context}"
            );
        }
        assert_whole(self.folder.path(), context);
    }

    /// Another act, in the same process.
    pub(crate) fn assert_works(&self, context: &str) {
        let new = NewKey::new(owner("after"), "ci").unwrap();
        let issued = self.keys.by(root()).issue(new).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(self.denial(issued.token.expose()), None, "{context}");
    }
}

/// What the store said of an act that failed.
pub(crate) fn told(error: &ManageError) -> (&'static str, StoreErrorKind) {
    let kind = |error: &StoreError| error.kind();
    match error {
        ManageError::NotWritten(error) => ("not written", kind(error)),
        ManageError::OutcomeUnknown { source, .. } => ("unknown", kind(source)),
        ManageError::Read(keyrota::ReadError::Store(error)) => ("not read", kind(error)),
        other => panic!("{other}"),
    }
}

/// Does a deed under a plan, looks at what follows while the fault lasts, ends the fault, and repeats the deed.
fn suffer(template: &Template, deed: Deed, plan: Plan, seen: &mut Vec<(&'static str, StoreErrorKind)>) {
    let context = format!("{deed:?} under {plan:?}");
    let site = Site::new(template);
    calls::plan(plan);
    let first = site.carry_out(deed);
    let unlucky = match &first {
        Ok(_) => None,
        Err(error) => {
            let told = told(error);
            seen.push(told);
            if let ("unknown", ManageError::OutcomeUnknown { request, .. }) = (told.0, error)
                && deed != Deed::Tick
            {
                assert_eq!(request.as_str(), format!("{deed:?}"), "{context}");
            }
            Some(told.0)
        }
    };
    // While it lasts: what was to be revoked is denied, and nobody else suffers but by `unavailable`.
    let meanwhile = site.denial(&site.token);
    if deed == Deed::Revoke {
        assert!(meanwhile.is_some(), "{context}: {first:?}");
    }
    assert_eq!(site.denial(&site.bystander), None, "{context}: {first:?}");
    let (_, failed) = calls::end();
    assert!(failed > 0, "{context}: no such call");
    if let (Deed::Revoke, Some(_)) = (deed, unlucky) {
        assert_eq!(
            site.denial(&site.token),
            Some(DenialReason::Revoked),
            "{context}: no repetition has succeeded"
        );
    }
    if unlucky == Some("not written") {
        assert_eq!(site.count(EventKind::KeyRevoked), 0, "{context}");
        assert_sound(&site.keys, &context);
    }
    let second = site.carry_out(deed).unwrap_or_else(|error| panic!("{context}: {error}, after {first:?}"));
    if let Ok(first) = first {
        assert_eq!(first, second, "{context}");
    }
    site.assert_done(deed, &second, &context);
    site.assert_works(&context);
}

fn suffer_everywhere(
    template: &Template,
    sorts: u8,
    fates: &[Fate],
    step: u64,
) -> Vec<(&'static str, StoreErrorKind)> {
    let mut seen = Vec::new();
    for deed in DEEDS {
        let dry = Site::new(template);
        let (done, calls) = calls::count(sorts, || dry.carry_out(deed));
        done.unwrap();
        println!("{deed:?}: {calls} calls to fail at");
        assert!(calls > 0, "{deed:?}");
        // One less than there were: which pages a tree takes differs a little from one time to the next.
        for at in thinned(calls.saturating_sub(2).max(1), step) {
            for &fate in fates {
                for for_ever in [false, true] {
                    suffer(template, deed, Plan { sorts, file: None, at, for_ever, fate }, &mut seen);
                }
            }
        }
    }
    seen
}

#[test]
fn a_sync_that_fails_leaves_the_outcome_open_and_a_repetition_converges() {
    let eio = Fate::Refused(libc::EIO);
    let seen = suffer_everywhere(&Template::Empty, sort::SYNC, &[eio], 1);
    assert!(seen.contains(&("unknown", StoreErrorKind::Io)), "{seen:?}");
}

#[test]
fn a_write_that_fails_or_is_torn_leaves_the_outcome_open_and_a_repetition_converges() {
    let fates = [Fate::Refused(libc::EIO), Fate::Torn(libc::EIO), Fate::Denied(libc::EIO)];
    let seen = suffer_everywhere(&Template::Empty, sort::LASTING, &fates, 6);
    assert!(seen.contains(&("unknown", StoreErrorKind::Io)), "{seen:?}");
}

#[test]
fn so_it_is_while_the_log_is_moved_into_the_file_and_begun_anew() {
    let fates = [Fate::Refused(libc::EIO), Fate::Torn(libc::EIO)];
    suffer_everywhere(&Template::Crashed, sort::LASTING, &fates, 11);
}

#[test]
fn opening_that_fails_anywhere_succeeds_when_it_is_tried_again() {
    let clock = ManualClock::new(start());
    let folder = Template::Empty.copy();
    let (_, calls) = calls::count(sort::LASTING, || drop(manager(folder.path(), &clock)));
    println!("{calls} calls to fail at");
    for at in thinned(calls, 2) {
        for fate in [Fate::Refused(libc::EIO), Fate::Torn(libc::ENOSPC)] {
            for for_ever in [false, true] {
                let plan = Plan { sorts: sort::LASTING, file: None, at, for_ever, fate };
                let folder = Template::Empty.copy();
                let _ = calls::under(plan, || try_manager(folder.path(), &clock).map(drop));
                let keys = manager(folder.path(), &clock);
                let founded = keys.audit(&AuditFilter::all().kind(EventKind::StoreFounded), 10).unwrap();
                assert_eq!(founded.len(), 1, "{plan:?}");
                assert_sound(&keys, &format!("{plan:?}"));
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_moved_into_the_file_fails_no_commit_and_is_moved_later() {
    for number in [libc::EIO, libc::ENOSPC] {
        let site = Site::new(&Template::Empty);
        let length = |file: fn(&Path) -> PathBuf| std::fs::metadata(file(site.folder.path())).unwrap().len();
        let issue = || {
            site.keys.by(root()).issue(NewKey::new(owner("crowd"), "one").unwrap()).unwrap();
        };
        while length(log) < 900 * 4_120 {
            issue();
        }
        let before = length(database);
        let sorts = sort::WRITE | sort::SYNC;
        let plan =
            Plan { sorts, file: Some(File::Database), at: 0, for_ever: true, fate: Fate::Refused(number) };
        calls::under(plan, || {
            while length(log) < 1_100 * 4_120 {
                issue();
                assert_eq!(site.denial(&site.token), None);
            }
        });
        assert_eq!(length(database), before, "nothing was moved");
        let context = format!("error {number}");
        let copied = copy(site.folder.path());
        let successor = manager(copied.path(), &site.clock);
        assert_eq!(successor.audit_head().unwrap(), site.keys.audit_head().unwrap(), "{context}");
        issue();
        assert!(length(database) > before, "it was moved");
        site.assert_works(&context);
        assert_sound(&site.keys, &context);
        assert_whole(site.folder.path(), &context);
    }
}

/// What a child does: it holds the lock for writing until it is told to let go, by the end of its input.
pub(crate) fn hold_the_lock(folder: &Path) {
    let shell = rusqlite::Connection::open(database(folder)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    say("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    shell.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn a_lock_that_another_process_holds_for_too_long_is_busy_and_nothing_was_written() {
    for deed in DEEDS {
        let context = format!("{deed:?}");
        let site = Site::new(&Template::Empty);
        let before = site.keys.audit_head().unwrap();
        let mut holder = begin_child(&format!("hold {}", site.folder.path().display()));
        let mut output = BufReader::new(holder.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(ANSWER) {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "{context}: the holder has ended");
        }
        let error = site.carry_out(deed).unwrap_err();
        assert_eq!(told(&error), ("not written", StoreErrorKind::Busy), "{context}: {error}");
        assert_eq!(site.keys.audit_head().unwrap(), before, "{context}");
        assert_eq!(site.denial(&site.bystander), None, "{context}: validation goes on");
        let expected = (deed == Deed::Revoke).then_some(DenialReason::Revoked);
        assert_eq!(site.denial(&site.token), expected, "{context}");
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        let shown = site.carry_out(deed).unwrap();
        site.assert_done(deed, &shown, &context);
    }
}
