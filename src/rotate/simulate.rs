//! Simulating: the dates that a policy produces, without a store.

use std::fmt;
use std::time::Duration;

use crate::actor::{Actor, Context};
use crate::claim::ClaimId;
use crate::due::{self, Surroundings};
use crate::error::ManageError;
use crate::event::Event;
use crate::id::{KeyId, KeyName, OwnerId, RotationId, VersionNo};
use crate::key::{KeyRecord, Metadata};
use crate::keyring::Generation;
use crate::lifecycle::{self, Family, Presenter, RotationOrder, Silence, Transition};
use crate::limit::Limits;
use crate::policy::{Delivery, RotationPolicy};
use crate::rotate::mint::blank;
use crate::scope::ScopeSet;
use crate::time::Timestamp;
use crate::token::Prefix;
use crate::version::{Stage, VersionRecord};

/// How a simulated client treats its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClientBehaviour {
    claims_after: Option<Duration>,
    uses_after: Duration,
}

impl ClientBehaviour {
    /// Claims each successor that long after it was made, and uses it at once. Of a policy with a sink that is when the
    /// sink acknowledges it; of one that only announces, when the owner rotates.
    pub fn claims_after(span: Duration) -> Self {
        Self { claims_after: Some(span), uses_after: Duration::ZERO }
    }

    /// Claims nothing.
    pub fn never_claims() -> Self {
        Self { claims_after: None, uses_after: Duration::ZERO }
    }

    /// Uses each successor for the first time, and its predecessor for the last time, that long after it was claimed.
    pub fn uses_after(mut self, span: Duration) -> Self {
        self.uses_after = span;
        self
    }
}

/// What would happen to a key. `Display` tells it as a timeline.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Simulation {
    /// What would be recorded.
    pub events: Vec<Event>,
    /// The most versions that are valid at once.
    pub most_live: usize,
    /// When no version is valid any more, if that comes.
    pub ends_at: Option<Timestamp>,
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            write!(f, "{}  {}", event.at, event.kind)?;
            if let Some(version) = event.version {
                write!(f, " {version}")?;
            }
            match event.until {
                Some(until) => writeln!(f, ", until {until}")?,
                None => writeln!(f)?,
            }
        }
        let versions = if self.most_live == 1 { "version" } else { "versions" };
        writeln!(f, "at most {} {versions} valid at once", self.most_live)?;
        match self.ends_at {
            Some(end) => writeln!(f, "no valid version from {end} on"),
            None => Ok(()),
        }
    }
}

/// The most steps that are looked at: a policy of minutes over years is cut off there.
const STEPS: usize = 100_000;

impl RotationPolicy {
    /// What happens under this policy to a key that is issued at `from` and rotates by itself, for that long. Deadlines are
    /// recorded when they come, as if ticks never paused.
    ///
    /// # Errors
    /// [`ManageError::Time`] beyond the year 9999.
    pub fn simulate(
        &self,
        from: Timestamp,
        span: Duration,
        client: ClientBehaviour,
    ) -> Result<Simulation, ManageError> {
        let end = from.plus(span)?;
        let mut world = World::new(self, from)?;
        let mut t = from;
        for _ in 0..STEPS {
            world.look(t);
            let Some(next) = world.next(client).filter(|next| *next <= end) else { break };
            t = next.max(t);
            world.step(client, t)?;
        }
        let World { events, most_live, family, .. } = world;
        let ends_at = match family.live(end).next() {
            Some(_) => None,
            None => {
                let had = family.versions.iter().filter(|version| version.is_handed_over());
                had.filter_map(|version| family.end(version)).max()
            }
        };
        Ok(Simulation { events, most_live, ends_at })
    }
}

struct World<'a> {
    policy: &'a RotationPolicy,
    claim: ClaimId,
    family: Family,
    events: Vec<Event>,
    most_live: usize,
}

impl<'a> World<'a> {
    fn new(policy: &'a RotationPolicy, from: Timestamp) -> Result<Self, ManageError> {
        let key = KeyRecord {
            id: KeyId::new(from, [0; 10]),
            owner: OwnerId::new("owner")?,
            name: KeyName::new("key")?,
            prefix: Prefix::default(),
            scopes: ScopeSet::EMPTY,
            role: None,
            limits: Limits::NONE,
            networks: None,
            metadata: Metadata::default(),
            policy: Some(*policy),
            issued_at: from,
            never_expires: false,
            hard_end: None,
            revoked_at: None,
            auto_rotation: Some(true),
            rotates: true,
            lapsed: false,
            next_attempt_at: None,
            successor_by: None,
            open_rotation: None,
        };
        let (family, transitions) = lifecycle::issue(key, None, blank(Generation::FIRST), policy, from)?;
        let claim = ClaimId::new("a simulated claim")?;
        let mut world = Self { policy, claim, family, events: Vec::new(), most_live: 0 };
        world.record(&transitions, from);
        Ok(world)
    }

    fn record(&mut self, transitions: &[Transition], t: Timestamp) {
        let context = Context::system();
        let event = |step| Event {
            old_fingerprint: None,
            new_fingerprint: None,
            ..Event::of_key(t, step, &self.family, &context)
        };
        let events: Vec<_> = transitions.iter().map(event).collect();
        self.events.extend(events);
    }

    fn look(&mut self, t: Timestamp) {
        self.most_live = self.most_live.max(self.family.live(t).count());
    }

    /// When the client takes the successor over that waits, or its owner acts on the announcement.
    fn taken_at(&self, client: ClientBehaviour) -> Option<Timestamp> {
        let open = self.family.open_rotation()?;
        let waits =
            open.new.is_none_or(|new| self.family.version(new).is_some_and(VersionRecord::is_waiting));
        open.started_at.filter(|_| waits)?.plus(client.claims_after?).ok()
    }

