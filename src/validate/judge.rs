//! The verdict: who presented this token, and may they now?

mod imported;

use std::sync::atomic::Ordering;

use crate::crypto;
use crate::digest::SecretDigest;
use crate::imported::Upgrade;
use crate::keyring::{Generation, GenerationKeys};
use crate::limit::LimitStatus;
use crate::scope::ScopeSet;
use crate::time::Timestamp;
use crate::token::{Locator, PresentedToken};
#[cfg(test)]
use crate::validate::constant_time;
use crate::validate::denial::{Denial, DenialReason, Unavailable};
use crate::validate::entry::{Entry, Facts, KeyState, State};
use crate::validate::facts::{Bounds, Owner, Profile, Standing};
use crate::validate::grant::{Demand, Grant};
use crate::validate::leeway::Leeway;
use crate::validate::marks::{Marked, Snapshot};
use crate::validate::replica::{Place, Replica};
use crate::validate::sequence::Seen;
use crate::validate::till::{NotCharged, Till};
use crate::validate::{Inner, heat, stripes};

/// What the replica said of a version, all of it at one moment.
struct View<'a> {
    facts: Facts,
    owner: Option<&'a Owner>,
    standing: Standing,
    profile: Option<&'a Profile>,
    bounds: Bounds,
    high_water: Timestamp,
}

/// What a token's locator led to.
struct Found<'a> {
    view: View<'a>,
    place: Place<'a>,
    /// Whether it has that locator; else it is somebody's, and only looked at.
    is_it: bool,
}

/// How often a till that has moved is looked for again: it moves when a hot key is given stripes, and hardly ever.
const REMOVALS: usize = 64;

/// How long an ended version is still answered by its reason.
const KEPT: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

impl<'a> View<'a> {
    #[inline(always)]
    fn of(replica: &'a Replica, entry: &'a Entry) -> Self {
        let facts = entry.facts();
        let owner = replica.shared.owner(facts.owner());
        let standing = owner.map_or(Standing::Missing, Owner::standing);
        let profile = replica.shared.profile(facts.profile());
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
        match (self.facts.key_state(), self.standing, self.owner) {
            (KeyState::Missing, ..) | (_, Standing::Missing, _) | (.., None) => Err(DenialReason::Tampered),
            (_, Standing::Behind(generation), _) => Err(behind(generation)),
            (_, Standing::Sound { suspended, .. }, Some(owner)) => Ok((owner, suspended)),
        }
    }

    /// Whether a token begins as its key's tokens do. Where the key cannot be believed, the verdict says so.
    #[inline]
    fn begins(&self, token: &PresentedToken<'_>) -> bool {
        let believed = matches!(self.facts.key_state(), KeyState::Sound | KeyState::Revoked);
        !believed || self.profile.is_some_and(|profile| token.has_prefix(&profile.traits.prefix))
    }

    #[inline]
    fn grant(&self, owner: &Owner, limit: Option<LimitStatus>, t: Timestamp) -> Grant {
        let (key, version, valid_until) = (self.facts.key(), self.facts.version(), self.facts.end());
        Grant { key, version, owner: owner.id, valid_until, following: self.facts.following().at(t), limit }
    }

    fn denied(&self, reason: DenialReason) -> Denial {
        match reason {
            DenialReason::Unavailable(why) => Denial::unavailable(why),
            reason => Denial::of(reason, self.facts.key(), self.facts.version()),
        }
    }
}

