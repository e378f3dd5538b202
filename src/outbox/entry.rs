//! The outbox's row: one notification for one channel, and the rules of trying.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::notification::Notification;
use crate::records::Record;
use crate::store::{Revision, RowIndex, RowKind};
use crate::time::Timestamp;

/// How long nobody else tries what somebody is trying.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// The first pause after a failure; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// The longest that a receiver may ask to wait.
const LONGEST_ASKED: Duration = Duration::from_secs(86_400);
/// What still fails after so many attempts and so long becomes a dead letter.
const GIVE_UP_ATTEMPTS: u32 = 10;
const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// How long what was delivered is kept, and a dead letter.
pub(crate) const DELIVERED_KEPT: Duration = Duration::from_secs(7 * 86_400);
pub(crate) const DEAD_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// How long a notification waits for a channel that nobody serves.
pub(crate) const UNSERVED_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// The longest error text that is kept, in bytes.
const MAX_ERROR: usize = 200;

/// Where a notification stands on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryState {
    /// To be told, now or later.
    Pending,
    /// It was told.
    Delivered,
    /// It will not be told unless somebody says so.
    Dead,
}

impl EntryState {
    pub(crate) const PENDING: &'static str = "pending";
    pub(crate) const DELIVERED: &'static str = "delivered";
    pub(crate) const DEAD: &'static str = "dead";
}

/// Somebody is telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) taken_at: Timestamp,
    pub(crate) until: Timestamp,
}

impl Lease {
    /// A clock that went back voids it, so that no lie about the time keeps a notification for long.
    pub(crate) fn holds(self, now: Timestamp) -> bool {
        self.taken_at <= now && now < self.until
    }
}

/// The place of a notification among those of its key: they are told in the order of the changes that they tell of.
///
/// Each change of a key replaces its row, so the revision that it replaces tells the changes' order. What time alone
/// made worth telling relies on the row as it is, and comes before the change that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) replaces: Revision,
    pub(crate) by_change: bool,
    pub(crate) place: usize,
}

/// A notification on its way to one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutboxEntry {
    rank: String,
    pub(crate) channel: String,
    pub(crate) state: EntryState,
    pub(crate) created_at: Timestamp,
    /// When it is to be told next; once it is not, when the row may go.
    pub(crate) due_at: Timestamp,
    #[serde(default)]
    pub(crate) attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_tried_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tried_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) done_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) notification: Notification,
}

impl OutboxEntry {
    pub(crate) fn new(channel: &str, notification: Notification, rank: Rank, t: Timestamp) -> Self {
        let Rank { replaces, by_change, place } = rank;
        Self {
            rank: format!("{:016x}{}{place:06x}", replaces.0, u8::from(by_change)),
            channel: channel.to_owned(),
            state: EntryState::Pending,
            created_at: t,
            due_at: t,
            attempts: 0,
            first_tried_at: None,
            tried_at: None,
            lease: None,
            done_at: None,
            error: None,
            notification,
        }
    }

    /// The field by which it is told from all others, whatever became of it.
    pub(crate) fn identity(notification: &Notification, channel: &str) -> String {
        format!("{}/{channel}", notification.id)
    }

    /// What it is about, of which things are told in their order; `None` is nothing in particular.
    pub(crate) fn subject(&self) -> Option<String> {
        let key = self.notification.key.map(|key| key.to_string());
        key.or_else(|| self.notification.owner.map(|owner| format!("owner {owner}")))
    }

