//! The guide, in chapters: what rotation does, and how a host and its clients take part in it.
//!
//! [Quick start](quick_start) goes from an empty folder to a service whose keys rotate. Then:
//!
//! 1. [How rotation works](rotation): the states of a version and of a rotation, one rotation with its dates, and what
//!    needs a tick.
//! 2. [Choosing a policy](policy): the presets, the settings, and how to see the dates before you decide.
//! 3. [Claiming](claiming): how a client, an owner or a secrets manager gets the next token.
//! 4. [Notifications](notifications): who is told of what, by which channel, and what happens when telling fails.
#![cfg_attr(
    feature = "webhook",
    doc = "5. [Webhooks](webhooks): telling another service by HTTP, and believing it."
)]
#![cfg_attr(not(feature = "webhook"), doc = "5. Webhooks: with the feature `webhook`.")]
#![cfg_attr(
    feature = "email",
    doc = "6. [Email](email): telling an owner by mail, through your mail server."
)]
#![cfg_attr(not(feature = "email"), doc = "6. Email: with the feature `email`.")]
//! 7. [Sinks](sinks): putting each new token where its service reads it.
//! 8. [Alarms](alarms): what failures and usage tell of abuse and of missed rotations.
//! 9. [Compliance evidence](compliance): how old secrets are, and which entries show what to an auditor.
//! 10. [HTTP](http): a key in front of routes; what a service answers, and what it does about blocking.
//! 11. [Importing](importing): how keys of another system move here.
//! 12. [The command line](command_line): the program `keyrota`, its commands, their JSON and their exit codes.
//! 13. [Rolling out](rollout): a list to go through, from the first look to the day when every key rotates.
//! 14. [Security](security): what is left to the host, and what to do when something has leaked.
//! 15. [Troubleshooting](troubleshooting): what one sees, why it may be, and what to do.
//!
//! Every example is compiled and run as a test, on a [`MemoryStore`](crate::MemoryStore) and a
//! [`ManualClock`](crate::ManualClock); a service takes a `SqliteStore` and the system's clock, and is otherwise the same.

#[doc = include_str!("alarms.md")]
pub mod alarms {}

#[doc = include_str!("claiming.md")]
pub mod claiming {}

#[doc = include_str!("command_line.md")]
pub mod command_line {}

#[doc = include_str!("compliance.md")]
pub mod compliance {}

#[cfg(feature = "email")]
#[cfg_attr(keyrota_docs, doc(cfg(feature = "email")))]
#[doc = include_str!("email.md")]
pub mod email {}

#[doc = include_str!("http.md")]
pub mod http {}

#[doc = include_str!("importing.md")]
pub mod importing {}

#[doc = include_str!("notifications.md")]
pub mod notifications {}

#[doc = include_str!("policy.md")]
pub mod policy {}

#[doc = include_str!("quick_start.md")]
pub mod quick_start {}

#[doc = include_str!("rollout.md")]
pub mod rollout {}

#[doc = include_str!("rotation.md")]
pub mod rotation {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("sinks.md")]
pub mod sinks {}

#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}

#[cfg(feature = "webhook")]
#[cfg_attr(keyrota_docs, doc(cfg(feature = "webhook")))]
#[doc = include_str!("webhooks.md")]
pub mod webhooks {}