impl Inner {
    /// Whether a token is valid now and allows what is demanded; counts the answer.
    pub(super) fn validate(&self, token: &[u8], demand: Demand<'_>) -> Result<Grant, Denial> {
        let replica = &self.follower.replica;
        // What the token names is on its way from memory while the rest of it is checked.
        let parsed = PresentedToken::parse_noting(token, |locator| replica.prefetch_index(locator.words()));
        let Ok(token) = parsed else { return self.validate_other(token, demand) };
        // Before the replica: a mark that is lifted meanwhile may be lifted for what this replica does not show yet.
        let marked = self.marks.snapshot();
        let mut found = None;
        let now = self
            .authenticate(&token, &mut found)
            .inspect_err(|denial| self.failed(denial, &demand, Some(token.locator)))?;
        let Some(found) = &found else { return Err(Denial::UNKNOWN) };
        let view = &found.view;
        let t = now.max(view.high_water);
        match self.decide(found, [marked, self.marks.snapshot()], demand, t) {
            Ok((owner, limit)) => {
                if view.facts.generation() < self.records.keyring.current() {
                    self.offer_digest(&token, view);
                }
                Ok(view.grant(owner, limit, t))
            }
            Err(denial) => {
                self.counts.denied(&denial);
                self.failed(&denial, &demand, Some(token.locator));
                Err(denial)
            }
        }
    }

    /// Has the digest under the current generation written by the next flush, in place of one of an older generation.
    #[cold]
    #[inline(never)]
    fn offer_digest(&self, token: &PresentedToken<'_>, view: &View<'_>) {
        let keyring = &self.records.keyring;
        self.upgrades.offer((view.facts.key(), view.facts.version()), || Upgrade {
            digest: SecretDigest::of(token, keyring.current(), keyring.current_keys()),
            imported: None,
        });
    }

    /// Counts a denial for the signals.
    #[cold]
    #[inline(never)]
    fn failed(&self, denial: &Denial, demand: &Demand<'_>, locator: Option<Locator>) {
        self.signals.denied(denial, demand.counted_as(), locator);
    }

