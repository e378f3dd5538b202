//! Deny marks: what this process denies because a revocation's outcome is not known.
//!
//! They lie beside the replica, so that no catching up clears them; every validator of the process on the same
//! store sees them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::id::{KeyId, OwnerId, StoreId, VersionNo};

/// What an act of denial names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    Version(KeyId, VersionNo),
    Key(KeyId),
    OwnersKeys(OwnerId),
    /// All versions of a key whose replacement's outcome is not known.
    Replaced(KeyId),
    Suspended(OwnerId),
}

/// The marks of one store in this process.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    any: AtomicBool,
    set: RwLock<Snapshot>,
}

/// The marks at one moment.
pub(crate) type Snapshot = Arc<HashSet<Mark>>;

impl Marks {
    /// The marks that all managers and validators of this process on one store share, named by the id that the store
    /// was founded with: a restored backup has another, and lifts no mark.
    pub(crate) fn of(store: StoreId) -> Arc<Self> {
        static ALL: OnceLock<Mutex<HashMap<StoreId, Arc<Marks>>>> = OnceLock::new();
        let all = ALL.get_or_init(Mutex::default);
        Arc::clone(all.lock().unwrap_or_else(PoisonError::into_inner).entry(store).or_default())
    }

    pub(crate) fn set(&self, mark: Mark) {
        Arc::make_mut(&mut self.set.write().unwrap_or_else(PoisonError::into_inner)).insert(mark);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Lifts a mark whose outcome is known now.
    pub(crate) fn lift(&self, mark: Mark) {
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut set).remove(&mark);
        self.any.store(!set.is_empty(), Ordering::SeqCst);
    }

    /// The marks now, if there are any.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        if !self.any.load(Ordering::SeqCst) {
            return None;
        }
        Some(Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What marks say of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) revoked: bool,
    pub(crate) suspended: bool,
}

impl Marked {
    /// Adds what a snapshot says.
    pub(crate) fn add(&mut self, marks: &Snapshot, key: KeyId, version: VersionNo, owner: OwnerId) {
        let revoking =
            [Mark::Version(key, version), Mark::Key(key), Mark::Replaced(key), Mark::OwnersKeys(owner)];
        self.revoked |= revoking.iter().any(|mark| marks.contains(mark));
        self.suspended |= marks.contains(&Mark::Suspended(owner));
    }
}
