//! How a superseded version leaves: V6, and V8 by silence.

use crate::id::VersionNo;
use crate::lifecycle::{Family, Transition, end};
use crate::policy::{Retirement, RotationPolicy};
use crate::time::{TimeError, Timestamp, earlier};
use crate::version::{Stage, VersionRecord};

/// V6 by a successor that became active: the active version is deprecated, and those that fall out of the set that is
/// kept get a date, never beyond their own expiry. A date that was told stays.
pub(super) fn supersede(
    family: &mut Family,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, TimeError> {
    let (kept, span, quiet_for) = match policy.retirement() {
        Retirement::KeepPrevious(n) => (usize::from(n), policy.overlap(), None),
        Retirement::WhenUnused { quiet_for, at_most, .. } => (0, at_most, Some(quiet_for)),
        _ => (0, policy.overlap(), None),
    };
    let grace_end = t.plus(span)?;
    let quiet_at = quiet_for.map(|quiet_for| t.plus(quiet_for)).transpose()?;
    let hard_end = family.key.hard_end;
    let active = family.active().map(|version| version.number);
    if let Some(version) = family.at_stage_mut(Stage::Active).next() {
        version.stage = Stage::Deprecated;
        version.deprecated_at = Some(t);
        version.awaits_use = false;
    }
    let mut undated: Vec<&mut VersionRecord> =
        family.at_stage_mut(Stage::Deprecated).filter(|version| version.grace_end.is_none()).collect();
    undated.sort_by_key(|version| std::cmp::Reverse((version.deprecated_at, version.number)));
    let mut transitions = Vec::new();
    for (place, version) in undated.into_iter().enumerate() {
        if place >= kept {
            version.grace_end = earlier(version.expires_at, Some(grace_end));
            version.quiet_at = quiet_at.filter(|quiet_at| *quiet_at < grace_end);
        }
        if place >= kept || Some(version.number) == active {
            transitions.push(Transition::VersionDeprecated {
                version: version.number,
                until: end(version, hard_end),
            });
        }
    }
    // The oldest first, as they leave.
    transitions.reverse();
    Ok(transitions)
}

/// What is known of the use of a superseded version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) last_used: Option<Timestamp>,
    /// Up to when every process that validates has told what it counted; `None` where none has ever told anything.
    pub(crate) told_until: Option<Timestamp>,
}

/// V8 by silence: a superseded version that nobody has used for long enough ends after the notice. Says of which versions
/// that is not known, because a process is silent.
pub(crate) fn fall_silent(
    family: &mut Family,
    policy: &RotationPolicy,
    t: Timestamp,
    silence: &dyn Fn(VersionNo) -> Silence,
) -> (Vec<Transition>, Vec<VersionNo>) {
    let (mut transitions, mut unknown) = (Vec::new(), Vec::new());
    let hard_end = family.key.hard_end;
    let asked = |version: &&mut VersionRecord| version.quiet_at.is_some_and(|quiet_at| quiet_at <= t);
    let rotation = family.rotations.iter_mut().find(|rotation| rotation.is_open());
    let mut ends = None;
    for version in
        family.versions.iter_mut().filter(|version| version.stage == Stage::Deprecated).filter(asked)
    {
        let Retirement::WhenUnused { quiet_for, notice, .. } = policy.retirement() else {
            version.quiet_at = None;
            continue;
        };
        let Silence { last_used, told_until } = silence(version.number);
        let since = last_used.max(version.deprecated_at).unwrap_or(version.issued_at);
        let (Ok(settled), Ok(ending)) = (since.plus(quiet_for), t.plus(notice)) else {
            version.quiet_at = None;
            continue;
        };
        let deadline = end(version, hard_end);
        if deadline.is_some_and(|deadline| deadline <= settled.max(ending)) {
            // It ends by itself before that.
            version.quiet_at = None;
        } else if t < settled {
            version.quiet_at = Some(settled);
        } else if told_until.is_some_and(|told| told >= settled) {
            version.quiet_at = None;
            version.grace_end = Some(ending);
            ends = Some((version.number, ending));
            transitions.push(Transition::VersionRetiring { version: version.number, until: Some(ending) });
        } else {
            unknown.push(version.number);
            version.quiet_at = Some(ending);
        }
    }
    if let (Some((number, ending)), Some(rotation)) = (ends, rotation)
        && rotation.running_out() == Some(number)
    {
        rotation.grace_end = Some(ending);
    }
    (transitions, unknown)
}

/// When to look whether clients still use a version that ends then: at the last warning, or half way.
pub(super) fn lagging_at(policy: &RotationPolicy, end: Timestamp, t: Timestamp) -> Timestamp {
    let left = end.since(t) / 2;
    end.minus_or_min(policy.warnings().last().map_or(left, |warning| warning.min(left)))
}

/// Says that a version which is about to leave is still used, or its successor is not. Where no process has told what it
/// counted, nothing is known, and nothing is said.
pub(crate) fn note_lagging(
    family: &mut Family,
    t: Timestamp,
    silence: &dyn Fn(VersionNo) -> Silence,
) -> Option<Transition> {
    let open = family.open_rotation_mut().filter(|open| open.lagging_at.is_some_and(|at| at <= t))?;
    open.lagging_at = None;
    let (rotation, old, new, until) = (open.id, open.running_out()?, open.new?, open.grace_end);
    let leaving = family.version(old)?;
    let since = leaving.deprecated_at?;
    let recently = since.plus(t.since(since) / 2).ok()?;
    let (of_old, of_new) = (silence(old), silence(new));
    of_old.told_until?;
    let is_lagging = of_old.last_used.is_some_and(|used| used >= recently) || of_new.last_used.is_none();
    is_lagging.then_some(Transition::AdoptionLagging { rotation, old, new, until })
}