    /// When the client uses a version for the first time.
    fn used_at(&self, client: ClientBehaviour) -> Option<(VersionNo, Timestamp)> {
        let fresh = self.family.versions.iter().find(|version| version.awaits_use && !version.is_ended())?;
        Some((fresh.number, fresh.delivered_at?.plus(client.uses_after).ok()?))
    }

    fn next(&self, client: ClientBehaviour) -> Option<Timestamp> {
        // Deliveries to the sink are the client's affair here.
        let due = due::next(&without_deliveries(&self.family));
        [due, self.taken_at(client), self.used_at(client).map(|(_, at)| at)].into_iter().flatten().min()
    }

    fn step(&mut self, client: ClientBehaviour, t: Timestamp) -> Result<(), ManageError> {
        let order = || RotationOrder::planned(RotationId::from(0));
        let first_use = self.family.versions.iter().filter_map(|version| version.first_used_at).max();
        let silence = |_| Silence { last_used: first_use, told_until: Some(t) };
        let around = Surroundings { policy: self.policy, enabled: true, rotates: true, silence: &silence };
        let minted = |minted: bool| Ok::<_, ManageError>((order(), minted.then(|| blank(Generation::FIRST))));
        let outcome = due::plan(&mut self.family, &around, t, minted)?;
        self.record(&outcome.transitions, t);
        if let Some((number, _)) = self.used_at(client).filter(|(_, at)| *at <= t) {
            let transitions = lifecycle::first_use(&mut self.family, number, self.policy, t)?;
            self.record(&transitions, t);
        }
        if self.taken_at(client).is_some_and(|at| at <= t) {
            let transitions = self.take(t)?;
            self.record(&transitions, t);
        }
        Ok(())
    }

    /// The client takes the successor over.
    fn take(&mut self, t: Timestamp) -> Result<Vec<Transition>, ManageError> {
        let successor = self.family.open_rotation().and_then(|open| open.new);
        let Some(successor) = successor else {
            let order =
                RotationOrder { actor: Actor::owner("owner"), ..RotationOrder::planned(RotationId::from(0)) };
            return Ok(lifecycle::rotate(&mut self.family, order, blank(Generation::FIRST), self.policy, t)?);
        };
        if self.policy.delivery() == Delivery::Sink {
            return Ok(lifecycle::acknowledge(&mut self.family, successor, self.policy, t)?);
        }
        let holder = self.family.versions.iter().find(|version| version.stage == Stage::Active);
        let presenter = holder.map_or(Presenter::Owner, |version| Presenter::Holder(version.number));
        let claimed = lifecycle::claim(&mut self.family, presenter, self.claim.digest(), self.policy, t)
            .or_else(|_| {
                lifecycle::claim(&mut self.family, Presenter::Owner, self.claim.digest(), self.policy, t)
            })?;
        Ok(claimed.1)
    }
}

fn without_deliveries(family: &Family) -> Family {
    let mut family = family.clone();
    family.rotations.iter_mut().for_each(|rotation| rotation.next_put_at = None);
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::policy::{DAY, HOUR};

    fn at(text: &str) -> Timestamp {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    fn dates(simulation: &Simulation, kind: EventKind) -> Vec<Timestamp> {
        simulation.events.iter().filter(|event| event.kind == kind).map(|event| event.at).collect()
    }

    #[test]
    fn a_client_that_claims_in_time_goes_on_for_ever_on_one_or_two_versions() {
        let simulated = RotationPolicy::default()
            .simulate(at("2027-01-01"), 3_650 * DAY, ClientBehaviour::claims_after(2 * DAY))
            .unwrap();
        let begun = dates(&simulated, EventKind::RotationStarted);
        assert_eq!(begun[..2], [at("2027-03-25"), at("2027-06-16")]);
        assert_eq!((begun.len(), simulated.most_live, simulated.ends_at), (43, 2, None));
        assert!(simulated.to_string().starts_with("2027-01-01T00:00:00Z  key_issued v1, until 2027-04-01"));
    }

    #[test]
    fn a_client_that_never_claims_ends_with_its_first_version() {
        let simulated = RotationPolicy::default()
            .simulate(at("2027-01-01"), 365 * DAY, ClientBehaviour::never_claims())
            .unwrap();
        assert_eq!(dates(&simulated, EventKind::RotationFailed), [at("2027-06-16")]);
        assert_eq!(simulated.events.last().map(|event| event.kind), Some(EventKind::RotationFailed));
        assert_eq!(simulated.ends_at, Some(at("2027-04-01")));
    }

    #[test]
    fn every_preset_and_every_delivery_keeps_a_prompt_client_valid() {
        let presets = [
            RotationPolicy::every_90_days(),
            RotationPolicy::every_90_days_with_72_hours(),
            RotationPolicy::keep_two_newest(),
            RotationPolicy::mobile(),
        ];
        for preset in presets {
            for delivery in [Delivery::default(), Delivery::Announce, Delivery::Sink] {
                let policy = preset.to_builder().delivery(delivery).build().unwrap();
                let client = ClientBehaviour::claims_after(HOUR).uses_after(DAY);
                let simulated = policy.simulate(at("2027-01-01"), 3_650 * DAY, client).unwrap();
                assert_eq!(simulated.ends_at, None, "{policy}: {simulated}");
                assert!(simulated.most_live <= policy.max_live(), "{policy}: {simulated}");
                assert!(dates(&simulated, EventKind::KeyRotation).len() >= 8, "{policy}: {simulated}");
            }
        }
    }
}
