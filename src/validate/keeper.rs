//! The keeper: the replica's one writer, with all that only a writer needs to know.

mod tills;

use std::collections::{HashMap, HashSet, VecDeque};

use crate::id::{KeyId, VersionNo};
use crate::records::version_row_id;
use crate::store::{Revision, RowKind};
use crate::validate::change::{Change, Doubt, KeyFacts, Told};
use crate::validate::entry::{Cell, Entry, KeyState, State};
use crate::validate::facts::{Numbers, Standing};
use crate::validate::findings::{Finding, Findings};
use crate::validate::index::Index;
use crate::validate::replica::{NOWHERE, Replica};
use crate::validate::slab::key_words;
use crate::version::VersionRecord;

use tills::{Tills, counted};

/// What the writer remembers of a position.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The latest revision in which the version's row was sound: an earlier one that comes back was put back.
    version: Revision,
    /// The same of the key's row, at the first of its versions.
    key: Revision,
}

/// The positions that wait to be used again, each once.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<u32>,
    all: HashSet<u32>,
}

impl Waiting {
    fn add(&mut self, position: u32) {
        if self.all.insert(position) {
            self.queue.push_back(position);
        }
    }

    /// The one that has waited longest, if it has waited long enough.
    fn take(&mut self) -> Option<u32> {
        let position = if self.queue.len() > WAITING { self.queue.pop_front() } else { None };
        position.filter(|position| self.all.remove(position))
    }
}

/// How many positions wait at least before one is used again: a validation that found its version just before that
/// was removed still counts at the old position, and a row that is put back is still recognised.
const WAITING: usize = 4096;
const CHUNK: usize = 1024;

/// The writer's side of a replica.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// The first version of each key.
    keys: Index,
    memories: Vec<Box<[Memory]>>,
    length: u32,
    held: usize,
    waiting: Waiting,
    numbers: Numbers,
    /// The same as in [`Memory`], of owners and roles.
    latest: HashMap<(RowKind, String), Revision>,
    findings: Findings,
    tills: Tills,
}

impl Keeper {
    /// Takes in the changes of one page of the feed, all at one moment for whoever reads.
    pub(crate) fn apply(&mut self, replica: &Replica, mut changes: Vec<Change>) {
        changes.sort_by_key(Change::rank);
        let _writing = replica.sequence.write();
        for change in changes {
            match change {
                Change::Version { key, number, told, claimed } => {
                    self.findings.note(RowKind::Version, || version_row_id(key, number), doubt(&told));
                    let claimed = claimed.map(|locator| locator.words());
                    self.put_version(replica, (key, number), told, claimed);
                }
                Change::Key(key, told) => {
                    self.findings.note(RowKind::Key, || key.to_string(), doubt(&told));
                    self.put_key(replica, key, told);
                }
                Change::Owner(id, told) => {
                    let told = self.unless_older(RowKind::Owner, id.as_str(), told);
                    let standing = match told {
                        Told::Row { record: Ok(record), .. } => Standing::Sound {
                            suspended: record.suspended,
                            ceiling: record.ceiling.map(|set| self.numbers.set(&set, &replica.shared)),
                        },
                        Told::Row { record: Err(Doubt::Behind(generation)), .. } => {
                            Standing::Behind(generation)
                        }
                        Told::Row { record: Err(Doubt::Tampered), .. } | Told::Gone => Standing::Missing,
                    };
                    self.numbers.set_standing(id, standing, &replica.shared);
                }
                Change::Role(name, told) => {
                    let told = self.unless_older(RowKind::Role, name.as_str(), told);
                    let scopes = match told {
                        Told::Row { record: Ok(record), .. } => Some(record.scopes),
                        Told::Row { .. } | Told::Gone => None,
                    };
                    self.numbers.set_role(name, scopes, &replica.shared);
                }
                Change::Nameless(kind, id, doubt) => self.findings.note(kind, || id, Some(doubt)),
                Change::Nothing(kind, id) => self.findings.note(kind, || id, None),
            }
        }
    }

    /// The same of an owner or a role, doubted if it is older than what has been seen.
    fn unless_older<R>(&mut self, kind: RowKind, id: &str, told: Told<R>) -> Told<R> {
        let told = match told {
            Told::Row { revision, record } => {
                let latest = self.latest.entry((kind, id.to_owned())).or_default();
                Told::Row { revision, record: no_older(latest, revision, record) }
            }
            Told::Gone => Told::Gone,
        };
        self.findings.note(kind, || id.to_owned(), doubt(&told));
        told
    }

