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
    Suspended(OwnerId),
}

/// The marks of one store in this process.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    any: AtomicBool,
    set: RwLock<HashSet<Mark>>,
}

impl Marks {
    /// The marks that all managers and validators of this process on one store share.
    pub(crate) fn of(store: StoreId) -> Arc<Self> {
        static ALL: OnceLock<Mutex<HashMap<StoreId, Arc<Marks>>>> = OnceLock::new();
        let all = ALL.get_or_init(Mutex::default);
        Arc::clone(all.lock().unwrap_or_else(PoisonError::into_inner).entry(store).or_default())
    }

    pub(crate) fn set(&self, mark: Mark) {
        self.set.write().unwrap_or_else(PoisonError::into_inner).insert(mark);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Lifts a mark whose outcome is known now.
    pub(crate) fn lift(&self, mark: Mark) {
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        set.remove(&mark);
        self.any.store(!set.is_empty(), Ordering::SeqCst);
    }

    /// Whether a mark denies this version.
    pub(crate) fn denies(&self, key: KeyId, version: VersionNo, owner: OwnerId) -> Option<Mark> {
        if !self.any.load(Ordering::SeqCst) {
            return None;
        }
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        [Mark::Version(key, version), Mark::Key(key), Mark::OwnersKeys(owner), Mark::Suspended(owner)]
            .into_iter()
            .find(|mark| set.contains(mark))
    }
}
