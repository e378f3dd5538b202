//! The tick: what is due now, and the plan of what would be.

use crate::error::ManageError;
use crate::manager::{Inner, KeyManager};
use crate::rewrite;
use crate::rotate::{ClockState, Plan, TickReport, deliver, next_due, plan, tick};
use crate::time::Timestamp;

impl KeyManager {
    /// How many due keys one tick takes up.
    const TICK_LIMIT: usize = 1_000;
    /// How many secrets one tick gives to the sink.
    const DELIVERIES: usize = 100;

    /// One bounded step of everything that is due now. Call it every minute or so, and again while it reports
    /// `more`; from as many processes as you like. Deadlines hold without it: a tick only records them. At its end it
    /// tells what is to be told; see [`KeyManager::deliver`]. Last of all, and a thousand rows at most, what was written
    /// under an older generation of the master key is written again under the current one.
    ///
    /// A clock before the high-water mark, or more than 30 days after it, is not believed: then nothing is done and there
    /// is no `more`, and [`TickReport::clock`] says so. Look at it, or print the report:
    ///
    /// ```
    /// # use keyrota::{ClockState, KeyManager, Keyring, MemoryStore};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let keys = KeyManager::open(MemoryStore::new(), Keyring::generate()?)?;
    /// loop {
    ///     let report = keys.tick()?;
    ///     if report.clock != ClockState::Steady {
    ///         eprintln!("{report}");
    ///     }
    ///     if !report.more {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError`] when the store failed; what was not done is still due.
    pub fn tick(&self) -> Result<TickReport, ManageError> {
        let Inner { records, clock, sink, .. } = &*self.inner;
        let now = clock.now();
        let (mut report, deliveries) = tick(records, now, Self::TICK_LIMIT)?;
        if let Some(sink) = sink {
            report.more |= deliveries.len() > Self::DELIVERIES;
            for delivery in deliveries.into_iter().take(Self::DELIVERIES) {
                deliver(records, &**sink, delivery, now, || clock.now(), &mut report)?;
            }
            report.next_due = next_due(records, now)?;
        }
        self.notify_due(&mut report)?;
        // Last of all, so that nothing waits for it.
        if report.clock == ClockState::Steady {
            report.add_step(rewrite::step(records, now)?);
        }
        Ok(report)
    }

    /// What a tick at `now` would attempt on the store as it is; nothing is written. What it would only write in another
    /// form, counts and rows of an older generation of the master key, is left out: of these
    /// [`KeyManager::rewriting`] tells.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn plan(&self, now: Timestamp) -> Result<Plan, ManageError> {
        let mut plan = plan(&self.inner.records, now, Self::TICK_LIMIT)?;
        self.plan_notices(&mut plan)?;
        Ok(plan)
    }
}
