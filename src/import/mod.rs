//! Importing: keys of other systems, read line by line, and what is decided of each.
//!
//! A source gives one line after the other and can begin anew; nobody holds more than a batch of them. What a line says
//! is a [`ForeignKey`], whose every cell was checked as it came in. Whether it becomes a key here is decided from that
//! and from what is in the store; writing is the manager's.

mod cells;
mod column;
mod csv;
mod dates;
mod input;
mod json;
mod key;
mod lookup;
mod problem;
mod report;
mod source;
#[cfg(feature = "sqlite")]
mod table;
mod tokens;

pub use column::ImportColumn;
pub use key::ForeignKey;
pub(crate) use key::ForeignSecret;
pub use lookup::LegacyLookup;
pub use problem::LineProblem;
pub use report::{ImportReport, LineOutcome, LineReport};
pub use source::{ImportSource, SourceError};
pub use tokens::TokenList;
