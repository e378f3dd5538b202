//! Where keys are charged and counted beyond the words of their entries: cells and stripes, and what was counted there.

use std::sync::atomic::Ordering;

use crate::id::KeyId;
use crate::limit::Quota;
use crate::time::Timestamp;
use crate::validate::cells::Cells;
use crate::validate::counts::Granted;
use crate::validate::entry::{Cell, Entry, State};
use crate::validate::keeper::Keeper;
use crate::validate::replica::Replica;
use crate::validate::stripes::Stripes;

/// What the writer knows of cells and stripes.
#[derive(Debug, Default)]
pub(super) struct Tills {
    /// How many cells there are.
    cells: u32,
    /// How many stripes there are, and which of them count for nobody; the cells of the others.
    stripes: u32,
    free: Vec<u32>,
    striped: Vec<u32>,
    /// What was counted at positions, and in stripes, that count for others since.
    pub(super) left: Vec<Granted>,
}

/// How many keys can be counted in stripes at once: in about a megabyte.
const MAX_STRIPED: u32 = 512;

impl Keeper {
    /// Makes room for counting a key's limits, with its first version. What is counted stays, but for limits that are
    /// new.
    pub(super) fn provide_cells(
        &mut self,
        replica: &Replica,
        first: u32,
        profile: u32,
        issued_at: Timestamp,
    ) {
        let (Some(entry), Some(new)) = (replica.slab.get(first), replica.shared.profile(profile)) else {
            return;
        };
        let old = entry.profile().and_then(|number| replica.shared.profile(number));
        let old_rates = old.map_or(&[][..], |old| old.traits.limits.rates());
        let is_new = |n: usize| old_rates.get(n) != new.traits.limits.rates().get(n);
        match self.cells_of(replica, entry) {
            Some(cells) => {
                cells.set_issued_at(issued_at);
                let paces = cells.paces().iter().enumerate().filter(|(n, _)| is_new(*n));
                paces.for_each(|(_, pace)| pace.store(0, Ordering::Relaxed));
                if let Some(stripes) = cells.stripes().filter(|_| is_new(0)) {
                    replica.stripes.get(stripes as usize).into_iter().for_each(Stripes::forget_slices);
                }
            }
            None if new.needs_cells() => {
                self.add_cells(replica, entry.key(), issued_at, |number, _| {
                    entry.set_cell(Cell::Cells(number));
                });
            }
            None if is_new(0) => entry.set_cell(Cell::Here),
            None => {}
        }
    }

