//! A pass: where it stands, and whether one is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ReadError;
use crate::id::StoreId;
use crate::keyring::Generation;
use crate::records::{Record, Records, read};
use crate::store::{HeadBody, Revision, RowIndex, RowKind};
use crate::time::Timestamp;

/// How long after a pass the next one begins, where others have written under an older generation meanwhile.
const PAUSE: Duration = Duration::from_secs(3_600);

/// How far all rows are brought under a new generation of the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rewriting {
    /// The generation under which all is written again.
    pub generation: Generation,
    /// How many rows this pass has written again.
    pub rewritten: u64,
    /// How many are left for it to write again, as it counted them when it began; `None` while it is counting.
    pub remaining: Option<u64>,
    /// How many it had to leave as they are: edited ones, and those of a generation that is not held.
    pub faults: u64,
    /// When it came to its end. A later pass begins where others have written under an older generation since.
    pub ended_at: Option<Timestamp>,
}

/// What a pass does with the rows that it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It counts those that are to be written again.
    Count,
    /// It writes them again.
    Write,
    /// Nothing more.
    Over,
}

/// One pass through all rows. Of several processes each takes it up where the last has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RewriteRecord {
    pub(crate) generation: Generation,
    /// The store and the segment of its head in which `began` counts.
    store: StoreId,
    segment: u64,
    /// The head's revision when it began: what was written by then it comes past.
    began: u64,
    pub(crate) phase: Phase,
    /// The number of the kind that it is at, and the id behind which it goes on.
    pub(crate) kind: u8,
    pub(crate) after: String,
    pub(crate) counted: u64,
    pub(crate) rewritten: u64,
    pub(crate) faults: u64,
    /// When it was over.
    ended_at: Option<Timestamp>,
}

impl Record for RewriteRecord {
    const KIND: RowKind = RowKind::Policy;
    fn row_id(&self) -> String {
        Self::ROW_ID.to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex::default()
    }
}

/// What there is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, as far as anybody knows.
    Nothing,
    /// Another pass, not before this.
    Later(Timestamp),
    /// This pass is to be taken up where it stands.
    Go(RewriteRecord),
}

impl RewriteRecord {
    pub(crate) const ROW_ID: &'static str = "rewrite";

    /// Of a pass that begins on this head.
    fn begin(generation: Generation, head: &HeadBody, revision: Revision) -> Self {
        Self {
            generation,
            store: head.store,
            segment: head.segment,
            began: revision.0,
            phase: Phase::Count,
            kind: 0,
            after: String::new(),
            counted: 0,
            rewritten: 0,
            faults: 0,
            ended_at: None,
        }
    }

    /// Goes on with the next phase, from the first row again.
    pub(crate) fn turn(&mut self, now: Timestamp) {
        (self.kind, self.after) = (0, String::new());
        match self.phase {
            Phase::Count if self.counted > 0 => self.phase = Phase::Write,
            Phase::Count | Phase::Write | Phase::Over => {
                self.phase = Phase::Over;
                self.ended_at = Some(now);
            }
        }
    }

    /// Counts rows no more that others have replaced meanwhile.
    pub(crate) fn leave_out(&mut self, rows: u64) {
        self.rewritten = self.rewritten.saturating_sub(rows);
        self.counted = self.counted.saturating_sub(rows);
    }

    /// How far it has come, for people.
    pub(crate) fn progress(&self) -> Rewriting {
        let left = self.counted.saturating_sub(self.rewritten + self.faults);
        let remaining = match self.phase {
            Phase::Count => None,
            Phase::Write => Some(left),
            Phase::Over => Some(0),
        };
        let Self { generation, rewritten, faults, ended_at, .. } = *self;
        Rewriting { generation, rewritten, remaining, faults, ended_at }
    }
}

/// What is to be done so that all is written under `current`, on this head.
pub(crate) fn next(
    pass: Option<&RewriteRecord>,
    current: Generation,
    (head, revision): (&HeadBody, Revision),
    now: Timestamp,
) -> Next {
    let Some(last) = head.last_before(current, revision) else { return Next::Nothing };
    let is_here = |pass: &&RewriteRecord| (pass.store, pass.segment) == (head.store, head.segment);
    match pass.filter(is_here) {
        // Whoever has a later one brings all under that.
        Some(pass) if pass.generation > current => Next::Nothing,
        Some(pass) if pass.generation == current => match pass.ended_at {
            None => Next::Go(pass.clone()),
            Some(_) if last.0 <= pass.began => Next::Nothing,
            Some(ended) => match ended.plus(PAUSE) {
                Ok(due) if now < due => Next::Later(due),
                _ => Next::Go(RewriteRecord::begin(current, head, revision)),
            },
        },
        _ => Next::Go(RewriteRecord::begin(current, head, revision)),
    }
}