    /// Whether somebody may try it now. A clock that went back makes it due, too: before it was made, or tried.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let is_free = self.lease.is_none_or(|lease| !lease.holds(now));
        let has_come = now >= self.due_at || now < self.tried_at.unwrap_or(self.created_at);
        self.state == EntryState::Pending && is_free && has_come
    }

    /// When it is due, as far as one can say.
    pub(crate) fn next_due(&self) -> Timestamp {
        self.lease.map_or(self.due_at, |lease| lease.until.max(self.due_at))
    }

    /// Taken, to be tried at once.
    pub(crate) fn taken(mut self, now: Timestamp) -> Self {
        self.lease = Some(Lease { taken_at: now, until: now.plus(LEASE).unwrap_or(Timestamp::MAX) });
        self.attempts = self.attempts.saturating_add(1);
        self.first_tried_at.get_or_insert(now);
        self.tried_at = Some(now);
        self
    }

    pub(crate) fn delivered(mut self, now: Timestamp) -> Self {
        self.error = None;
        self.over(EntryState::Delivered, now, DELIVERED_KEPT)
    }

    pub(crate) fn dead(mut self, now: Timestamp, why: &str) -> Self {
        self.error = Some(bounded(why));
        self.over(EntryState::Dead, now, DEAD_KEPT)
    }

    fn over(mut self, state: EntryState, now: Timestamp, kept: Duration) -> Self {
        self.lease = None;
        self.done_at = Some(now);
        self.due_at = now.plus(kept).unwrap_or(Timestamp::MAX);
        Self { state, ..self }
    }

    /// To be tried again, or given up.
    pub(crate) fn failed(mut self, now: Timestamp, asked: Option<Duration>, why: &str) -> Self {
        let since = self.first_tried_at.map_or(Duration::ZERO, |first| now.since(first));
        if self.attempts >= GIVE_UP_ATTEMPTS && since >= GIVE_UP_AFTER {
            return self.dead(now, why);
        }
        let pause = pause(self.attempts, &self.row_id()).max(asked.unwrap_or_default().min(LONGEST_ASKED));
        self.lease = None;
        self.error = Some(bounded(why));
        self.due_at = now.plus(pause).unwrap_or(Timestamp::MAX);
        self
    }

    /// Once more from the beginning.
    pub(crate) fn revived(self, now: Timestamp) -> Self {
        Self {
            state: EntryState::Pending,
            due_at: now,
            attempts: 0,
            first_tried_at: None,
            tried_at: None,
            done_at: None,
            lease: None,
            ..self
        }
    }
}

/// How long to wait after so many attempts: twice as long each time, less up to a quarter, by a hash of what is tried,
/// so that what failed together is not tried together.
pub(crate) fn pause(attempts: u32, of: &str) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let hash = crypto::sha256(format!("{of} {attempts}").as_bytes());
    let less = u32::from(hash.first().copied().unwrap_or_default());
    doubled - doubled / 4 * less / 255
}

/// A text from a notifier, as it may be kept: short, and on one line.
fn bounded(text: &str) -> String {
    let clean = text
        .chars()
        .map(|c| if crate::text::check("error", &c.to_string(), 4).is_ok() || c == ' ' { c } else { '�' });
    let mut kept = String::new();
    for c in clean {
        if kept.len() + c.len_utf8() > MAX_ERROR {
            break;
        }
        kept.push(c);
    }
    kept
}

impl Record for OutboxEntry {
    const KIND: RowKind = RowKind::Outbox;
    fn row_id(&self) -> String {
        format!("{}/{}", self.rank, Self::identity(&self.notification, &self.channel))
    }
    fn index(&self) -> RowIndex {
        let (state, queue) = match self.state {
            EntryState::Pending => (EntryState::PENDING, Some(self.channel.clone())),
            EntryState::Dead => (EntryState::DEAD, Some(dead_queue(&self.channel))),
            EntryState::Delivered => (EntryState::DELIVERED, None),
        };
        RowIndex {
            parent: self.notification.key.map(|key| key.to_string()),
            owner: queue,
            due_at: Some(self.due_at),
            state: Some(state.to_owned()),
            unique: Some(Self::identity(&self.notification, &self.channel)),
            ..RowIndex::default()
        }
    }
}

