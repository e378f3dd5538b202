//! The verdict: who presented this token, and may they now?

use std::sync::atomic::Ordering;

use crate::crypto;
use crate::digest::SecretDigest;
use crate::keyring::Generation;
use crate::scope::ScopeSet;
use crate::time::Timestamp;
use crate::token::PresentedToken;
use crate::validate::Inner;
use crate::validate::denial::{Denial, DenialReason, Unavailable};
use crate::validate::facts::{Bounds, Owner, Profile, Standing};
use crate::validate::grant::{Demand, Grant};
use crate::validate::marks::{Marked, Snapshot};
use crate::validate::replica::Replica;
use crate::validate::slab::{Entry, Facts, KeyState, State};

/// What the replica said of a version, all of it at one moment.
struct View<'a> {
    facts: Facts,
    owner: Option<&'a Owner>,
    standing: Standing,
    profile: Option<&'a Profile>,
    bounds: Bounds,
    high_water: Timestamp,
}

/// How long an ended version is still answered by its reason.
const KEPT: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

impl<'a> View<'a> {
    #[inline]
    fn of(replica: &'a Replica, entry: &Entry) -> Self {
        let facts = entry.facts();
        let owner = replica.shared.owner(facts.owner);
        let standing = owner.map_or(Standing::Missing, Owner::standing);
        let profile = replica.shared.profile(facts.profile);
        let ceiling = match standing {
            Standing::Sound { ceiling, .. } => ceiling,
            Standing::Missing | Standing::Behind(_) => None,
        };
        let bounds = Bounds { granted: profile.map_or(u32::MAX, Profile::granted), ceiling };
        Self { facts, owner, standing, profile, bounds, high_water: replica.high_water() }
    }

    /// Its key and owner as they are believed: the owner, and whether it is suspended.
    #[inline]
    fn owner(&self) -> Result<(&'a Owner, bool), DenialReason> {
        let behind = |generation| DenialReason::Unavailable(Unavailable::KeyringBehind(generation));
        if let Some(generation) = self.facts.missing_of_key() {
            return Err(behind(generation));
        }
        match (self.facts.key_state, self.standing, self.owner) {
            (KeyState::Missing, ..) | (_, Standing::Missing, _) | (.., None) => Err(DenialReason::Tampered),
            (_, Standing::Behind(generation), _) => Err(behind(generation)),
            (_, Standing::Sound { suspended, .. }, Some(owner)) => Ok((owner, suspended)),
        }
    }

    /// Whether a token begins as its key's tokens do. Where the key cannot be believed, the verdict says so.
    #[inline]
    fn has_prefix(&self, prefix: &[u8]) -> bool {
        let believed = matches!(self.facts.key_state, KeyState::Sound | KeyState::Revoked);
        !believed || self.profile.is_some_and(|profile| profile.traits.prefix.as_str().as_bytes() == prefix)
    }

    fn denied(&self, reason: DenialReason) -> Denial {
        match reason {
            DenialReason::Unavailable(why) => Denial::unavailable(why),
            reason => Denial::of(reason, self.facts.key, self.facts.version),
        }
    }
}

impl Inner {
    /// Whether a token is valid now and allows what is demanded; counts the answer.
    pub(super) fn validate(&self, token: &[u8], demand: Demand<'_>) -> Result<Grant, Denial> {
        let replica = &self.follower.replica;
        // What the token names is on its way from memory while the rest of it is checked.
        let token = PresentedToken::parse_noting(token, |locator| replica.prefetch_index(locator.words()))
            .map_err(|_| Denial::UNKNOWN)?;
        // Before the replica: a mark that is lifted meanwhile may be lifted for what this replica does not show yet.
        let marked = self.marks.snapshot();
        let (view, position) = self.authenticate(&token)?;
        let t = self.clock.now().max(view.high_water);
        let result = self.judge(&view, [marked, self.marks.snapshot()], demand, t);
        match &result {
            Ok(_) => replica.slab.count(position, t),
            Err(denial) => {
                if let (Some(key), Some(version)) = (denial.key(), denial.version()) {
                    self.counts.denied(key, version);
                }
            }
        }
        result
    }

