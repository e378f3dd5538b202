//! The tally of alarms: of each sort at most twenty an hour are told one by one, the others by their number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::notification::{Notification, NotificationKind, Severity};
use crate::records::Record;
use crate::store::{RowIndex, RowKind, UsageBucket};
use crate::time::Timestamp;

/// How many alarms of one sort are told one by one in an hour.
pub(crate) const MOST: u32 = 20;

/// How many alarms of one sort there were in an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmTally {
    pub(crate) subject: String,
    pub(crate) hour: Timestamp,
    told: u32,
    pub(crate) more: u64,
    /// The worst of those that are only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
}

impl AlarmTally {
    pub(crate) const STATE: &'static str = "tally";

    pub(crate) fn new(subject: &str, t: Timestamp) -> Self {
        Self {
            subject: subject.to_owned(),
            hour: UsageBucket::hour_of(t).begin(),
            told: 0,
            more: 0,
            severity: None,
        }
    }

    pub(crate) fn id_of(subject: &str) -> String {
        format!("~alarms/{subject}")
    }

    /// When the rest of its hour is told.
    pub(crate) fn ends_at(&self) -> Timestamp {
        self.hour.plus(Duration::from_secs(3_600)).unwrap_or(Timestamp::MAX)
    }

    /// Counts an alarm; says whether it is told by itself.
    pub(crate) fn count(&mut self, severity: Severity, t: Timestamp) -> bool {
        if UsageBucket::hour_of(t).begin() != self.hour {
            *self = Self { more: self.more, severity: self.severity, ..Self::new(&self.subject, t) };
        }
        if self.told < MOST {
            self.told += 1;
            true
        } else {
            self.more += 1;
            self.severity = self.severity.max(Some(severity));
            false
        }
    }

    /// What is told of those that were not told one by one, once; nothing while their hour is not over.
    pub(crate) fn rest(&mut self, t: Timestamp) -> Option<Notification> {
        if self.more == 0 || (self.hour..self.ends_at()).contains(&t) {
            return None;
        }
        let mut told = Notification::new(t, NotificationKind::Alarm);
        told.subject = Some(self.subject.clone());
        told.more = Some(std::mem::take(&mut self.more));
        told.severity = self.severity.take().unwrap_or(told.severity);
        Some(told.identified(&self.hour.to_string()))
    }
}

impl Record for AlarmTally {
    const KIND: RowKind = RowKind::Outbox;
    fn row_id(&self) -> String {
        Self::id_of(&self.subject)
    }
    fn index(&self) -> RowIndex {
        RowIndex {
            due_at: (self.more > 0).then(|| self.ends_at()),
            state: Some(Self::STATE.to_owned()),
            ..RowIndex::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_alarms_an_hour_are_told_and_the_others_counted() {
        let at =
            |minutes: i64| Timestamp::from_unix_micros(1_798_761_600_000_000 + minutes * 60_000_000).unwrap();
        let mut tally = AlarmTally::new("leak", at(5));
        let told =
            |tally: &mut AlarmTally, t, n| (0..n).filter(|_| tally.count(Severity::Warning, t)).count();
        assert_eq!(told(&mut tally, at(5), 19), 19);
        assert_eq!(tally.rest(at(65)), None);
        assert_eq!(told(&mut tally, at(59), 30), 1);
        assert_eq!(tally.rest(at(59)), None, "its hour is not over");
        let rest = tally.clone().rest(at(60)).unwrap();
        assert_eq!((rest.more, rest.subject.as_deref()), (Some(29), Some("leak")));
        assert_eq!(rest.severity, Severity::Warning, "no worse than what it counts");
        // The next hour begins before anybody has told the rest of this one.
        assert_eq!(told(&mut tally, at(61), 25), 20);
        assert!(!tally.count(Severity::Critical, at(62)));
        let rest = tally.rest(at(120)).unwrap();
        assert_eq!((rest.more, rest.severity), (Some(35), Severity::Critical), "the worst of them");
        assert_eq!(tally.rest(at(120)), None, "told once");
    }
}
