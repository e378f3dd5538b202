//! The desk at which the lines of an import are decided: each by itself, with what is in the store.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use crate::crypto;
use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::id::{KeyId, KeyName, OwnerId, RoleName};
use crate::import::{
    ForeignKey, ForeignSecret, ImportSource, LineOutcome, LineProblem, LineReport, SourceError,
};
use crate::imported::{self, ForeignDigest, ImportedMark, Strength, WeakAction};
use crate::key::KeyRecord;
use crate::keyring::Keyring;
use crate::lifecycle::{self, Family, Minted};
use crate::limit::Limits;
use crate::manager::act::{Attempt, settings};
use crate::manager::import::{Terms, fresh_id};
use crate::manager::issue::enter_owner;
use crate::owner::{OwnerRecord, RoleRecord};
use crate::policy::{DeploymentSettings, OwnerLimit};
use crate::records::{KeyState, Record as _, Records, insert_family, version_of_row_id};
use crate::request::Operation;
use crate::store::{Revision, RowFilter, RowKind};
use crate::time::Timestamp;
use crate::token::{Locator, Prefix};

/// Some lines of a source, to be decided together.
pub(crate) struct Batch {
    number: u64,
    lines: Vec<(u64, Result<Named, LineProblem>)>,
}

/// A key of another system, with the locator that it gets.
pub(crate) struct Named {
    pub(crate) key: Box<ForeignKey>,
    pub(crate) secret: ForeignSecret,
    foreign: ForeignDigest,
    locator: Locator,
}

impl Named {
    pub(crate) fn new(mut key: Box<ForeignKey>, keyring: &Keyring) -> Result<Self, LineProblem> {
        let secret = key.secret.take().ok_or(LineProblem::NoSecret)?;
        let foreign = secret.digest();
        let keys = keyring.current_keys();
        let locator = imported::locator(&imported::wrapped(&foreign, keyring.current(), keys), keys);
        Ok(Self { key, secret, foreign, locator })
    }

    /// What its version stores.
    fn minted(&self, keyring: &Keyring) -> Minted {
        let (current, keys) = (keyring.current(), keyring.current_keys());
        let digest = match &self.secret {
            ForeignSecret::Token(token) => imported::keyed(token.expose(), current, keys),
            ForeignSecret::Digest(digest) => imported::wrapped(digest, current, keys),
        };
        Minted { locator: self.locator, digest, fingerprint: digest.fingerprint(keys) }
    }
}

impl Batch {
    /// The next lines of a source.
    pub(crate) fn read(
        source: &mut ImportSource<'_>,
        keyring: &Keyring,
        number: u64,
        size: usize,
    ) -> Result<Option<Self>, SourceError> {
        let mut lines = Vec::with_capacity(size);
        while lines.len() < size
            && let Some(line) = source.next()?
        {
            lines.push((line.number, line.key.and_then(|key| Named::new(key, keyring))));
        }
        Ok((!lines.is_empty()).then_some(Self { number, lines }))
    }

    /// A single key.
    pub(crate) fn of(named: Named) -> Self {
        Self { number: 0, lines: vec![(1, Ok(named))] }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().map(|(number, _)| *number)
    }

    /// What it is recognised by: the locators, which say nothing of the secrets.
    pub(crate) fn operation(&self, terms: &Terms) -> Operation {
        let locators: Vec<_> =
            self.lines.iter().map(|(_, key)| key.as_ref().ok().map(|key| key.locator)).collect();
        Operation::new("import", &(self.number, terms, locators))
    }
}

/// What became of a batch.
pub(crate) enum Written {
    Now(Vec<LineOutcome>),
    /// It was written before, under the same request id.
    Before,
    /// Some lines cannot be imported, and none is to be left out.
    Nothing(Vec<LineReport>),
}

/// How many keys of an owner count, as of a revision of its row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) keys: u32,
    pub(crate) at: Revision,
}

impl Counted {
    /// Of how many owners this is remembered.
    pub(crate) const KEPT: usize = 10_000;
}

