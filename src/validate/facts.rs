//! What versions share: owners and profiles, told once and named by numbers.
//!
//! Both are added and never removed, so that a reader may hold on to one; what changes about them is one atomic word
//! each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::{OwnerId, RoleName};
use crate::keyring::Generation;
use crate::limit::{Limits, Pace};
use crate::network::Networks;
use crate::scope::{Scope, ScopeSet};
use crate::token::Prefix;
use crate::validate::arena::Arena;
use crate::validate::imports::Imports;

/// What an owner's row says, in one word: how it stands, and the number of its ceiling or the missing generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no row, or it was edited.
    Missing,
    /// The row was written under a generation that is not held.
    Behind(Generation),
    Sound {
        suspended: bool,
        /// The set of scopes beyond which no key goes.
        ceiling: Option<u32>,
    },
}

impl Standing {
    fn word(self) -> u64 {
        let upper = |number: u32| u64::from(number) << 32;
        match self {
            Self::Missing => 0,
            Self::Behind(generation) => 1 | upper(generation.get()),
            Self::Sound { suspended, ceiling } => {
                2 | u64::from(suspended) | (ceiling.map_or(0, |ceiling| 4 | upper(ceiling)))
            }
        }
    }

    fn of(word: u64) -> Self {
        let upper = (word >> 32) as u32;
        match word & 3 {
            0 => Self::Missing,
            1 => Self::Behind(Generation::new(upper)),
            low => Self::Sound { suspended: low == 3, ceiling: (word & 4 != 0).then_some(upper) },
        }
    }
}

/// An owner of held versions.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) id: OwnerId,
    standing: AtomicU64,
}

/// What the rows of keys have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Traits {
    pub(crate) prefix: Prefix,
    pub(crate) scopes: ScopeSet,
    pub(crate) role: Option<RoleName>,
    pub(crate) limits: Limits,
    pub(crate) networks: Option<Networks>,
}

/// Traits, with the scopes that they come to.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) traits: Traits,
    /// What the rate limits come to, in their order.
    pub(crate) paces: Box<[Pace]>,
    /// The number of the set: the key's own scopes and its role's.
    granted: AtomicU64,
}

/// Owners, profiles and sets of scopes by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    owners: Arena<Owner>,
    profiles: Arena<Profile>,
    sets: Arena<ScopeSet>,
    pub(crate) imports: Imports,
}

impl Shared {
    #[inline]
    pub(crate) fn owner(&self, number: u32) -> Option<&Owner> {
        self.owners.get(number as usize)
    }

    #[inline]
    pub(crate) fn profile(&self, number: u32) -> Option<&Profile> {
        self.profiles.get(number as usize)
    }

    /// The set of scopes of a number; an unknown one grants nothing.
    #[inline]
    pub(crate) fn set(&self, number: u32) -> &ScopeSet {
        const NOTHING: &ScopeSet = &ScopeSet::EMPTY;
        self.sets.get(number as usize).unwrap_or(NOTHING)
    }
}

impl Owner {
    #[inline]
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.standing.load(Ordering::Relaxed))
    }
}

impl Profile {
    /// Whether the key's limits need more than the one word of an entry.
    pub(crate) fn needs_cells(&self) -> bool {
        self.paces.len() > 1 || self.traits.limits.quota().is_some()
    }

    #[inline]
    pub(crate) fn granted(&self) -> u32 {
        self.granted.load(Ordering::Relaxed) as u32
    }
}

/// What a version's key and owner may do, as numbers of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) granted: u32,
    pub(crate) ceiling: Option<u32>,
}

impl Shared {
    /// Whether a demand lies within the bounds.
    pub(crate) fn covers(&self, bounds: Bounds, demanded: &Scope) -> bool {
        bounds.ceiling.is_none_or(|ceiling| self.set(ceiling).covers(demanded))
            && self.set(bounds.granted).covers(demanded)
    }

