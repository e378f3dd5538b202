//! The conformance suite: whether a [`KeyStore`] keeps the port's contract, one test for each promise.
//!
//! A store comes with a **bed**: one data set of its own, on which handles are opened. The suite takes a fresh
//! bed for each test, so the macro is given an expression that makes one:
//!
//! ```ignore
//! struct Bed(tempfile::TempDir);
//!
//! impl StoreBed for Bed {
//!     fn open(&self) -> Arc<dyn KeyStore> {
//!         Arc::new(SqliteStore::open(self.0.path().join("keys.db")).unwrap())
//!     }
//!     fn durability(&self) -> Durability {
//!         Durability::AfterClose
//!     }
//! }
//!
//! mod conformance {
//!     use super::*;
//!     keyrota::conformance_suite!(Bed(tempfile::tempdir().unwrap()));
//! }
//! ```
//!
//! Each behaviour is also a plain function over `&dyn StoreBed`, for those who bring their own harness. It
//! panics with the promise that was broken.
//!
//! Out of its reach: what a crash leaves behind, and [`CommitError::Unknown`](crate::store::CommitError::Unknown).
//! A store on disk tests these by killing itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test suite reports by panicking"
)]

mod commits;
mod feed;
mod lab;
mod log;
mod reads;
mod scans;
mod together;
mod usage;

use std::sync::Arc;

use crate::store::KeyStore;

pub use commits::*;
pub use feed::*;
pub use log::*;
pub use reads::*;
pub use scans::*;
pub use together::*;
pub use usage::*;

/// One data set of the store under test; empty when it is made.
pub trait StoreBed: Sync {
    /// Another handle on this data set. Handles must not depend on each other: the suite closes one and goes on
    /// with the others, and uses them from several threads.
    fn open(&self) -> Arc<dyn KeyStore>;

    /// How long the data lasts.
    fn durability(&self) -> Durability;
}

/// How long a store's data lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// While a handle is open; the tests about reopening then have nothing to ask and pass.
    WhileOpen,
    /// After all handles are closed, for whoever opens it again.
    AfterClose,
}

/// Makes one `#[test]` for each promise of the [`KeyStore`] contract; takes an expression that makes a fresh
/// [`StoreBed`]. See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! conformance_suite {
    ($bed:expr) => {
        $crate::conformance_suite! { @each ($bed)
            an_empty_store_has_no_head_and_only_founding_begins_it
            founding_twice_conflicts
            a_commit_is_all_or_nothing
            what_cannot_be_sealed_is_not_written
            an_emergency_goes_on_behind_all_that_a_damaged_head_does_not_tell
            each_commit_has_the_next_revision
            all_writes_of_a_commit_share_its_revision
            an_insert_refuses_a_taken_id
            an_insert_refuses_a_taken_unique_value
            a_replacement_refuses_a_taken_unique_value
            a_unique_value_is_taken_within_one_kind_only
            a_unique_value_is_freed_by_deletion_and_by_replacement
            a_stale_revision_conflicts
            an_absent_row_conflicts
            an_expected_absence_holds_only_while_the_row_is_absent
            an_expectation_that_holds_writes_nothing
            writes_are_carried_out_in_order
            rows_come_back_as_they_were_sealed
            entries_and_the_head_come_back_as_they_were_sealed
            an_absent_field_and_an_empty_one_stay_apart
            texts_that_look_alike_stay_apart
            a_row_is_found_by_its_id_and_by_its_unique_value
            a_handle_reads_its_own_commits_at_once
            another_handle_reads_each_commit
            a_stamp_changes_with_each_commit_of_any_handle
            reading_does_not_move_a_stamp
            a_scan_of_all_goes_by_id_after_its_cursor
            a_scan_by_parent_goes_by_id
            a_scan_by_owner_goes_by_id_after_its_cursor
            a_scan_of_what_is_due_goes_by_time_and_id_after_its_cursor
            scans_agree_with_their_filters
            a_scan_stops_when_its_callback_breaks
            scans_follow_replacements_and_deletions
            the_feed_tells_the_last_change_of_each_row_in_the_order_of_commits
            the_feed_tells_whole_commits
            the_feed_tells_a_commit_larger_than_the_limit
            the_feed_tells_deletions
            the_feed_tells_a_row_that_came_back
            the_feed_is_silent_on_kinds_that_are_not_followed
            a_row_that_is_written_again_keeps_its_revision_and_the_feed_is_silent
            the_feed_below_its_floor_tells_nothing
            the_feed_ahead_of_the_head_tells_nothing
            the_feed_of_an_empty_store_is_empty
            the_feed_page_holds_the_head
            audit_entries_come_in_order_without_gaps
            audit_queries_combine_their_fields
            an_audit_query_stops_when_its_callback_breaks
            usage_adds_up_by_version
            denials_are_counted_by_reason
            a_batch_that_is_handed_over_again_adds_nothing
            usage_touches_no_row_and_no_revision
            last_used_never_falls
            usage_does_not_wrap
            usage_from_several_threads_adds_up
            usage_is_kept_by_the_hour_then_by_the_day_then_in_all
            rolling_up_is_bounded_and_comes_to_an_end
            writers_tell_how_far_they_have_flushed
            usage_queries_choose_keys_and_times
            of_foundings_at_once_one_succeeds
            committers_at_once_lose_no_update
            a_reader_never_sees_half_a_commit
            a_follower_of_stamp_and_feed_misses_no_commit
            a_panic_in_a_callback_leaves_the_store_usable
            a_closed_handle_answers_closed
            closing_a_handle_leaves_the_others_open
            a_durable_store_keeps_everything
        }
    };
    (@each ($bed:expr) $($behaviour:ident)*) => {
        $(
            #[test]
            fn $behaviour() {
                $crate::conformance::$behaviour(&$bed);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_macro_names_each_behaviour_once() {
        let listed = include_str!("mod.rs");
        let listed = listed.split("@each ($bed)\n").nth(1).unwrap();
        let mut listed: Vec<_> = listed.split('}').next().unwrap().split_whitespace().collect();
        let sources = [
            include_str!("commits.rs"),
            include_str!("feed.rs"),
            include_str!("log.rs"),
            include_str!("reads.rs"),
            include_str!("scans.rs"),
            include_str!("together.rs"),
            include_str!("usage.rs"),
        ];
        let written = sources.iter().flat_map(|source| source.lines());
        let written = written.filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next());
        let mut written: Vec<_> = written.collect();
        listed.sort_unstable();
        written.sort_unstable();
        assert_eq!(listed, written);
    }
}
