//! Signals: what failures and usage tell of abuse, and of rotations that a client missed. Pure: no clock, no store, no
//! lock. Nothing here denies anything.

pub(crate) mod alarm;
pub(crate) mod change;
pub(crate) mod shelf;
mod source;

use serde::Serialize;

use crate::id::{KeyId, VersionNo};
use crate::time::Timestamp;
use crate::token::Locator;

pub(crate) use source::{Source, SourceName};

/// From how many failures within an hour on an alarm is told of a source, and of a locator.
///
/// Each validating process counts for itself. At ten times as many a second alarm is told, of a sort of its own, so that
/// the worst is named whatever else there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct SignalSettings {
    pub(crate) source: u32,
    pub(crate) locator: u32,
    pub(crate) is_on: bool,
}

/// 100 failures within an hour, of a source as of a locator.
impl Default for SignalSettings {
    fn default() -> Self {
        Self { source: 100, locator: 100, is_on: true }
    }
}

impl SignalSettings {
    /// The fewest failures that are told: what has fewer has no name yet.
    pub const FEWEST: u32 = shelf::NAMED_FROM;

    /// Nothing is counted of sources and locators.
    pub fn off() -> Self {
        Self { is_on: false, ..Self::default() }
    }

    /// How many failures of one source within an hour are told; at least [`SignalSettings::FEWEST`].
    pub fn source_failures(mut self, failures: u32) -> Self {
        self.source = failures.max(Self::FEWEST);
        self
    }

    /// How many failures at one locator within an hour are told; at least [`SignalSettings::FEWEST`].
    pub fn locator_failures(mut self, failures: u32) -> Self {
        self.locator = failures.max(Self::FEWEST);
        self
    }
}

/// Who failed most since the present hour began, as one validating process counted it: see
/// [`Validator::signals`](crate::Validator::signals).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SignalReport {
    /// From when on.
    pub since: Timestamp,
    /// How many requests with a source were denied as not authenticated (401).
    pub failures: u64,
    /// How many were not counted, because another request was being counted at the same place.
    pub uncounted: u64,
    /// The sources that failed most, the worst first.
    pub sources: Vec<FailingSource>,
    /// The locators at which most wrong tokens were presented, the worst first.
    pub locators: Vec<FailingLocator>,
}

/// A source whose requests were denied as not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailingSource {
    /// The name that the host gave it, or its address; of IPv6 its network of 64 bits.
    pub source: String,
    /// How often it failed, at least.
    pub failures: u64,
    /// How often it failed, at most: other sources may have been counted in its place before.
    pub at_most: u64,
    /// How many of its failures presented the right secret of a version that is over.
    pub outdated: u64,
}

/// A locator that was presented without the right secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailingLocator {
    /// The locator.
    pub locator: Locator,
    /// How often that was, at least.
    pub failures: u64,
    /// How often that was, at most.
    pub at_most: u64,
    /// The version that has this locator, if one does.
    pub version: Option<(KeyId, VersionNo)>,
}
