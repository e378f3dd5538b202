//! The keys from before: what the service had in `API_KEYS`, until every client has a token of this library's own.

use std::error::Error;

use keyrota::{Actor, Import, ImportReport, ImportSource, KeyManager, LineOutcome, LineProblem, OwnerId};

/// Takes the tokens over: each validates from then on, as it is. Every instance does so at its start, as often as it is
/// started: what is there already stays as it is, also where it was revoked.
///
/// The keys do not rotate yet, because instances of before, which know nothing but the list, may still serve beside this
/// one, and would refuse their successors. Once the last of those is gone, schedule the rotations; once each client has
/// switched, take `API_KEYS` away: a token is known as taken over only as long as nobody has purged its key.
///
/// # Errors
/// Also where a token cannot be taken over: a service that does not start leaves its predecessor in place, and one that
/// starts without the token would shut a client out.
pub fn take_over(
    keys: &KeyManager,
    tokens: ImportSource<'_>,
) -> Result<ImportReport, Box<dyn Error + Send + Sync>> {
    let import = Import::from(tokens)
        .owner(OwnerId::new("clients")?)
        .scopes(["orders:*"].try_into()?)
        .raise_limits()
        .skip_bad_lines();
    let report = keys.by(Actor::service("orders")).because("they stood in API_KEYS").import(import)?;
    let is_there = |outcome: &LineOutcome| {
        matches!(outcome, LineOutcome::Skipped(LineProblem::Known(_) | LineProblem::Repeated))
    };
    if report.problems.iter().any(|line| !is_there(&line.outcome)) {
        return Err(format!("a token of API_KEYS cannot be taken over: {report}").into());
    }
    Ok(report)
}