    /// The version whose secret was presented, as the store has it now. All that is not it looks and takes alike: the
    /// same hashes, the same comparison. While more than one generation is held, everybody is hashed twice, so that the
    /// time does not tell a locator of an older generation from an unknown one.
    #[inline]
    fn authenticate(&self, token: &PresentedToken<'_>) -> Result<(View<'_>, u32), Denial> {
        let keyring = &self.records.keyring;
        let current = keyring.current();
        let locator = token.locator.words();
        self.follower.replica.prefetch_entry(locator);
        let hash = |generation: Generation| {
            let behind = Denial::unavailable(Unavailable::KeyringBehind(generation));
            Ok(SecretDigest::of(token, generation, keyring.keys(generation).ok_or(behind)?).words())
        };
        let under_current = hash(current)?;
        let found = self.consistently(|replica| {
            let position = replica.position_of(locator)?;
            Some((View::of(replica, replica.slab.get(position)?), position))
        })?;
        let (generation, stored) = match &found {
            Some((View { facts: Facts { state: State::Behind, generation, .. }, .. }, _)) => {
                return Err(Denial::unavailable(Unavailable::KeyringBehind(*generation)));
            }
            Some((View { facts: Facts { state: State::Tampered | State::Absent, .. }, .. }, _)) | None => {
                (current, [0; 4])
            }
            Some((View { facts, .. }, _)) => (facts.generation, facts.digest),
        };
        let other = if generation == current {
            keyring.generations().find(|held| *held != current)
        } else {
            Some(generation)
        };
        let under_other = other.map(hash).transpose()?;
        let presented =
            if generation == current { under_current } else { under_other.unwrap_or(under_current) };
        let matches = crypto::ct_eq_words(presented, stored);
        found.filter(|(view, _)| matches && view.has_prefix(token.prefix)).ok_or(Denial::UNKNOWN)
    }

    /// What a look at the replica shows, all of it at one moment, which is not before this call.
    #[inline]
    fn consistently<'a, T>(&'a self, look: impl Fn(&'a Replica) -> T) -> Result<T, Denial> {
        let replica = &self.follower.replica;
        let mut caught_up = false;
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Denial::unavailable(Unavailable::Closed));
            }
            let stamp = if caught_up { None } else { Some(self.stamp()?) };
            if let Some(seen) = replica.sequence.begin()
                && stamp.map_or_else(|| replica.is_whole(), |stamp| replica.is_at(&stamp))
            {
                let shown = look(replica);
                if replica.sequence.holds(seen) {
                    return Ok(shown);
                }
            } else {
                self.follower.catch_up(&self.records).map_err(Denial::unavailable)?;
                caught_up = true;
            }
        }
    }

    /// Brings the replica up to date.
    pub(super) fn catch_up(&self) -> Result<(), Denial> {
        self.consistently(|_| ())
    }

    /// What to answer to whoever presented the right secret, in the order of LIFECYCLE §2.
    #[inline]
    fn judge(
        &self,
        view: &View<'_>,
        marks: [Option<Snapshot>; 2],
        demand: Demand<'_>,
        t: Timestamp,
    ) -> Result<Grant, Denial> {
        let Facts { key, version, end, deprecated_at, .. } = view.facts;
        let (owner, suspended) = view.owner().map_err(|reason| view.denied(reason))?;
        if end.is_some_and(|end| end.plus(KEPT).is_ok_and(|forgotten| t >= forgotten)) {
            return Err(Denial::UNKNOWN);
        }
        let mut marked = Marked::default();
        marks.iter().for_each(|marks| marked.add(marks.as_ref(), key, version, owner.id));
        if marked.revoked {
            return Err(view.denied(DenialReason::Revoked));
        }
        if let Some(refusal) = view.facts.validity().refusal(suspended || marked.suspended, t) {
            return Err(view.denied(refusal.into()));
        }
        let shared = &self.follower.replica.shared;
        if demand.demanded_scope().is_some_and(|scope| !shared.covers(view.bounds, scope)) {
            return Err(view.denied(DenialReason::Scope));
        }
        Ok(Grant { key, version, owner: owner.id, valid_until: end, deprecated_at })
    }

    /// Judges a grant that was given earlier, with the bounds of its scopes.
    pub(super) fn judge_again(&self, grant: &Grant) -> Result<Grant, Denial> {
        let marked = self.marks.snapshot();
        let view = self.view_of(grant)?;
        match view.facts.state {
            State::Behind => {
                return Err(Denial::unavailable(Unavailable::KeyringBehind(view.facts.generation)));
            }
            State::Tampered => return Err(view.denied(DenialReason::Tampered)),
            _ => {}
        }
        let t = self.clock.now().max(view.high_water);
        self.judge(&view, [marked, self.marks.snapshot()], Demand::NOTHING, t)
    }

    /// The scopes that a grant's key holds now.
    pub(super) fn scopes_of(&self, grant: &Grant) -> Result<ScopeSet, Denial> {
        let view = self.view_of(grant)?;
        view.owner().map_err(|reason| view.denied(reason))?;
        Ok(self.follower.replica.shared.scopes(view.bounds))
    }

    /// What the replica shows of a version that is known by its name instead of its token.
    fn view_of(&self, grant: &Grant) -> Result<View<'_>, Denial> {
        self.catch_up()?;
        let replica = &self.follower.replica;
        let position =
            self.follower.with_keeper(|keeper| keeper.position_of(replica, grant.key, grant.version));
        let position = position.ok_or(Denial::UNKNOWN)?;
        let view =
            self.consistently(|replica| replica.slab.get(position).map(|entry| View::of(replica, entry)))?;
        let is_it = |view: &View<'_>| {
            (view.facts.key, view.facts.version) == (grant.key, grant.version)
                && view.facts.state != State::Absent
        };
        view.filter(is_it).ok_or(Denial::UNKNOWN)
    }
}