/// The pass that was begun last, with the revision of its row. A row of it that cannot be believed gives way to the next
/// one: nobody stops the rewriting by editing it.
pub(crate) fn stored(records: &Records) -> Result<(Option<RewriteRecord>, Option<Revision>), ReadError> {
    let mut found = (None, None);
    records.store.get(RewriteRecord::KIND, RewriteRecord::ROW_ID, &mut |row| {
        let pass = read::<RewriteRecord>(&row, &records.keyring).ok();
        found = (pass.map(|stored| stored.record), Some(row.revision));
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::audit::AuditHead;
    use crate::keyring::Keyring;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_unix_micros((1_798_761_600 + hour * 3_600) * 1_000_000).unwrap()
    }

    /// A head on which these generations have written, each last at this revision.
    fn head(written: &[(u32, u64)]) -> (HeadBody, Revision) {
        let mut body =
            HeadBody::new(StoreId::new(at(0), [1; 10]), 0, AuditHead::EMPTY, at(0), BTreeMap::new());
        let keyring = Keyring::generate().unwrap();
        for (generation, revision) in written {
            body.checks.insert(Generation::new(*generation), body_check(&keyring));
            body.note_generation(
                Generation::new(*generation),
                Revision(revision.saturating_sub(1)),
                Revision(*revision),
            );
        }
        let revision = written.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        (body, Revision(revision))
    }

    fn body_check(keyring: &Keyring) -> crate::store::HeadCheck {
        crate::store::HeadCheck(*keyring.current_keys().check())
    }

    fn ended(began: &RewriteRecord, at: Timestamp) -> RewriteRecord {
        let mut pass = began.clone();
        pass.turn(at);
        assert_eq!(pass.phase, Phase::Over);
        pass
    }

    #[test]
    fn with_one_generation_there_is_never_anything_to_do() {
        let (body, revision) = head(&[(1, 1)]);
        assert_eq!(next(None, Generation::FIRST, (&body, revision), at(1)), Next::Nothing);
        assert!(!serde_json::to_string(&body).unwrap().contains("written"), "and nothing is noted");
    }

    #[test]
    fn a_pass_begins_with_a_new_generation_and_again_only_for_what_was_written_since() {
        let two = Generation::new(2);
        let (body, revision) = head(&[(1, 7), (2, 9)]);
        let ask =
            |pass: Option<&RewriteRecord>, body: &HeadBody, now| next(pass, two, (body, Revision(9)), now);
        let Next::Go(begun) = ask(None, &body, at(1)) else { panic!("there is something to do") };
        assert_eq!((begun.generation, begun.began), (two, revision.0));
        assert_eq!(ask(Some(&begun), &body, at(1)), Next::Go(begun.clone()), "taken up where it stands");
        let over = ended(&begun, at(1));
        assert_eq!(ask(Some(&over), &body, at(100)), Next::Nothing);
        // Another process writes under the first once more.
        let mut later = body.clone();
        later.note_generation(Generation::FIRST, Revision(11), Revision(12));
        assert_eq!(ask(Some(&over), &later, at(1)), Next::Later(at(2)));
        assert!(matches!(ask(Some(&over), &later, at(2)), Next::Go(_)));
        // Who has the first as its current one leaves all to the others.
        assert_eq!(next(Some(&begun), Generation::FIRST, (&body, revision), at(1)), Next::Nothing);
        let (three, revision) = head(&[(1, 7), (2, 9), (3, 10)]);
        let Next::Go(third) = next(Some(&over), Generation::new(3), (&three, revision), at(1)) else {
            panic!("the third is a pass of its own")
        };
        assert_eq!(next(Some(&third), two, (&three, revision), at(1)), Next::Nothing);
        // In a new segment revisions may count from somewhere else.
        let other = HeadBody { segment: 5, ..body };
        assert!(matches!(ask(Some(&over), &other, at(1)), Next::Go(_)));
    }
}