    /// Whether the version is valid, may do what is demanded, and is within its limits; if so, the use is counted.
    #[inline(always)]
    fn decide<'a>(
        &self,
        found: &Found<'a>,
        marks: [Option<Snapshot>; 2],
        demand: Demand<'_>,
        t: Timestamp,
    ) -> Result<(&'a Owner, Option<LimitStatus>), Denial> {
        let owner = self.judge(&found.view, marks, t)?;
        self.admit(&found.view, demand)?;
        Ok((owner, self.charge(found, t, demand.uses())?))
    }

    /// The version whose secret was presented, as the store has it now. All that is not it looks and takes alike: the
    /// same hashes, the same comparison. While more than one generation is held, everybody is hashed twice, so that the
    /// time does not tell a locator of an older generation from an unknown one.
    ///
    /// What was found stays where it was put: it is several cache lines, and each move of it takes as long as the window
    /// does to check.
    ///
    /// Tells the time, which is read at the beginning: to read it is to wait for all that was begun before, and so it is
    /// done while little is; what the token names comes from memory meanwhile.
    #[inline(always)]
    fn authenticate<'a>(
        &'a self,
        token: &PresentedToken<'_>,
        found: &mut Option<Found<'a>>,
    ) -> Result<Timestamp, Denial> {
        let keyring = &self.records.keyring;
        let current = keyring.current();
        let locator = token.locator.words();
        let before = self.follower.replica.sequence.begin();
        let begun = self.clock.now();
        let likely = self.follower.replica.likely(locator);
        let hash = |generation: Generation, keys: &GenerationKeys| {
            let digest = SecretDigest::of(token, generation, keys);
            #[cfg(test)]
            let digest = constant_time::hidden(digest);
            digest.words()
        };
        let under_current = hash(current, keyring.current_keys());
        let now = self.consistently(|replica, seen| {
            let is = replica.find(locator, likely.as_ref(), before == Some(seen));
            // Whoever had to wait for a change has the time of after it.
            let now = if before == Some(seen) { begun } else { self.clock.now() };
            // Where there is none, somebody else's is looked at: as much work, and no more than that.
            let place = is.or(likely.map(|likely| likely.place));
            *found =
                place.map(|place| Found { view: View::of(replica, place.entry), place, is_it: is.is_some() });
            now
        })?;
        let (generation, stored) = match &*found {
            Some(Found { view: View { facts, .. }, is_it, .. }) => match facts.state() {
                State::Behind if *is_it => {
                    return Err(Denial::unavailable(Unavailable::KeyringBehind(facts.generation())));
                }
                _ if !facts.has_digest() => (current, [0; 4]),
                // What never validates again needs no master key to be denied.
                _ if facts.is_over() && keyring.keys(facts.generation()).is_none() => (current, [0; 4]),
                _ => (facts.generation(), facts.digest()),
            },
            None => (current, [0; 4]),
        };
        let other = if generation == current { keyring.other() } else { Some(generation) };
        let presented = match other {
            None => under_current,
            Some(other) => {
                let behind = || Denial::unavailable(Unavailable::KeyringBehind(other));
                let under_other = hash(other, keyring.keys(other).ok_or_else(behind)?);
                if generation == current { under_current } else { under_other }
            }
        };
        let matches = crypto::ct_eq_words(presented, stored);
        #[cfg(test)]
        let matches = constant_time::disclosed(matches);
        match found {
            Some(Found { view, is_it: true, .. }) if matches && view.begins(token) => Ok(now),
            _ => Err(Denial::UNKNOWN),
        }
    }

    /// What a look at the replica shows, all of it at one moment, which is not before this call, or by less than the
    /// leeway.
    #[inline(always)]
    fn consistently<'a, T>(&'a self, look: impl FnMut(&'a Replica, Seen) -> T) -> Result<T, Denial> {
        let leeway = self.leeway.as_ref().map(|leeway| (leeway, self.clock.now()));
        self.consistently_within(leeway, look)
    }

    #[inline(always)]
    fn consistently_within<'a, T>(
        &'a self,
        leeway: Option<(&Leeway, Timestamp)>,
        mut look: impl FnMut(&'a Replica, Seen) -> T,
    ) -> Result<T, Denial> {
        let replica = &self.follower.replica;
        let mut ask = !leeway.is_some_and(|(leeway, now)| leeway.covers(now));
        let mut asked = false;
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Denial::unavailable(Unavailable::Closed));
            }
            let stamp = if ask { Some(self.stamp()?) } else { None };
            asked |= ask;
            if let Some(seen) = replica.sequence.begin()
                && stamp.map_or_else(|| replica.is_whole(), |stamp| replica.is_at(&stamp))
            {
                let shown = look(replica, seen);
                if replica.sequence.holds(seen) {
                    if let (Some((leeway, now)), true) = (leeway, asked) {
                        leeway.note(now);
                    }
                    return Ok(shown);
                }
            } else {
                self.follower.catch_up(&self.records).map_err(Denial::unavailable)?;
                // What was read then is of after this call's beginning, whatever has been committed since.
                (ask, asked) = (false, true);
            }
        }
    }

    /// Brings the replica up to date.
    pub(super) fn catch_up(&self) -> Result<(), Denial> {
        self.consistently_within(None, |_, _| ())
    }

    /// Whether a version is valid, whatever is demanded of it; in the order of LIFECYCLE §2.
    #[inline(always)]
    fn judge<'a>(
        &self,
        view: &View<'a>,
        marks: [Option<Snapshot>; 2],
        t: Timestamp,
    ) -> Result<&'a Owner, Denial> {
        let facts = &view.facts;
        let (owner, suspended) = view.owner().map_err(|reason| view.denied(reason))?;
        if facts.end().is_some_and(|end| end.plus(KEPT).is_ok_and(|forgotten| t >= forgotten)) {
            return Err(Denial::UNKNOWN);
        }
        let mut marked = Marked::default();
        for marks in marks.iter().flatten() {
            marked.add(marks, facts.key(), facts.version(), owner.id);
        }
        if marked.revoked {
            return Err(view.denied(DenialReason::Revoked));
        }
        if let Some(refusal) = facts.validity().refusal(suspended || marked.suspended, t) {
            return Err(view.denied(refusal.into()));
        }
        Ok(owner)
    }

    /// Whether a version that is valid may do this from there.
    #[inline]
    fn admit(&self, view: &View<'_>, demand: Demand<'_>) -> Result<(), Denial> {
        let allowed = view.profile.and_then(|profile| profile.traits.networks.as_ref());
        if allowed.is_some_and(|networks| !demand.address().is_some_and(|from| networks.contains(from))) {
            return Err(view.denied(DenialReason::Network));
        }
        let shared = &self.follower.replica.shared;
        if demand.demanded_scope().is_some_and(|scope| !shared.covers(view.bounds, scope)) {
            return Err(view.denied(DenialReason::Scope));
        }
        Ok(())
    }

    /// Charges a request that is granted otherwise to its key's limits, and counts it.
    #[inline]
    fn charge(&self, found: &Found<'_>, t: Timestamp, cost: u32) -> Result<Option<LimitStatus>, Denial> {
        let (Found { view, place, .. }, replica) = (found, &self.follower.replica);
        for _ in 0..REMOVALS {
            let mut till = Till::of(replica, place.entry);
            let charged = view.profile.map_or(Ok(None), |profile| till.charge(profile, t, cost));
            match charged {
                Ok(limit) => {
                    let count = till.count(place, t);
                    // Let go of first: who gives a key stripes waits until nobody is at them.
                    drop(till);
                    match count {
                        Some(0) => replica.slab.note(place.position),
                        Some(count) if count % heat::USES == heat::USES - 1 => self.warm(place.position, t),
                        _ => {}
                    }
                    return Ok(limit);
                }
                Err(NotCharged::Refused(reason, status)) => {
                    return Err(view.denied(reason).with_limit(status));
                }
                Err(NotCharged::Moved) => {}
            }
        }
        Err(Denial::unavailable(Unavailable::Timeout))
    }

    /// Counts a version elsewhere from now on, if it is used so much by several threads that they wait for each other.
    #[cold]
    #[inline(never)]
    fn warm(&self, position: u32, t: Timestamp) {
        if self.heat.note(position, t, stripes::this_thread()) {
            let replica = &self.follower.replica;
            let _busy = self.follower.try_with_keeper(|keeper| keeper.stripe(replica, position));
        }
    }

    /// Judges a grant that was given earlier, with the bounds of its scopes.
    pub(super) fn judge_again(&self, grant: &Grant) -> Result<Grant, Denial> {
        let marked = self.marks.snapshot();
        let view = self.view_of(grant)?;
        match view.facts.state() {
            State::Behind => {
                return Err(Denial::unavailable(Unavailable::KeyringBehind(view.facts.generation())));
            }
            State::Tampered => return Err(view.denied(DenialReason::Tampered)),
            _ => {}
        }
        let t = self.clock.now().max(view.high_water);
        self.judge(&view, [marked, self.marks.snapshot()], t).map(|owner| view.grant(owner, None, t))
    }

    /// The scopes that a grant's key holds now.
    pub(super) fn scopes_of(&self, grant: &Grant) -> Result<ScopeSet, Denial> {
        let view = self.view_of(grant)?;
        view.owner().map_err(|reason| view.denied(reason))?;
        Ok(self.follower.replica.shared.scopes(view.bounds))
    }

    /// What the replica shows of a version that is known by its name instead of its token.
    fn view_of(&self, grant: &Grant) -> Result<View<'_>, Denial> {
        self.consistently(|_, _| ())?;
        let replica = &self.follower.replica;
        let position =
            self.follower.with_keeper(|keeper| keeper.position_of(replica, grant.key, grant.version));
        let position = position.ok_or(Denial::UNKNOWN)?;
        let view =
            self.consistently(|replica, _| replica.slab.get(position).map(|entry| View::of(replica, entry)))?;
        let is_it = |view: &View<'_>| {
            (view.facts.key(), view.facts.version()) == (grant.key, grant.version)
                && view.facts.state() != State::Absent
        };
        view.filter(is_it).ok_or(Denial::UNKNOWN)
    }
}
