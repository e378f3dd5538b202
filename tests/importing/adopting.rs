//! Keys that only another system knows, taken over when they are used.

use std::sync::Mutex;

use keyrota::{AdoptError, DenialReason, ForeignKey, ImportColumn, LegacyLookup, LineProblem};

use crate::common::{on_both_stores, owner};
use crate::{foreign, import};

/// Another system, which remembers what it was asked.
#[derive(Default)]
struct Old {
    knows: Vec<String>,
    asked: Mutex<Vec<Vec<u8>>>,
    fails: bool,
}

impl LegacyLookup for Old {
    fn look_up(&self, token: &[u8]) -> Result<Option<ForeignKey>, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.lock().unwrap().push(token.to_vec());
        if self.fails {
            return Err("the old database is away".into());
        }
        if !self.knows.iter().any(|known| known.as_bytes() == token) {
            return Ok(None);
        }
        let mut key = ForeignKey::new(owner("eve"));
        key.set(ImportColumn::Name, "bcrypt")?;
        key.set(ImportColumn::ExpiresAt, "2027-03-01")?;
        Ok(Some(key))
    }
}

#[test]
fn a_key_that_the_other_system_accepts_is_taken_over_and_validates() {
    on_both_stores(|bed| {
        let old = Old { knows: vec![foreign(1)], ..Old::default() };
        assert_eq!(bed.denial(&foreign(1)), Some(DenialReason::Unknown));
        let key = bed.root().adopt(foreign(1), &old).unwrap().unwrap();
        let grant = bed.other_validator().validate(foreign(1)).unwrap();
        assert_eq!((grant.key(), grant.owner()), (key, owner("eve")));
        assert_eq!(bed.keys.get(key).unwrap().name.as_str(), "bcrypt");
        // Once: the store goes first.
        assert_eq!(bed.root().adopt(foreign(1), &old).unwrap(), Some(key));
        assert_eq!(old.asked.lock().unwrap().len(), 1);
        assert_eq!(bed.root().adopt(foreign(2), &old).unwrap(), None);
        assert_eq!(bed.denial(&foreign(2)), Some(DenialReason::Unknown));
    });
}

#[test]
fn of_a_key_that_the_store_knows_nobody_else_is_asked_also_when_it_was_revoked() {
    on_both_stores(|bed| {
        let old = Old { knows: vec![foreign(1), foreign(2)], ..Old::default() };
        let imported = import(&bed, &[&foreign(1)])[0];
        let adopted = bed.root().adopt(foreign(2), &old).unwrap().unwrap();
        for (n, key) in [(1, imported), (2, adopted)] {
            bed.root().revoke(key).unwrap();
            assert_eq!(bed.root().adopt(foreign(n), &old).unwrap(), Some(key));
            assert_eq!(bed.denial(&foreign(n)), Some(DenialReason::Revoked));
        }
        assert_eq!(old.asked.lock().unwrap().len(), 1);
    });
}

#[test]
fn nobody_is_asked_for_what_cannot_be_a_key_of_another_system() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let old = Old { knows: vec!["x".repeat(513)], ..Old::default() };
        for token in ["", &"x".repeat(513), &"x".repeat(10 << 20), issued.token.expose()] {
            assert_eq!(bed.root().adopt(token, &old).unwrap(), None);
        }
        assert!(old.asked.lock().unwrap().is_empty());
        assert_eq!(bed.root().adopt("x".repeat(512), &old).unwrap(), None);
        assert_eq!(old.asked.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_lookup_that_fails_and_a_key_that_cannot_be_taken_over_change_nothing() {
    on_both_stores(|bed| {
        let before = bed.store.head().unwrap();
        let failing = Old { fails: true, ..Old::default() };
        assert!(matches!(bed.root().adopt(foreign(1), &failing), Err(AdoptError::Lookup(_))));
        assert_eq!(bed.store.head().unwrap(), before);
        bed.root().issue(keyrota::NewKey::new(owner("eve"), "x").unwrap()).unwrap();
        bed.root().suspend(owner("eve")).unwrap();
        let old = Old { knows: vec![foreign(1)], ..Old::default() };
        let refused = bed.root().adopt(foreign(1), &old);
        assert!(matches!(refused, Err(AdoptError::Refused(LineProblem::OwnerSuspended))));
        assert_eq!(bed.denial(&foreign(1)), Some(DenialReason::Unknown));
    });
}
