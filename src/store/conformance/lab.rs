//! What the tests share: a founded store, changesets in short, and readings as values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::actor::Context;
use crate::event::{Event, EventKind};
use crate::id::StoreId;
use crate::keyring::Keyring;
use crate::store::conformance::StoreBed;
use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, Draft, FeedItem, FeedPage, Freshness, Head, KeyStore,
    Revision, Row, RowFilter, RowIndex, RowKind, StoreError, StoreErrorKind, UsageEntry, UsageQuery,
};
use crate::time::Timestamp;

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).unwrap()
}

/// A keyring of bytes that only look random, the same in each run.
pub(super) fn keyring(seed: u8) -> Keyring {
    Keyring::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(i as u8).wrapping_mul(113) ^ seed))
        .unwrap()
}

pub(super) fn draft(kind: RowKind, id: &str) -> Draft {
    Draft { kind, id: id.to_owned(), index: RowIndex::default(), body: br#"{"n":0}"#.to_vec() }
}

/// A draft with index fields.
pub(super) fn indexed(kind: RowKind, id: &str, set: impl FnOnce(&mut RowIndex)) -> Draft {
    let mut draft = draft(kind, id);
    set(&mut draft.index);
    draft
}

pub(super) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(super) fn event(at: i64) -> Event {
    Event::new(time(at), EventKind::RoleSet, &Context::system())
}

/// A store under test, with the keyring that writes to it.
pub(super) struct Lab {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) ring: Keyring,
}

impl Lab {
    /// A handle on the bed's data, as it is.
    pub(super) fn open(bed: &dyn StoreBed) -> Self {
        Self::of(bed.open())
    }

    pub(super) fn of(store: Arc<dyn KeyStore>) -> Self {
        Self { store, ring: keyring(0x5a) }
    }

    /// A store whose only commit is its founding, at revision 1.
    pub(super) fn founded(bed: &dyn StoreBed) -> Self {
        let lab = Self::open(bed);
        let revision =
            lab.store.commit(&lab.founding()).expect("a founding commit on an empty store succeeds");
        assert_eq!(revision, Revision(1), "the founding commit is the first");
        lab
    }

    pub(super) fn store_id(&self) -> StoreId {
        StoreId::new(time(1_000_000), [7; 10])
    }

    pub(super) fn founding(&self) -> Changeset {
        Changeset::founding(&self.ring, self.store_id(), time(1_000_000))
    }

    pub(super) fn changes(&self, fill: impl FnOnce(&mut Changeset)) -> Changeset {
        let mut changes = Changeset::new(&self.ring);
        fill(&mut changes);
        changes
    }

    pub(super) fn commit(&self, fill: impl FnOnce(&mut Changeset)) -> Revision {
        self.store.commit(&self.changes(fill)).expect("a commit whose expectations hold succeeds")
    }

    pub(super) fn insert(&self, draft: Draft) -> Revision {
        self.commit(|changes| changes.insert(draft))
    }

    /// That the store refuses what `fill` adds, and with it all that stands before and after it in the commit.
    #[track_caller]
    pub(super) fn conflict(&self, promise: &str, fill: impl FnOnce(&mut Changeset)) -> (RowKind, String) {
        let before = Snapshot::of(&*self.store);
        let answer = self.store.commit(&self.changes(|changes| {
            changes
                .insert(indexed(RowKind::Key, "bystander before", |index| index.owner = some("bystander")));
            fill(changes);
            changes.insert(indexed(RowKind::Outbox, "bystander after", |index| index.due_at = Some(time(1))));
            changes.record(event(9_000_000));
            changes.advance_clock(time(9_000_000));
        }));
        let Err(CommitError::Conflict { kind, id }) = answer else {
            panic!("{promise}: must conflict, but the commit answered {answer:?}");
        };
        assert_eq!(Snapshot::of(&*self.store), before, "{promise}: a conflict must write nothing");
        (kind, id)
    }

    pub(super) fn get(&self, kind: RowKind, id: &str) -> Option<Row> {
        get(&*self.store, kind, id)
    }

    pub(super) fn find(&self, kind: RowKind, unique: &str) -> Option<Row> {
        let mut rows = Vec::new();
        self.store.find(kind, unique, &mut |row| rows.push(row.to_row())).unwrap();
        assert!(rows.len() <= 1, "find must call back at most once");
        rows.pop()
    }

    pub(super) fn ids(&self, kind: RowKind, filter: RowFilter<'_>) -> Vec<String> {
        scan(&*self.store, kind, filter).into_iter().map(|row| row.id).collect()
    }

    pub(super) fn revision(&self) -> Revision {
        self.head().revision
    }

    pub(super) fn head(&self) -> Head {
        self.store.head().unwrap().expect("a founded store has a head")
    }

    /// The sums of what was counted of a key, by version.
    pub(super) fn usage(&self, key: &str) -> Vec<UsageEntry> {
        let mut sums = BTreeMap::new();
        let each = &mut |_, entry: &UsageEntry| {
            assert_eq!(entry.key, key, "only what was asked for is told");
            let sum = sums.entry(entry.version);
            sum.or_insert_with(|| UsageEntry::new(key.to_owned(), entry.version))
                .counts
                .absorb(&entry.counts);
        };
        self.store.usage(&UsageQuery::of_key(key), each).unwrap();
        sums.into_values().collect()
    }
}

