//! The story that is told under each fault: a store is founded, keys are issued, rotated, revoked and used, a tick
//! records what has passed, and the file is closed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use keyrota::{
    Act, AuditFilter, DenialReason, EventKind, KeyFilter, KeyId, KeyManager, KeyStore as _, ManageError,
    ManualClock, NewKey, SqliteStore, UsageQuery, Validator,
};

use crate::stage::{
    HOUR, assert_sound, assert_whole, copy, database, manager, owner, root, start, try_manager,
};

/// Its acts, in order.
pub(crate) const ACTS: [&str; 9] =
    ["open", "issue ada", "issue bob", "rotate", "revoke", "use", "tick", "issue cyd", "close"];
/// How often ada's key is used.
const USES: u64 = 3;

/// How far the story has come: that many acts are done.
pub(crate) type Progress = usize;

pub(crate) struct Story {
    folder: PathBuf,
    clock: ManualClock,
    open: Option<(KeyManager, Validator)>,
    /// What each act has shown, by its number.
    pub(crate) tokens: BTreeMap<usize, String>,
}

impl Story {
    pub(crate) fn at(folder: &Path) -> Self {
        let clock = ManualClock::new(start());
        Self { folder: folder.to_owned(), clock, open: None, tokens: BTreeMap::new() }
    }

    pub(crate) fn keys(&self) -> &KeyManager {
        &self.open.as_ref().unwrap().0
    }

    pub(crate) fn validator(&self) -> &Validator {
        &self.open.as_ref().unwrap().1
    }

    fn request(&self, name: &str) -> Act<'_> {
        self.keys().by(root()).request(name)
    }

    fn key_of(&self, name: &str) -> KeyId {
        let page = self.keys().list(&KeyFilter::all().owner(owner(name)), None, 10).unwrap();
        assert_eq!(page.keys.len(), 1, "{name} holds one key");
        page.keys[0].id
    }

    /// Carries out one act, or repeats it: it has the same request id each time.
    pub(crate) fn act(&mut self, number: usize) -> Result<(), String> {
        let name = ACTS[number];
        self.clock.set(if number < 6 { start() } else { start().plus(25 * HOUR).unwrap() });
        let tell = |error: ManageError| format!("{name}: {error}");
        match name.split_once(' ').unwrap_or((name, "")) {
            ("open", _) => {
                let keys = try_manager(&self.folder, &self.clock)?;
                let validator = keys.validator().map_err(|error| error.to_string())?;
                self.open = Some((keys, validator));
            }
            ("issue", whose) => {
                let issued =
                    self.request(name).issue(NewKey::new(owner(whose), "ci").unwrap()).map_err(tell)?;
                self.tokens.insert(number, issued.token.expose().to_owned());
            }
            ("rotate", _) => {
                let rotated = self.request(name).rotate(self.key_of("ada")).map_err(tell)?;
                self.tokens.insert(number, rotated.token.expose().to_owned());
            }
            ("revoke", _) => self.request(name).revoke(self.key_of("bob")).map_err(tell)?,
            ("use", _) => {
                for _ in 0..USES {
                    self.validator().validate(&self.tokens[&1]).map_err(|denial| denial.to_string())?;
                }
                self.validator().flush().map_err(|error| error.to_string())?;
            }
            ("tick", _) => while self.keys().tick().map_err(tell)?.more {},
            ("close", _) => self.keys().close().map_err(|error| error.to_string())?,
            _ => panic!("{name}"),
        }
        Ok(())
    }

    /// Whoever repeats an act of the past would be told that its token is no longer kept.
    fn forget_tokens_after(&mut self, progress: Progress) {
        self.tokens.retain(|number, _| *number < progress);
    }
}

/// What the log of a story's store says at each step: how many entries there are when so many acts are done.
pub(crate) struct Course {
    kinds: Vec<EventKind>,
    lengths: Vec<usize>,
    /// How many calls each act makes.
    pub(crate) calls: Vec<u64>,
}

fn kinds(keys: &KeyManager) -> Vec<EventKind> {
    let entries = keys.audit(&AuditFilter::all(), usize::MAX).unwrap();
    entries.iter().map(|entry| entry.event.kind).collect()
}

