//! The tick: everything that time makes due, planned and applied in bounded, idempotent steps.
//!
//! `plan` and `tick` ask the same pure function. Several processes may tick at once: each change is written with
//! the revisions that it was decided on, and whoever comes second decides again and finds nothing left.

mod apply;
mod deliver;
mod first_use;
mod lookup;
mod mint;
mod plan;
mod report;
mod simulate;
mod upgrade;

pub(crate) use apply::tick;
pub(crate) use deliver::deliver;
pub(crate) use first_use::record_first_uses;
pub(crate) use mint::mint;
pub use plan::{ClockState, Plan, PlannedDelivery, Unsettled};
pub(crate) use plan::{clock_state, next_due, plan};
pub use report::TickReport;
pub use simulate::{ClientBehaviour, Simulation};
pub(crate) use upgrade::record_upgrades;
