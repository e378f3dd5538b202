//! Looking the whole store over: the audit log's chain, every row against it, and how old the secrets in use are.

mod check;
mod compliance;
mod generations;
mod retirement;
mod verify;
mod vouched;

pub(crate) use check::check;
pub use check::{CheckFinding, CheckReport};
pub use compliance::{
    AuditPosition, ComplianceQuery, ComplianceReport, ComplianceStanding, KeyCompliance, Listing,
    NeverRotates, RotationCounts, RotationEvidence,
};
pub(crate) use compliance::{Survey, Surveyed, compliance, concerns, key_fields, rotation_fields};
pub use generations::GenerationUse;
pub(crate) use generations::generations;
pub use retirement::RetiredGeneration;
pub(crate) use retirement::retirement;
pub use verify::AuditVerdict;
pub(crate) use verify::{entry, verify};
