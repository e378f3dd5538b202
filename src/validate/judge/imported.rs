//! The verdict on a token that another system made, and that was imported.
//!
//! Only what is not of the form of this library's own tokens comes here. The token is hashed in each form in which
//! secrets were imported, under each generation that is held, and looked for under each name that this gives, all of
//! it each time: so the time tells nothing of what was found, beyond whether it was.

use crate::crypto;
use crate::imported::{self, DigestForm, ForeignDigest, MAX_TOKEN, Strength, Upgrade};
use crate::keyring::Generation;
use crate::validate::Inner;
use crate::validate::denial::{Denial, Unavailable};
use crate::validate::entry::State;
use crate::validate::grant::{Demand, Grant};
use crate::validate::imports::Forms;
use crate::validate::judge::{Found, View};
use crate::validate::replica::{Place, Replica};

/// How many forms there are.
const FORMS: usize = DigestForm::ALL.len();

/// What a token led to in one form.
struct Match<'a> {
    found: Found<'a>,
    foreign: ForeignDigest,
    /// Whether the stored digest is not the one that it is to be: of the whole token, under the current generation.
    is_old: bool,
}

/// What a token led to in all forms.
#[derive(Default)]
struct Matches<'a> {
    by_form: [Option<Match<'a>>; FORMS],
    /// A row that the token may belong to was written under a generation that is not held.
    behind: Option<Generation>,
}

impl Inner {
    /// The same as [`Inner::validate`](Self::validate) for what is no token of this library's own. Where nothing was
    /// imported it is junk, of which there may be a flood.
    #[cold]
    #[inline(never)]
    pub(super) fn validate_other(&self, token: &[u8], demand: Demand<'_>) -> Result<Grant, Denial> {
        let is_short = !token.is_empty() && token.len() <= MAX_TOKEN;
        // Whether anything was imported is asked as of now: it may have been, by another process, a moment ago.
        let forms =
            if is_short { self.consistently(|replica, _| replica.shared.imports.forms()) } else { Ok(None) };
        match forms {
            Ok(None) => {
                self.failed(&Denial::UNKNOWN, &demand, None);
                Err(Denial::UNKNOWN)
            }
            Ok(Some(forms)) => self
                .validate_imported(token, demand, forms)
                .inspect_err(|denial| self.failed(denial, &demand, None)),
            Err(denial) => Err(denial),
        }
    }

    #[inline(never)]
    fn validate_imported(&self, token: &[u8], demand: Demand<'_>, forms: Forms) -> Result<Grant, Denial> {
        let foreign =
            DigestForm::ALL.map(|form| forms.has(form).then(|| ForeignDigest::of_token(form, token)));
        let marked = self.marks.snapshot();
        let mut matches = Matches::default();
        self.consistently(|replica, _| matches = self.matches(replica, token, &foreign))?;
        let marks = [marked, self.marks.snapshot()];
        let found = || matches.by_form.iter().flatten();
        let Some(first) = found().next() else {
            return Err(matches.behind.map_or(Denial::UNKNOWN, |generation| {
                Denial::unavailable(Unavailable::KeyringBehind(generation))
            }));
        };
        let t = self.clock.now().max(first.found.view.high_water);
        // Somebody may have imported one token in two forms: what is denied in one is not granted by the other.
        let denied = found().find_map(|found| self.judge(&found.found.view, marks.clone(), t).err());
        let view = &first.found.view;
        let decided = match denied {
            Some(denial) => Err(denial),
            None => self.decide(&first.found, marks, demand, t),
        };
        match decided {
            Ok((owner, limit)) => {
                if first.is_old {
                    self.offer_upgrade(first, token);
                }
                Ok(view.grant(owner, limit, t))
            }
            Err(denial) => {
                self.counts.denied(&denial);
                Err(denial)
            }
        }
    }

    /// All that a token leads to, at one moment.
    fn matches<'a>(
        &self,
        replica: &'a Replica,
        token: &[u8],
        foreign: &[Option<ForeignDigest>; FORMS],
    ) -> Matches<'a> {
        let keyring = &self.records.keyring;
        let mut matches = Matches::default();
        for generation in keyring.generations() {
            let Some(keys) = keyring.keys(generation) else { continue };
            let keyed = imported::keyed(token, generation, keys);
            for (slot, foreign) in matches.by_form.iter_mut().zip(foreign) {
                let Some(foreign) = foreign else { continue };
                let wrapped = imported::wrapped(foreign, generation, keys);
                let locator = imported::locator(&wrapped, keys);
                let Some(position) = replica.position_of(locator.words()) else { continue };
                let Some(entry) = replica.slab.get(position) else { continue };
                let facts = entry.facts();
                if facts.state() == State::Behind {
                    matches.behind = Some(facts.generation());
                }
                let [of_digest, of_token] =
                    [&wrapped, &keyed].map(|digest| crypto::ct_eq_words(digest.words(), facts.digest()));
                if facts.has_digest() && (of_digest | of_token) {
                    let place = Place { position, entry };
                    let found = Found { view: View::of(replica, entry), place, is_it: true };
                    // Another process may have a later generation as its current one: that one's stay as they are.
                    let current = keyring.current();
                    let is_old = generation < current || of_digest && generation == current;
                    *slot = Some(Match { found, foreign: *foreign, is_old });
                }
            }
        }
        matches
    }

    /// Has what is to be stored of the token written by the next flush: its keyed digest, the locator and its strength,
    /// and nothing else of it.
    fn offer_upgrade(&self, matched: &Match<'_>, token: &[u8]) {
        let facts = &matched.found.view.facts;
        self.upgrades.offer((facts.key(), facts.version()), || {
            let keyring = &self.records.keyring;
            let (current, keys) = (keyring.current(), keyring.current_keys());
            Upgrade {
                digest: imported::keyed(token, current, keys),
                imported: Some((
                    imported::locator(&imported::wrapped(&matched.foreign, current, keys), keys),
                    Strength::of(token),
                )),
            }
        });
    }
}
