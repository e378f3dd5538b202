//! The guide, in chapters: what rotation does, and how a host and its clients take part in it.
//!
//! 1. [How rotation works](rotation): the states of a version and of a rotation, one rotation with its dates, and what
//!    needs a tick.
//! 2. [Choosing a policy](policy): the presets, the settings, and how to see the dates before you decide.
//! 3. [Claiming](claiming): how a client, an owner or a secrets manager gets the next token.
//! 4. [Notifications](notifications): who is told of what, by which channel, and what happens when telling fails.
//! 5. [Importing](importing): how keys of another system move here.
//!
//! Every example is compiled and run as a test, on a [`MemoryStore`](crate::MemoryStore) and a
//! [`ManualClock`](crate::ManualClock); a service takes a `SqliteStore` and the system's clock, and is otherwise the same.

#[doc = include_str!("claiming.md")]
pub mod claiming {}

#[doc = include_str!("importing.md")]
pub mod importing {}

#[doc = include_str!("notifications.md")]
pub mod notifications {}

#[doc = include_str!("policy.md")]
pub mod policy {}

#[doc = include_str!("rotation.md")]
pub mod rotation {}