    /// All that lies within the bounds.
    pub(crate) fn scopes(&self, bounds: Bounds) -> ScopeSet {
        let granted = self.set(bounds.granted);
        bounds.ceiling.map_or_else(|| granted.clone(), |ceiling| granted.intersection(self.set(ceiling)))
    }
}

/// The writer's side of [`Shared`]: which number each has.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    owners: HashMap<OwnerId, u32>,
    profiles: HashMap<Traits, u32>,
    sets: HashMap<ScopeSet, u32>,
    /// The scopes of the roles that can be believed.
    roles: HashMap<RoleName, ScopeSet>,
}

fn next<K>(map: &HashMap<K, u32>) -> u32 {
    u32::try_from(map.len()).unwrap_or(u32::MAX)
}

impl Numbers {
    pub(crate) fn owner(&mut self, id: OwnerId, shared: &Shared) -> u32 {
        let number = next(&self.owners);
        *self.owners.entry(id).or_insert_with(|| {
            shared.owners.set(number as usize, Owner { id, standing: AtomicU64::new(0) });
            number
        })
    }

    pub(crate) fn set(&mut self, set: &ScopeSet, shared: &Shared) -> u32 {
        if let Some(number) = self.sets.get(set) {
            return *number;
        }
        let number = next(&self.sets);
        shared.sets.set(number as usize, set.clone());
        self.sets.insert(set.clone(), number);
        number
    }

    pub(crate) fn profile(&mut self, traits: Traits, shared: &Shared) -> u32 {
        if let Some(number) = self.profiles.get(&traits) {
            return *number;
        }
        let number = next(&self.profiles);
        let granted = AtomicU64::new(self.granted(&traits, shared).into());
        let paces = traits.limits.rates().iter().map(Pace::new).collect();
        shared.profiles.set(number as usize, Profile { traits: traits.clone(), paces, granted });
        self.profiles.insert(traits, number);
        number
    }

    /// The scopes of traits: their own, and their role's while that can be believed.
    fn granted(&mut self, traits: &Traits, shared: &Shared) -> u32 {
        let of_role = traits.role.as_ref().and_then(|role| self.roles.get(role));
        let granted = of_role.map_or_else(|| traits.scopes.clone(), |scopes| traits.scopes.union(scopes));
        self.set(&granted, shared)
    }

    pub(crate) fn set_standing(&mut self, id: OwnerId, standing: Standing, shared: &Shared) {
        let number = self.owner(id, shared);
        if let Some(owner) = shared.owner(number) {
            owner.standing.store(standing.word(), Ordering::Relaxed);
        }
    }

    /// All owners and roles that have been told of.
    pub(crate) fn names(&self) -> (Vec<OwnerId>, Vec<RoleName>) {
        (self.owners.keys().copied().collect(), self.roles.keys().cloned().collect())
    }

    /// Gives a role its scopes, or takes them away, in each profile that names it.
    pub(crate) fn set_role(&mut self, role: RoleName, scopes: Option<ScopeSet>, shared: &Shared) {
        match scopes {
            Some(scopes) => drop(self.roles.insert(role.clone(), scopes)),
            None => drop(self.roles.remove(&role)),
        }
        for number in 0..next(&self.profiles) {
            if let Some(profile) = shared.profile(number)
                && profile.traits.role.as_ref() == Some(&role)
            {
                let granted = self.granted(&profile.traits, shared);
                profile.granted.store(granted.into(), Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_fits_one_word() {
        for standing in [
            Standing::Missing,
            Standing::Behind(Generation::FIRST),
            Standing::Sound { suspended: false, ceiling: None },
            Standing::Sound { suspended: true, ceiling: None },
            Standing::Sound { suspended: true, ceiling: Some(0) },
            Standing::Sound { suspended: false, ceiling: Some(u32::MAX) },
        ] {
            assert_eq!(Standing::of(standing.word()), standing);
        }
    }
}
