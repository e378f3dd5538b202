//! The question "is it due?": what time makes of a key, for the tick, its plan and the store's index.

use crate::lifecycle::{Family, Transition};
use crate::time::Timestamp;

/// Makes of this key what time has made of it by `t`. The tick writes it; its plan only looks at it.
pub(crate) fn plan(family: &mut Family, t: Timestamp) -> Vec<Transition> {
    family.settle(t)
}

/// When time next makes something of this key due: the earliest end that is not recorded yet.
pub(crate) fn next(family: &Family) -> Option<Timestamp> {
    let unrecorded = family.versions.iter().filter(|version| !version.is_ended());
    unrecorded.filter_map(|version| family.end(version)).min()
}

/// When the last of a key's versions ends: `None` when one never does, or when none is left.
pub(crate) fn last_end(family: &Family) -> Option<Timestamp> {
    let mut ends =
        family.versions.iter().filter(|version| !version.is_ended()).map(|version| family.end(version));
    ends.try_fold(None, |last: Option<Timestamp>, end| Some(last.max(Some(end?))))?
}