/// The queue of a channel's dead letters; no channel has such a name.
pub(crate) fn dead_queue(channel: &str) -> String {
    format!("{channel} dead")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::NotificationKind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(1_798_761_600_000_000 + seconds * 1_000_000).unwrap()
    }

    fn entry() -> OutboxEntry {
        let rank = Rank { replaces: Revision(7), by_change: true, place: 2 };
        let told = Notification::new(at(0), NotificationKind::Issued).identified("req");
        OutboxEntry::new("ops", told, rank, at(0))
    }

    #[test]
    fn a_lease_holds_from_its_taking_until_its_end_and_under_no_other_clock() {
        let taken = entry().taken(at(10));
        for (now, due) in [(9, true), (10, false), (69, false), (70, true), (1_000_000, true), (-5, true)] {
            assert_eq!(taken.is_due(at(now)), due, "{now}");
        }
        assert_eq!((taken.attempts, taken.next_due()), (1, at(70)));
        assert!(entry().is_due(at(0)) && entry().is_due(at(-1)));
    }

    #[test]
    fn pauses_double_up_to_an_hour_less_a_quarter_at_most_and_differ() {
        for (attempts, most) in
            [(1, 30), (2, 60), (3, 120), (7, 1_920), (8, 3_600), (9, 3_600), (u32::MAX, 3_600)]
        {
            let most = Duration::from_secs(most);
            for n in 0..50 {
                let pause = pause(attempts, &format!("row {n}"));
                assert!(pause <= most && pause >= most * 3 / 4, "{attempts}: {pause:?}");
                assert_eq!(pause, super::pause(attempts, &format!("row {n}")), "no draw");
            }
        }
        let pauses: std::collections::BTreeSet<_> = (0..100).map(|n| pause(5, &n.to_string())).collect();
        assert!(pauses.len() > 50, "{}", pauses.len());
    }

    #[test]
    fn a_failure_waits_at_least_as_long_as_was_asked_but_never_longer_than_a_day() {
        let failed = |asked| entry().taken(at(0)).failed(at(5), asked, "no").due_at;
        assert!(failed(None) <= at(35) && failed(None) >= at(27));
        assert_eq!(failed(Some(Duration::from_secs(1))), failed(None), "no sooner than by itself");
        assert_eq!(failed(Some(Duration::from_secs(600))), at(605));
        assert_eq!(failed(Some(Duration::MAX)), at(86_405));
        let failed = entry().taken(at(0)).failed(at(5), None, "no");
        assert!(!failed.is_due(at(6)) && failed.is_due(failed.due_at));
        assert!(failed.is_due(at(-1)), "a clock that went back does not keep it waiting");
    }

    #[test]
    fn what_fails_for_a_week_is_given_up_and_can_be_revived() {
        let week = 7 * 86_400;
        let mut entry = entry();
        for _ in 0..9 {
            entry = entry.taken(at(0)).failed(at(1), None, "no");
            assert_eq!(entry.state, EntryState::Pending);
        }
        let often = entry.clone().taken(at(100)).failed(at(week - 1), None, "no");
        assert_eq!(often.state, EntryState::Pending, "not before a week has passed");
        let dead = entry.taken(at(100)).failed(at(week), None, "the end");
        assert_eq!((dead.state, dead.error.as_deref()), (EntryState::Dead, Some("the end")));
        assert_eq!(dead.index().owner.as_deref(), Some("ops dead"));
        let revived = dead.revived(at(week + 5));
        assert!(revived.is_due(at(week + 5)) && revived.attempts == 0);
        let once = OutboxEntry::new(
            "ops",
            revived.notification.clone(),
            Rank { replaces: Revision(1), by_change: true, place: 0 },
            at(0),
        );
        assert_eq!(once.taken(at(0)).failed(at(week), None, "late").state, EntryState::Pending, "tried once");
    }

    #[test]
    fn what_is_told_of_a_notifier_s_error_is_short_and_on_one_line() {
        let kept = |text: &str| entry().dead(at(0), text).error.unwrap();
        assert_eq!(kept("no\nnew\u{202E}line"), "no�new�line");
        assert_eq!(kept(&"ä".repeat(500)).len(), 200);
        assert_eq!(kept("HTTP 503 from x"), "HTTP 503 from x");
    }

    #[test]
    fn rows_of_a_key_sort_by_the_change_that_they_tell_of() {
        let id = |replaces, by_change, place| {
            let told = Notification::new(at(0), NotificationKind::Issued).identified("x");
            OutboxEntry::new("ops", told, Rank { replaces: Revision(replaces), by_change, place }, at(0))
                .row_id()
        };
        let sorted = [id(9, true, 4), id(10, false, 0), id(10, true, 0), id(10, true, 11), id(256, false, 0)];
        assert!(sorted.is_sorted(), "{sorted:#?}");
        assert!(sorted.iter().all(|id| id.len() <= 120));
    }
}