    fn cells_of<'a>(&self, replica: &'a Replica, first: &Entry) -> Option<&'a Cells> {
        let Cell::Cells(number) = first.cell() else { return None };
        replica.cells.get(number as usize)
    }

    /// New cells for a key; `lead` makes its first version lead there.
    fn add_cells<'a>(
        &mut self,
        replica: &'a Replica,
        key: KeyId,
        issued_at: Timestamp,
        lead: impl FnOnce(u32, &Cells),
    ) -> Option<&'a Cells> {
        let number = self.tills.cells;
        self.tills.cells += 1;
        replica.cells.set(number as usize, Cells::new(key, issued_at));
        let cells = replica.cells.get(number as usize)?;
        lead(number, cells);
        Some(cells)
    }

    /// Counts a version, and its key's limits, in stripes from now on, if there are any to be had.
    pub(crate) fn stripe(&mut self, replica: &Replica, position: u32) -> Option<()> {
        let entry = replica.slab.get(position).filter(|entry| entry.state() != State::Absent)?;
        let first = replica.slab.get(self.first_of(replica, entry.key())?)?;
        let known = self.cells_of(replica, first);
        let stripes = match known.and_then(Cells::stripes) {
            Some(stripes) => stripes,
            None => self.tills.free.pop().or_else(|| self.add_stripes(replica))?,
        };
        let cells = match known {
            Some(cells) => cells,
            // From when on a quota would be refilled is told with the quota.
            None => self.add_cells(replica, entry.key(), Timestamp::MIN, |number, cells| {
                let [pace, ..] = cells.paces();
                first.move_to(number, pace);
            })?,
        };
        self.serve(replica, stripes, Some(position));
        if cells.stripes().is_none()
            && let Cell::Cells(number) = first.cell()
        {
            self.tills.striped.push(number);
            cells.set_stripes(Some(stripes));
        }
        Some(())
    }

    fn add_stripes(&mut self, replica: &Replica) -> Option<u32> {
        let number = Some(self.tills.stripes).filter(|number| *number < MAX_STRIPED)?;
        self.tills.stripes += 1;
        replica.stripes.set(number as usize, Stripes::default());
        Some(number)
    }

    /// Takes out what was counted in stripes, and counts another version there.
    fn serve(&mut self, replica: &Replica, stripes: u32, position: Option<u32>) {
        let Some(stripes) = replica.stripes.get(stripes as usize) else { return };
        stripes.serve(position, |position, allowed, last_used| {
            let entry = replica.slab.get(position);
            self.tills.left.extend(entry.and_then(|entry| granted(entry, allowed, last_used)));
        });
    }

    /// Gives back the stripes in which a version is counted that is no more.
    pub(super) fn unstripe(&mut self, replica: &Replica, position: u32) {
        let cells = |number: u32| replica.cells.get(number as usize);
        let counted_at = |cells: &Cells| {
            let number = cells.stripes()?;
            let is_its = replica.stripes.get(number as usize)?.position() == Some(position);
            is_its.then_some(number)
        };
        let found =
            self.tills.striped.iter().position(|number| cells(*number).and_then(counted_at).is_some());
        let Some(cells) = found.map(|at| self.tills.striped.swap_remove(at)).and_then(cells) else { return };
        if let Some(number) = cells.stripes() {
            cells.set_stripes(None);
            self.serve(replica, number, None);
            replica.stripes.get(number as usize).into_iter().for_each(Stripes::forget_slices);
            self.tills.free.push(number);
        }
    }

    /// The keys that have a quota: where it is counted, and the quota.
    pub(crate) fn quotas(&self, replica: &Replica) -> Vec<(u32, Quota)> {
        let of = |number: u32| {
            let cells = replica.cells.get(number as usize)?;
            let entry = replica.slab.get(self.first_of(replica, cells.key)?)?;
            let is_its = entry.cell() == Cell::Cells(number);
            let profile = replica.shared.profile(entry.profile().filter(|_| is_its)?)?;
            Some((number, *profile.traits.limits.quota()?))
        };
        (0..self.tills.cells).filter_map(of).collect()
    }

    /// Takes out all grants that validations have counted; the counts of one version may come in parts.
    pub(crate) fn take_counts(&mut self, replica: &Replica) -> Vec<Granted> {
        let mut taken = std::mem::take(&mut self.tills.left);
        replica.slab.noted(self.length, |_, entry| taken.extend(counted(entry)));
        let cells = self.tills.striped.iter().filter_map(|number| replica.cells.get(*number as usize));
        let stripes = cells.filter_map(|cells| replica.stripes.get(cells.stripes()? as usize));
        stripes.for_each(|stripes| {
            stripes.take_counts(|position, allowed, last_used| {
                let entry = replica.slab.get(position);
                taken.extend(entry.and_then(|entry| granted(entry, allowed, last_used)));
            });
        });
        taken
    }
}

pub(super) fn counted(entry: &Entry) -> Option<Granted> {
    let (allowed, last_used) = entry.take_counts();
    granted(entry, allowed, last_used)
}

fn granted(entry: &Entry, allowed: u64, last_used: Option<Timestamp>) -> Option<Granted> {
    let is_first = matches!(entry.state(), State::Fresh | State::Offered);
    (allowed > 0).then(|| Granted { key: entry.key(), version: entry.number(), allowed, last_used, is_first })
}
