//! Looking the whole store over: the audit log's chain, and every row against it.

mod check;
mod generations;
mod verify;

pub(crate) use check::check;
pub use check::{CheckFinding, CheckReport};
pub use generations::GenerationUse;
pub(crate) use generations::generations;
pub use verify::AuditVerdict;
pub(crate) use verify::{entry, verify};
