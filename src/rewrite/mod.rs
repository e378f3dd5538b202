//! Rewriting: what was written under an older generation of the master key is written again under the current one, in
//! bounded steps of the tick.
//!
//! A pass goes once through all rows, by kind and id; where it stands is a row of its own, written in the commits of the
//! pass, so that it is taken up again behind a crash, by whichever process ticks. Whether there is anything to do is one
//! look at the head, which says up to which revision older generations were written under: nothing is searched for. What
//! others still write under an older generation while a pass runs, or later, is left to another pass, an hour after the
//! last at the earliest. Only ever upward: a row of a later generation than this process's current one stays as it is.
//!
//! A row is written again only if its MAC is right, with its revision, so that it still reads the same to everybody, and
//! only if nobody has replaced it meanwhile.

mod pass;
mod step;

pub use pass::Rewriting;
pub(crate) use pass::stored;
pub(crate) use step::{Step, step};
