//! The till: where a request that is granted otherwise is charged to its key's limits, and counted.

use crate::limit::{self, LimitStatus, Pace, Quota, Refusal};
use crate::time::Timestamp;
use crate::validate::cells::Cells;
use crate::validate::denial::DenialReason;
use crate::validate::entry::{Cell, Entry};
use crate::validate::facts::Profile;
use crate::validate::replica::{Place, Replica};
use crate::validate::stripes::{Held, Limit, Stripes};

/// Where the uses of a version count, as it was when it was looked for. It may move while somebody counts, and is to be
/// looked for again then.
pub(crate) struct Till<'a> {
    /// The entry whose cell counts.
    holder: &'a Entry,
    cells: Option<&'a Cells>,
    stripes: Option<&'a Stripes>,
    own: Option<Held<'a>>,
}

/// Why a request was not charged.
pub(crate) enum NotCharged {
    Refused(DenialReason, LimitStatus),
    /// The till is elsewhere by now.
    Moved,
}

impl From<Refusal> for NotCharged {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limited(status) => Self::Refused(DenialReason::RateLimit, status),
            Refusal::Moved => Self::Moved,
        }
    }
}

impl<'a> Till<'a> {
    #[inline]
    pub(crate) fn of(replica: &'a Replica, entry: &'a Entry) -> Self {
        let holder = match entry.cell() {
            Cell::With(position) => replica.slab.get(position).unwrap_or(entry),
            Cell::Here | Cell::Cells(_) => entry,
        };
        let mut till = Self { holder, cells: None, stripes: None, own: None };
        if let Cell::Cells(number) = holder.cell() {
            till.cells = replica.cells.get(number as usize);
            let stripes = till.cells.and_then(Cells::stripes);
            till.stripes = stripes.and_then(|number| replica.stripes.get(number as usize));
            till.own = till.stripes.and_then(Stripes::own);
        }
        till
    }

    /// Charges a request to all limits of the key, or to none when one refuses; tells the one with the fewest uses left.
    #[inline]
    pub(crate) fn charge(
        &mut self,
        profile: &Profile,
        t: Timestamp,
        cost: u32,
    ) -> Result<Option<LimitStatus>, NotCharged> {
        match (&*profile.paces, profile.traits.limits.quota(), self.cells) {
            ([], None, _) => Ok(None),
            // One limit alone charges nothing that it refuses.
            ([pace], None, None) => {
                let word = self.holder.pace().ok_or(NotCharged::Moved)?;
                Ok(Some(pace.take(word, t, cost)?))
            }
            ([pace], None, Some(cells)) => Ok(Some(self.charge_one(pace, cells, t, cost)?)),
            (paces, quota, Some(cells)) => charge_all(paces, quota, cells, t, cost),
            (.., None) => Err(NotCharged::Moved),
        }
    }

    fn charge_one(
        &mut self,
        pace: &Pace,
        cells: &Cells,
        t: Timestamp,
        cost: u32,
    ) -> Result<LimitStatus, Refusal> {
        let [word, ..] = cells.paces();
        let limit = Limit { key: cells.key, pace, word };
        let taken = match &self.own {
            Some(own) => own.charge(&limit, t, cost),
            None => pace.take(word, t, cost),
        };
        match (taken, self.stripes.filter(|stripes| stripes.has_slices())) {
            (Err(Refusal::Limited(_)), Some(stripes)) => {
                self.own = None;
                stripes.take(&limit, t, cost)
            }
            (taken, _) => taken,
        }
    }

    /// Counts a grant; tells how many there were in this place since its counts were taken, where that is of interest.
    #[inline]
    pub(crate) fn count(&self, place: &Place<'_>, t: Timestamp) -> Option<u64> {
        let is_counted = self.own.as_ref().is_some_and(|own| own.count(place.position, t));
        if is_counted { None } else { Some(place.entry.count(t)) }
    }
}

fn charge_all(
    paces: &[Pace],
    quota: Option<&Quota>,
    cells: &Cells,
    t: Timestamp,
    cost: u32,
) -> Result<Option<LimitStatus>, NotCharged> {
    let limited = |status| NotCharged::from(Refusal::Limited(status));
    limit::check(paces, cells.paces(), t, cost).map_err(limited)?;
    let left = match quota {
        None => None,
        Some(quota) => {
            let period = || quota.refill().period(cells.issued_at(), t);
            let taken = cells.allowance().take(t, cost.into());
            let refused =
                |left| NotCharged::Refused(DenialReason::Quota, quota.status(left, period(), t, cost.into()));
            Some(quota.status(taken.map_err(refused)?, period(), t, 0))
        }
    };
    let paced = limit::reserve(paces, cells.paces(), t, cost).inspect_err(|_| {
        if quota.is_some() {
            cells.allowance().give_back(cost.into());
        }
    })?;
    Ok(match (paced, left) {
        (Some(paced), Some(left)) if left.remaining() < paced.remaining() => Some(left),
        (paced, left) => paced.or(left),
    })
}