pub(super) fn get(store: &dyn KeyStore, kind: RowKind, id: &str) -> Option<Row> {
    let mut rows = Vec::new();
    store.get(kind, id, &mut |row| rows.push(row.to_row())).unwrap();
    assert!(rows.len() <= 1, "get must call back at most once");
    rows.pop()
}

pub(super) fn scan(store: &dyn KeyStore, kind: RowKind, filter: RowFilter<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut each = |row: crate::store::RowRef<'_>| {
        rows.push(row.to_row());
        ControlFlow::Continue(())
    };
    store.scan(kind, filter, &mut each).unwrap();
    rows
}

pub(super) fn audit(store: &dyn KeyStore, query: &AuditQuery<'_>) -> Vec<AuditRow> {
    let mut entries = Vec::new();
    let mut each = |entry: &AuditRow| {
        entries.push(entry.clone());
        ControlFlow::Continue(())
    };
    store.audit(query, &mut each).unwrap();
    entries
}

/// A [`FeedItem`] to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Row(Row),
    Gone(RowKind, String),
}

impl Told {
    pub(super) fn name(&self) -> (RowKind, &str) {
        match self {
            Self::Row(row) => (row.kind, &row.id),
            Self::Gone(kind, id) => (*kind, id),
        }
    }

    pub(super) fn row(&self) -> &Row {
        match self {
            Self::Row(row) => row,
            Self::Gone(kind, id) => panic!("the feed tells that {kind} {id} is gone, but it stands"),
        }
    }
}

/// One page of the feed.
pub(super) fn page(store: &dyn KeyStore, since: Revision, limit: usize) -> (Vec<Told>, FeedPage) {
    let mut told = Vec::new();
    let page = store.feed(since, limit, &mut |item| {
        told.push(match item {
            FeedItem::Row(row) => Told::Row(row.to_row()),
            FeedItem::Gone { kind, id } => Told::Gone(kind, id.to_owned()),
        });
    });
    (told, page.unwrap())
}

/// All pages of the feed.
pub(super) fn feed(store: &dyn KeyStore, since: Revision, limit: usize) -> (Vec<Told>, FeedPage) {
    let (mut told, mut last) = page(store, since, limit);
    while last.more {
        let (next, page) = page(store, last.up_to, limit);
        assert!(page.up_to > last.up_to, "a feed with more to tell must advance beyond {}", last.up_to);
        told.extend(next);
        last = page;
    }
    (told, last)
}

/// All that a store shows, to compare.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    head: Option<Head>,
    rows: Vec<Row>,
    audit: Vec<AuditRow>,
    feed: Vec<Told>,
}

impl Snapshot {
    /// Reads everything, and checks that rows are found by their fields exactly as a full reading shows them.
    pub(super) fn of(store: &dyn KeyStore) -> Self {
        let head = store.head().unwrap();
        let floor = head.as_ref().map_or(Revision(0), |head| head.floor);
        let mut rows = Vec::new();
        for kind in RowKind::ALL {
            let all = scan(store, kind, RowFilter::All { after: None });
            let names: BTreeSet<_> = all
                .iter()
                .flat_map(|row| [&row.index.owner, &row.index.parent])
                .flatten()
                .map(String::as_str)
                .chain(["ada", "bystander", "key 1"])
                .collect();
            for name in names {
                for filter in [RowFilter::Parent(name), RowFilter::Owner { owner: name, after: None }] {
                    let expected: Vec<_> =
                        all.iter().filter(|row| filter.matches(&row.as_ref())).cloned().collect();
                    assert_eq!(scan(store, kind, filter), expected, "{kind} rows by {filter:?}");
                }
            }
            let due = RowFilter::Due { by: Timestamp::MAX, after: None };
            let mut expected: Vec<_> = all.iter().filter(|row| due.matches(&row.as_ref())).cloned().collect();
            expected.sort_by(|a, b| (a.index.due_at, &a.id).cmp(&(b.index.due_at, &b.id)));
            assert_eq!(scan(store, kind, due), expected, "{kind} rows by due_at");
            rows.extend(all);
        }
        let (mut feed, _) = feed(store, floor, 1_000);
        // The order within one commit is nobody's promise.
        feed.sort_by(|a, b| a.name().cmp(&b.name()));
        Self { head, rows, audit: audit(store, &AuditQuery::default()), feed }
    }
}

/// Waits until the stamps of a handle are to show what was committed.
pub(super) fn settle(store: &dyn KeyStore) {
    if let Freshness::Within(delay) = store.freshness() {
        std::thread::sleep(delay);
    }
}

/// Repeats what a busy store refuses; other stores' locks are no failure of this one.
pub(super) fn patiently<T>(mut call: impl FnMut() -> Result<T, StoreError>) -> T {
    for _ in 0..10_000 {
        match call() {
            Err(error) if error.kind() == StoreErrorKind::Busy => std::thread::yield_now(),
            answer => return answer.unwrap(),
        }
    }
    panic!("the store is busy without end")
}

/// [`patiently`] for commits: `None` when the commit conflicts.
pub(super) fn try_commit(store: &dyn KeyStore, changes: &Changeset) -> Option<Revision> {
    patiently(|| match store.commit(changes) {
        Ok(revision) => Ok(Some(revision)),
        Err(CommitError::Conflict { .. }) => Ok(None),
        Err(CommitError::NotWritten(error)) => Err(error),
        Err(error) => panic!("a commit among others must succeed or conflict, but answered {error:?}"),
    })
}