/// An owner, with its keys.
struct Place {
    stored: Option<(OwnerRecord, Revision)>,
    limit: OwnerLimit,
    keys: u32,
    added: bool,
}

/// What the lines of a batch, or all lines of a source, are decided on.
pub(crate) struct Desk<'a> {
    records: &'a Records,
    terms: &'a Terms,
    prefix: Prefix,
    settings: DeploymentSettings,
    t: Timestamp,
    roles: HashMap<RoleName, bool>,
    owners: HashMap<OwnerId, Place>,
    /// How many keys the lines of a long source have added to each owner, by a hash of its name: there may be as many
    /// owners as lines.
    added: Option<HashMap<[u8; 16], u32>>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        records: &'a Records,
        terms: &'a Terms,
        prefix: Prefix,
        t: Timestamp,
        is_long: bool,
    ) -> Result<Self, ManageError> {
        let settings = settings(records)?;
        let (roles, owners) = (HashMap::new(), HashMap::new());
        let added = is_long.then(HashMap::new);
        Ok(Self { records, terms, prefix, settings, t, roles, owners, added })
    }

    /// What would become of lines, of which those before have been seen.
    pub(crate) fn look(
        &mut self,
        batch: &Batch,
        seen: &mut HashSet<Locator>,
        is_before: bool,
    ) -> Result<Vec<LineOutcome>, ManageError> {
        if self.owners.len() > Counted::KEPT {
            self.owners.clear();
        }
        let id = fresh_id(self.t)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (number, line) in &batch.lines {
            outcomes.push(match line {
                _ if is_before => LineOutcome::Before,
                Err(problem) => problem.clone().into(),
                Ok(named) if !seen.insert(named.locator) => LineProblem::Repeated.into(),
                Ok(named) => match self.decide(named, id, *number, &HashMap::new())? {
                    Ok(_) => LineOutcome::Sound { strength: named.secret.strength() },
                    Err(problem) => problem.into(),
                },
            });
            if let (Ok(named), true) = (line, is_before) {
                seen.insert(named.locator);
            }
        }
        Ok(outcomes)
    }

    /// Decides on a batch, and has it written.
    pub(crate) fn write(
        attempt: &mut Attempt<'_>,
        batch: &Batch,
        terms: &Terms,
        prefix: Prefix,
        skips: bool,
        counted: &HashMap<OwnerId, Counted>,
    ) -> Result<(Written, HashMap<OwnerId, u32>), ManageError> {
        let mut desk = Desk::new(attempt.records, terms, prefix, attempt.t, false)?;
        let mut ids = (0..batch.len()).map(|_| fresh_id(attempt.t)).collect::<Result<Vec<_>, _>>()?;
        // In their order, as a store keeps them.
        ids.sort_unstable();
        let mut seen = HashSet::new();
        let (mut outcomes, mut families) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for ((number, line), id) in batch.lines.iter().zip(ids) {
            outcomes.push(match line {
                Err(problem) => problem.clone().into(),
                Ok(named) if !seen.insert(named.locator) => LineProblem::Repeated.into(),
                Ok(named) => match desk.decide(named, id, *number, counted)? {
                    Ok(family) => {
                        families.push(family);
                        LineOutcome::Imported { key: id, strength: named.secret.strength() }
                    }
                    Err(problem) => problem.into(),
                },
            });
        }
        let is_bad = |outcome: &LineOutcome| matches!(outcome, LineOutcome::Skipped(_));
        if !skips && outcomes.iter().any(is_bad) {
            let bad = batch.numbers().zip(outcomes).filter(|(_, outcome)| is_bad(outcome));
            let bad = bad.map(|(line, outcome)| LineReport { line, outcome }).collect();
            return Ok((Written::Nothing(bad), HashMap::new()));
        }
        let owners = desk.owners;
        let places = owners.iter().filter(|(_, place)| place.added);
        let places = places.map(|(owner, place)| (*owner, place.keys)).collect();
        if let (Some(first), Some(last)) = (families.first(), families.last()) {
            let (first, last) = (first.key.id, last.key.id);
            let new = owners.values().filter(|place| place.added && place.stored.is_none()).count();
            let subject = format!("{} keys, {first} to {last}; {new} new owners", families.len());
            attempt.changeset.record(Event::of_subject(
                attempt.t,
                EventKind::KeysImported,
                attempt.context,
                &subject,
            ));
            attempt.concerns(first, None);
        }
        for (owner, place) in owners.into_iter().filter(|(_, place)| place.added) {
            place.write(owner, attempt)?;
        }
        families.iter().for_each(|family| insert_family(family, &mut attempt.changeset));
        Ok((Written::Now(outcomes), places))
    }

    /// Whether a line becomes a key, and which.
    fn decide(
        &mut self,
        named: &Named,
        id: KeyId,
        line: u64,
        counted: &HashMap<OwnerId, Counted>,
    ) -> Result<Result<Family, LineProblem>, ManageError> {
        let strength = named.secret.strength();
        if strength == Strength::Weak && self.terms.weak == WeakAction::Refuse {
            return Ok(Err(LineProblem::Weak));
        }
        let Some(owner) = named.key.owner.or(self.terms.owner) else { return Ok(Err(LineProblem::NoOwner)) };
        let role = named.key.role.as_ref().or(self.terms.role.as_ref());
        if let Some(role) = role
            && !self.is_role(role)?
        {
            return Ok(Err(LineProblem::UnknownRole));
        }
        if let Some(key) = self.known(named)? {
            return Ok(Err(LineProblem::Known(key)));
        }
        let family = match self.family(named, id, line, owner, role.cloned(), strength) {
            Ok(family) => family,
            Err(problem) => return Ok(Err(problem)),
        };
        let counts = family.live(self.t).next().is_some();
        Ok(self.take_place(owner, counts, counted)?.map_or(Ok(family), Err))
    }

    fn family(
        &self,
        named: &Named,
        id: KeyId,
        line: u64,
        owner: OwnerId,
        role: Option<RoleName>,
        strength: Strength,
    ) -> Result<Family, LineProblem> {
        let key = &named.key;
        let name = match &key.name {
            Some(name) => name.clone(),
            None => KeyName::new(format!("imported {line}"))?,
        };
        let is_urgent = strength == Strength::Weak && self.terms.weak == WeakAction::Rotate;
        let enrols = is_urgent || self.terms.rotate_within.is_some();
        let record = KeyRecord {
            id,
            owner,
            name,
            prefix: self.prefix,
            scopes: key.scopes.clone().or(self.terms.scopes.clone()).unwrap_or_default(),
            role,
            limits: Limits::NONE,
            networks: None,
            metadata: key.metadata.clone(),
            policy: None,
            issued_at: key.state.created_at.unwrap_or(self.t).min(self.t),
            never_expires: false,
            hard_end: key.hard_end,
            revoked_at: None,
            auto_rotation: Some(enrols),
            rotates: enrols,
            lapsed: false,
            next_attempt_at: None,
            successor_by: None,
            open_rotation: None,
        };
        // The lower bits of an id are random: what is spread by them is spread evenly.
        let share = (u128::from(id) & 0xFFFF) as u32;
        let within = |time: std::time::Duration| self.t.plus(time / 0x1_0000 * share).ok();
        let rotate_at = self.terms.rotate_within.and_then(within);
        let rotate_at = if is_urgent { Some(self.t) } else { rotate_at };
        let mark = ImportedMark { form: named.foreign.form(), strength, weak: self.terms.weak };
        let minted = named.minted(&self.records.keyring);
        let policy = &self.settings.policy;
        Ok(lifecycle::import(record, &key.state, (minted, mark), rotate_at, policy, self.t)?)
    }

    fn is_role(&mut self, role: &RoleName) -> Result<bool, ManageError> {
        if let Some(known) = self.roles.get(role) {
            return Ok(*known);
        }
        let known = self.records.get::<RoleRecord>(role.as_str())?.is_some();
        self.roles.insert(role.clone(), known);
        Ok(known)
    }

    /// The key that has this secret already, under whichever generation it was named.
    fn known(&self, named: &Named) -> Result<Option<KeyId>, ManageError> {
        let keyring = &self.records.keyring;
        let mut found = None;
        for generation in keyring.generations() {
            let Some(keys) = keyring.keys(generation) else { continue };
            let locator = match generation == keyring.current() {
                true => named.locator,
                false => imported::locator(&imported::wrapped(&named.foreign, generation, keys), keys),
            };
            self.records.store.find(RowKind::Version, locator.as_str(), &mut |row| {
                // One that was edited holds its place all the same.
                found = Some(version_of_row_id(row.id).map_or(KeyId::from(0), |(key, _)| key));
            })?;
        }
        Ok(found)
    }

    /// Takes a place among the owner's keys, or says why there is none.
    fn take_place(
        &mut self,
        owner: OwnerId,
        counts: bool,
        counted: &HashMap<OwnerId, Counted>,
    ) -> Result<Option<LineProblem>, ManageError> {
        if !self.owners.contains_key(&owner) {
            let place = self.place(owner, counted)?;
            self.owners.insert(owner, place);
        }
        let Some(place) = self.owners.get_mut(&owner) else { return Ok(None) };
        if place.stored.as_ref().is_some_and(|(record, _)| record.suspended) {
            return Ok(Some(LineProblem::OwnerSuspended));
        }
        if counts {
            let is_free = place.keys < place.limit.get();
            let raised = OwnerLimit::new(place.keys + 1).ok().filter(|_| self.terms.raise_limits);
            match raised {
                _ if is_free => {}
                Some(raised) => place.limit = raised,
                None => return Ok(Some(LineProblem::OwnerLimit { limit: place.limit.get() })),
            }
            place.keys += 1;
            if let Some(added) = &mut self.added {
                *added.entry(hash(owner)).or_default() += 1;
            }
        }
        place.added = true;
        Ok(None)
    }

    fn place(&self, owner: OwnerId, counted: &HashMap<OwnerId, Counted>) -> Result<Place, ManageError> {
        let stored = self.records.get::<OwnerRecord>(owner.as_str())?;
        let stored = stored.map(|stored| (stored.record, stored.revision));
        let limit = stored.as_ref().and_then(|(record, _)| record.limit).unwrap_or(self.settings.owner_limit);
        let known = counted.get(&owner).filter(|known| Some(known.at) == stored.as_ref().map(|(_, at)| *at));
        let mut keys = known.map_or(0, |known| known.keys);
        if known.is_none() && stored.is_some() {
            let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
            self.records.store.scan(RowKind::Key, filter, &mut |row| {
                // An edited row still holds its place: editing must not make room.
                let counts =
                    KeyState::counts(&row.index, self.t) || row.verify(&self.records.keyring).is_err();
                keys += u32::from(counts);
                ControlFlow::Continue(())
            })?;
        }
        keys += self.added.as_ref().and_then(|added| added.get(&hash(owner))).copied().unwrap_or(0);
        Ok(Place { stored, limit, keys, added: false })
    }
}

impl Place {
    /// Writes the owner's row, so that of several who add keys at once one succeeds and the others count again.
    fn write(self, owner: OwnerId, attempt: &mut Attempt<'_>) -> Result<(), ManageError> {
        let raised = |record: OwnerRecord, default: OwnerLimit| {
            let limit = record.limit.unwrap_or(default);
            OwnerRecord { limit: (self.limit > limit).then_some(self.limit).or(record.limit), ..record }
        };
        let default = attempt.settings()?.owner_limit;
        match self.stored {
            None => enter_owner(attempt, &raised(OwnerRecord::new(owner), default)),
            Some((record, revision)) => {
                attempt.changeset.replace(raised(record, default).draft(), revision);
                Ok(())
            }
        }
    }
}

fn hash(owner: OwnerId) -> [u8; 16] {
    crypto::sha256(owner.as_str().as_bytes()).first_chunk().copied().unwrap_or_default()
}
