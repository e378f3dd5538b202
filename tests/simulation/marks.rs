//! The deny marks of the naive model: what a process denies beside what the store says.

use crate::acts::Act;
use crate::answers::{Failure, Outcome};
use crate::naive::Naive;

/// What the process denies because a revocation failed, or its outcome is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    Key(usize),
    Version(usize, u32),
    OwnersKeys(&'static str),
    Replaced(usize),
    Suspended(&'static str),
}

impl Mark {
    /// The mark that an act leaves when it fails.
    pub fn of(act: &Act) -> Option<Self> {
        match *act {
            Act::RevokeKey { key, .. } => Some(Self::Key(key)),
            Act::RevokeVersion { key, version, .. } => Some(Self::Version(key, version)),
            Act::RevokeOwner { owner, .. } => Some(Self::OwnersKeys(owner)),
            Act::Replace { key, .. } => Some(Self::Replaced(key)),
            Act::Suspend { owner } => Some(Self::Suspended(owner)),
            _ => None,
        }
    }
}

impl Naive {
    /// What an act has done to the marks of the process, by its outcome.
    pub fn mark(&mut self, act: &Act, outcome: &Outcome) {
        use Failure::{AlreadyDone, NothingToReplace, Open, Trouble};
        let Some(mark) = Mark::of(act) else {
            if let (Act::Resume { owner }, Ok(_)) = (act, outcome) {
                self.marks.remove(&Mark::Suspended(owner));
            }
            return;
        };
        let decided = matches!(mark, Mark::Replaced(_));
        match outcome {
            Ok(_) | Err(AlreadyDone(..)) => drop(self.marks.remove(&mark)),
            Err(Trouble(_) | Open(_)) => drop(self.marks.insert(mark)),
            Err(NothingToReplace(_)) if decided => drop(self.marks.remove(&mark)),
            Err(failure) if decided && failure.is_of_the_lifecycle() => drop(self.marks.remove(&mark)),
            Err(_) => {}
        }
    }

    /// Whether marks deny a version: as revoked, and as suspended.
    pub fn marked(&self, key: usize, version: u32) -> (bool, bool) {
        if self.marks.is_empty() {
            return (false, false);
        }
        let owner = self.keys[key].owner;
        let revoking =
            [Mark::Key(key), Mark::Version(key, version), Mark::OwnersKeys(owner), Mark::Replaced(key)];
        (revoking.iter().any(|mark| self.marks.contains(mark)), self.marks.contains(&Mark::Suspended(owner)))
    }
}