    fn memory(&mut self, position: u32) -> Option<&mut Memory> {
        self.memories.get_mut(position as usize / CHUNK)?.get_mut(position as usize % CHUNK)
    }

    fn first_of(&self, replica: &Replica, key: KeyId) -> Option<u32> {
        let hash = replica.seed.hash(key_words(key));
        self.keys.find(hash, |position| replica.slab.get(position).is_some_and(|entry| entry.key() == key))
    }

    /// Where a version is.
    pub(crate) fn position_of(&self, replica: &Replica, key: KeyId, number: VersionNo) -> Option<u32> {
        let first = self.first_of(replica, key)?;
        family(replica, first).find(|(_, entry)| entry.number() == number).map(|(position, _)| position)
    }

    fn put_version(
        &mut self,
        replica: &Replica,
        (key, number): (KeyId, VersionNo),
        told: Told<Box<VersionRecord>>,
        claimed: Option<[u64; 2]>,
    ) {
        let known = self.position_of(replica, key, number);
        let (revision, record) = match (told, known) {
            (Told::Row { revision, record }, _) => (revision, record),
            (Told::Gone, Some(position)) => return self.remove(replica, position),
            (Told::Gone, None) => return,
        };
        let Some(position) = known.or_else(|| self.take_place(replica, key, number)) else { return };
        let (Some(entry), Some(memory)) = (replica.slab.get(position), self.memory(position)) else { return };
        let record = no_older(&mut memory.version, revision, record);
        if entry.state() == State::Absent {
            self.held += 1;
        }
        match record {
            Ok(version) => {
                replica.place_at(position, entry, version.locator.words());
                entry.set_version(&version);
                version.imported.iter().for_each(|mark| replica.shared.imports.note(mark.form));
            }
            Err(doubt) => {
                if entry.locator() == NOWHERE
                    && let Some(claimed) = claimed
                    && replica.position_of(claimed).is_none()
                {
                    // Only a claim: it may add a denial where nothing was, and takes nobody's place.
                    replica.place_at(position, entry, claimed);
                }
                match doubt {
                    Doubt::Tampered => entry.set_unbelievable(State::Tampered, None),
                    Doubt::Behind(generation) => entry.set_unbelievable(State::Behind, Some(generation)),
                }
                self.findings.note(RowKind::Version, || version_row_id(key, number), Some(doubt));
            }
        }
    }

    fn remove(&mut self, replica: &Replica, position: u32) {
        let Some(entry) = replica.slab.get(position).filter(|entry| entry.state() != State::Absent) else {
            return;
        };
        replica.take_away(position, entry);
        entry.set_unbelievable(State::Absent, None);
        self.held -= 1;
        self.waiting.add(position);
    }

    fn put_key(&mut self, replica: &Replica, key: KeyId, told: Told<KeyFacts>) {
        let Some(first) = self.first_of(replica, key) else { return };
        let mut successor = None;
        let (state, owner, profile) = match told {
            Told::Row { revision, record } => {
                let Some(memory) = self.memory(first) else { return };
                match no_older(&mut memory.key, revision, record) {
                    Ok(KeyFacts { owner, traits, revoked, issued_at, successor_by }) => {
                        successor = successor_by;
                        let profile = self.numbers.profile(traits, &replica.shared);
                        self.provide_cells(replica, first, profile, issued_at);
                        let state = if revoked { KeyState::Revoked } else { KeyState::Sound };
                        (state, self.numbers.owner(owner, &replica.shared), profile)
                    }
                    Err(doubt) => {
                        self.findings.note(RowKind::Key, || key.to_string(), Some(doubt));
                        match doubt {
                            Doubt::Tampered => (KeyState::Missing, 0, 0),
                            Doubt::Behind(generation) => (KeyState::Behind, generation.get(), 0),
                        }
                    }
                }
            }
            Told::Gone => (KeyState::Missing, 0, 0),
        };
        for (_, entry) in family(replica, first) {
            entry.set_key(state, owner, profile);
            entry.set_successor(successor);
        }
    }

    /// A position for a version that has none, linked with the others of its key.
    fn take_place(&mut self, replica: &Replica, key: KeyId, number: VersionNo) -> Option<u32> {
        let position = self.used_place(replica).or_else(|| self.new_place(replica))?;
        let entry = replica.slab.get(position)?;
        entry.name(key, number);
        match self.first_of(replica, key) {
            Some(first) => {
                entry.set_cell(Cell::With(first));
                let first = replica.slab.get(first)?;
                entry.copy_key(first);
                entry.set_next(first.next());
                first.set_next(Some(position));
            }
            None => {
                self.lead_to(replica, key, position);
            }
        }
        Some(position)
    }

