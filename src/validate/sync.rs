//! The atomics that the replica's protocol is made of: one name for them, so that the protocol can be compiled with a
//! model checker's atomics as well.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
