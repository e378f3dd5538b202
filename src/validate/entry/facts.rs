//! Facts: what an entry said at one moment.

use std::fmt;

use crate::id::{KeyId, VersionNo};
use crate::keyring::Generation;
use crate::lifecycle::Validity;
use crate::time::Timestamp;
use crate::validate::entry::{KeyState, State, key_of, time_of, word};
use crate::version::EndReason;

/// What an entry said at one moment: its words, each of which is read when it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(super) number: u64,
    pub(super) end: u64,
    pub(super) digest: [u64; 4],
    pub(super) key: [u64; 2],
    pub(super) owner: u64,
    pub(super) deprecated: u64,
    pub(super) not_before: u64,
}

/// Without the digest.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, key_state) = (self.state(), self.key_state());
        write!(f, "Facts({} {:?} {state:?} {key_state:?})", self.key(), self.version())
    }
}

/// How a version stands to its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// There is none.
    Nothing,
    /// One waits to be claimed until then.
    Waits(Timestamp),
    /// It is superseded since then.
    Superseded(Timestamp),
}

impl Following {
    /// As it is at a time: a successor waits until the last moment to claim it, whether or not a tick has recorded that.
    #[inline]
    pub(crate) fn at(self, t: Timestamp) -> Self {
        match self {
            Self::Waits(by) if by <= t => Self::Nothing,
            following => following,
        }
    }
}

impl Facts {
    #[inline]
    pub(crate) fn key(&self) -> KeyId {
        key_of(self.key)
    }

    #[inline]
    pub(crate) fn version(&self) -> VersionNo {
        VersionNo::new(self.number as u32)
    }

    /// The generation of the digest; of a version whose row cannot be checked, the one that is missing.
    #[inline]
    pub(crate) fn generation(&self) -> Generation {
        Generation::new((self.number >> 32) as u32)
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::of(self.end)
    }

    #[inline]
    pub(crate) fn digest(&self) -> [u64; 4] {
        self.digest
    }

    #[inline]
    pub(crate) fn key_state(&self) -> KeyState {
        KeyState::of(self.not_before)
    }

    /// The number of the owner.
    #[inline]
    pub(crate) fn owner(&self) -> u32 {
        self.owner as u32
    }

    /// The number of the profile.
    #[inline]
    pub(crate) fn profile(&self) -> u32 {
        (self.owner >> 32) as u32
    }

    #[inline]
    pub(crate) fn not_before(&self) -> Timestamp {
        time_of(self.not_before).unwrap_or(Timestamp::MAX)
    }

    /// When the version ends or ended.
    #[inline]
    pub(crate) fn end(&self) -> Option<Timestamp> {
        time_of(self.end)
    }

    #[inline]
    pub(crate) fn following(&self) -> Following {
        match time_of(self.deprecated) {
            None => Following::Nothing,
            Some(by) if self.deprecated & word::WAITS != 0 => Following::Waits(by),
            Some(since) => Following::Superseded(since),
        }
    }

    /// The generation under which the key's row was written, where that is what is missing.
    pub(crate) fn missing_of_key(&self) -> Option<Generation> {
        (self.key_state() == KeyState::Behind).then_some(Generation::new(self.owner()))
    }

    /// Whether there is a digest that a secret can match.
    #[inline]
    pub(crate) fn has_digest(&self) -> bool {
        !matches!(self.state(), State::Behind | State::Tampered | State::Absent)
    }

    /// Whether its secret never validates again, whatever it is.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state(), State::Revoked | State::Expired | State::Retired | State::Cancelled)
    }

    /// What decides whether the version validates.
    #[inline]
    pub(crate) fn validity(&self) -> Validity {
        let state = self.state();
        let ended = match state {
            State::Live | State::Fresh | State::Leaving | State::Undelivered | State::Offered => None,
            State::Revoked => Some(EndReason::Revoked),
            State::Expired => Some(EndReason::Expired),
            State::Retired => Some(EndReason::Retired),
            // Nobody comes here whose row is not believed; if somebody did, it would be to no grant.
            State::Cancelled | State::Absent | State::Tampered | State::Behind => Some(EndReason::Cancelled),
        };
        Validity {
            revoked: self.key_state() == KeyState::Revoked || state == State::Revoked,
            ended,
            end: self.end(),
            by: match state {
                State::Leaving => EndReason::Retired,
                State::Offered => EndReason::Cancelled,
                _ => EndReason::Expired,
            },
            delivered: state != State::Undelivered,
            not_before: self.not_before(),
        }
    }
}