    fn new_place(&mut self, replica: &Replica) -> Option<u32> {
        let position = self.length;
        replica.slab.make(position)?;
        if (position as usize).is_multiple_of(CHUNK) {
            self.memories.push(vec![Memory::default(); CHUNK].into());
        }
        self.length += 1;
        Some(position)
    }

    /// A position that has waited long enough, and whose row did not come back.
    fn used_place(&mut self, replica: &Replica) -> Option<u32> {
        while let Some(position) = self.waiting.take() {
            let entry = replica.slab.get(position)?;
            if entry.state() == State::Absent {
                self.unstripe(replica, position);
                self.unlink(replica, position, entry);
                self.tills.left.extend(counted(entry));
                entry.clear();
                *self.memory(position)? = Memory::default();
                return Some(position);
            }
        }
        None
    }

    /// Makes a key lead to its first version.
    fn lead_to(&mut self, replica: &Replica, key: KeyId, first: u32) {
        let hash = replica.seed.hash(key_words(key));
        self.keys.add(hash, first, replica.hash_of_key());
        self.keys.forget_outgrown(hash);
    }

    fn unlink(&mut self, replica: &Replica, position: u32, entry: &Entry) {
        let Some(first) = self.first_of(replica, entry.key()) else { return };
        if first == position {
            self.keys.remove(replica.seed.hash(key_words(entry.key())), position, replica.hash_of_key());
            if let Some(next) = entry.next() {
                self.lead_to(replica, entry.key(), next);
            }
            let key = self.memory(position).map(|memory| memory.key);
            let Some(next) = entry.next() else { return };
            if let (Some(key), Some(next)) = (key, self.memory(next)) {
                next.key = key;
            }
            for (position, other) in family(replica, next) {
                if position == next {
                    other.copy_cell(entry);
                } else {
                    other.set_cell(Cell::With(next));
                }
            }
        } else if let Some((_, before)) =
            family(replica, first).find(|(_, before)| before.next() == Some(position))
        {
            before.set_next(entry.next());
        }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        self.findings.all()
    }

    /// How many versions are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Forgets which revisions were seen: the store is another one now.
    pub(crate) fn forget_revisions(&mut self) {
        self.latest.clear();
        for memory in self.memories.iter_mut().flat_map(|chunk| chunk.iter_mut()) {
            (memory.version, memory.key) = Default::default();
        }
    }

    /// All keys' versions, owners and roles that are held: those that a new reading of everything does not tell are
    /// gone.
    pub(crate) fn everything(&self, replica: &Replica) -> Vec<Change> {
        let versions = (0..self.length).filter_map(|position| {
            let entry = replica.slab.get(position).filter(|entry| entry.state() != State::Absent)?;
            Some((entry.key(), entry.number()))
        });
        let versions: Vec<_> = versions.collect();
        let mut keys: Vec<_> = versions.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let version = |(key, number)| Change::Version { key, number, told: Told::Gone, claimed: None };
        let rows = self.findings.all().into_iter().map(|Finding { kind, id, .. }| Change::Nothing(kind, id));
        let (owners, roles) = self.numbers.names();
        let mut all: Vec<_> = versions.into_iter().map(version).collect();
        all.extend(rows);
        all.extend(keys.into_iter().map(|key| Change::Key(key, Told::Gone)));
        all.extend(owners.into_iter().map(|owner| Change::Owner(owner, Told::Gone)));
        all.extend(roles.into_iter().map(|role| Change::Role(role, Told::Gone)));
        all
    }
}

fn doubt<R>(told: &Told<R>) -> Option<Doubt> {
    match told {
        Told::Row { record: Err(doubt), .. } => Some(*doubt),
        _ => None,
    }
}

/// What is believed of a row, given the latest revision that was.
fn no_older<R>(latest: &mut Revision, revision: Revision, record: Result<R, Doubt>) -> Result<R, Doubt> {
    match record {
        // Sound once, but not the last state that was written: as good as edited.
        Ok(_) if revision < *latest => Err(Doubt::Tampered),
        Ok(record) => {
            *latest = revision;
            Ok(record)
        }
        doubted => doubted,
    }
}

/// The versions of a key, from its first place.
fn family(replica: &Replica, first: u32) -> impl Iterator<Item = (u32, &Entry)> {
    let at = |position: u32| replica.slab.get(position).map(|entry| (position, entry));
    std::iter::successors(at(first), move |(_, entry)| at(entry.next()?))
}