impl Course {
    /// Tells the story once without any fault, counting the calls of these sorts.
    pub(crate) fn run(folder: &Path, sorts: u8) -> (Self, BTreeMap<usize, String>) {
        let mut story = Story::at(folder);
        let (mut last, mut lengths, mut calls) = (Vec::new(), vec![0], Vec::new());
        for (number, name) in ACTS.iter().enumerate() {
            let (done, count) = crate::calls::count(sorts, || story.act(number));
            done.unwrap();
            calls.push(count);
            crate::calls::milestone(number + 1);
            if *name != "close" {
                last = kinds(story.keys());
            }
            lengths.push(last.len());
        }
        (Self { kinds: last, lengths, calls }, story.tokens)
    }

    /// What is found is as it was when at least and at most so many acts were done.
    pub(crate) fn assert_holds(&self, story: &Story, done: RangeInclusive<Progress>, context: &str) {
        let length = |done: Progress| self.lengths[done.min(ACTS.len())];
        self.look(story, length(*done.start())..=length(*done.end()), context);
    }

    /// Opens what a fault has left when so many acts had been acknowledged and `within` was going on: all that was
    /// acknowledged is there, the rest is as before that act or as after it; the story can be told to its end.
    pub(crate) fn assert_survives(&self, mut story: Story, done: Progress, context: &str) {
        story.forget_tokens_after(done);
        let folder = story.folder.clone();
        if done > 0 {
            self.assert_holds(&story, done..=done + 1, context);
        }
        // Whatever had been going on is repeated under its request id, and then the rest of the story is told.
        story.open = None;
        story.act(0).unwrap_or_else(|error| panic!("{context}: {error}"));
        for number in done.max(1)..ACTS.len() {
            story.act(number).unwrap_or_else(|error| panic!("{context}, repeating: {error}"));
        }
        story.open = None;
        self.assert_holds(&story, ACTS.len()..=ACTS.len(), &format!("{context}, at the end"));
        story.act(0).unwrap();
        let used = usage(&folder, story.key_of("ada"));
        let twice = ACTS.get(done) == Some(&"use");
        assert!(used == USES || (twice && used == 2 * USES), "{context}: used {used} times");
        story.open = None;
        assert_whole(&folder, context);
    }

    /// The log says what it said at some moment between these lengths, the rows say the same, and so do verdicts. All
    /// this is seen in a copy of the files: whoever validates writes what it has counted.
    fn look(&self, story: &Story, allowed: RangeInclusive<usize>, context: &str) {
        let copy = copy(&story.folder);
        let keys = manager(copy.path(), &ManualClock::new(start()));
        assert_sound(&keys, context);
        let found = kinds(&keys);
        assert!(allowed.contains(&found.len()), "{context}: {} entries, not {allowed:?}", found.len());
        assert_eq!(found, self.kinds[..found.len()], "{context}");
        let (is_revoked, has_ended) =
            (found.contains(&EventKind::KeyRevoked), found.contains(&EventKind::RotationCompleted));
        let validator = keys.validator().unwrap();
        for (number, token) in &story.tokens {
            let verdict = validator.validate(token).map_err(|denial| denial.reason());
            let is_right = match (ACTS[*number], verdict) {
                ("issue bob", verdict) if is_revoked => verdict == Err(DenialReason::Revoked),
                // The tick has recorded the end and its own time in one commit.
                ("issue ada", verdict) if has_ended => verdict == Err(DenialReason::Retired),
                (_, verdict) => verdict.is_ok(),
            };
            assert!(is_right, "{context}: the token of {:?} is {verdict:?}", ACTS[*number]);
        }
    }
}

/// How often a key's use was counted.
fn usage(folder: &Path, key: KeyId) -> u64 {
    let mut sum = 0;
    let store = SqliteStore::open(database(folder)).unwrap();
    store.usage(&UsageQuery::of_key(&key.to_string()), &mut |_, entry| sum += entry.counts.allowed).unwrap();
    sum
}
