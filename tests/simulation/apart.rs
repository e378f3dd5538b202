//! The steps that commit nothing: a validation, a flush, and opening a host.

use keyrota::KeyStore;

use crate::faults::{self, Fault};
use crate::site::Site;
use crate::views::Verdict;
use crate::world::{World, holds};

impl World {
    pub fn validate(
        &mut self,
        site: &mut Site,
        host: usize,
        token: usize,
        demanded: Option<&str>,
        fault: Option<&Fault>,
    ) -> bool {
        let eyes = &site.hosts[host].eyes;
        Self::arm(eyes, fault);
        let verdict = self.verdict(site, host, token, demanded);
        let came = site.hosts[host].eyes.disarm();
        let model = self.model.verdict(token, demanded, self.t(host));
        holds(self.watch.i12_fail_closed(&model, &verdict));
        let excused = came && verdict == Err("Unavailable") || matches!(fault, Some(Fault::Flip { .. }));
        if !excused {
            self.agree(site, "a verdict", &model, &verdict);
        }
        came
    }

    /// What the library says of a token, counted.
    pub fn verdict(&mut self, site: &mut Site, host: usize, token: usize, demanded: Option<&str>) -> Verdict {
        let (verdict, t) = (site.verdict(host, token, demanded), self.t(host));
        let (granted, denied, last) = self.asked.entry(self.model.tokens[token]).or_default();
        match verdict {
            Ok(_) => (*granted, *last) = (*granted + 1, (*last).max(Some(t))),
            Err(reason) => *denied += u64::from(!["Unknown", "Unavailable"].contains(&reason)),
        }
        verdict
    }

    /// Usage reaches the store, and changes nothing else there.
    pub fn flush(&mut self, sites: &[Site], host: usize, fault: Option<&Fault>) -> bool {
        let mut fired = false;
        for site in sites {
            let head = site.hosts[host].store.head().unwrap();
            let eyes = &site.hosts[host].eyes;
            let full = eyes.is_full();
            Self::arm(eyes, fault);
            let flushed = site.hosts[host].validator.flush();
            let came = eyes.disarm();
            assert!(flushed.is_ok() || came || full, "a flush failed, and nothing else had: {flushed:?}");
            fired |= came;
            if self.calm && sites.len() == 1 {
                site.hosts[1 - host].validator.flush().unwrap();
            }
            if eyes.is_dead() {
                continue;
            }
            let after = site.hosts[host].store.head().unwrap();
            self.agree(site, "I15: the head after a flush", &head, &after);
            let there = self.asked.iter().filter(|((key, _), _)| !self.model.keys[*key].purged);
            for (of, asked) in there.map(|(of, asked)| (*of, *asked)).collect::<Vec<_>>() {
                let usage = site.usage(of.0, of.1);
                if sites.len() == 1 {
                    holds(self.watch.i15_usage(of, usage));
                }
                if self.calm && !fired && sites.len() == 1 {
                    self.agree(site, "usage", &asked, &usage);
                }
            }
        }
        fired
    }

    pub fn reopen(
        &mut self,
        site: &mut Site,
        host: usize,
        [both, close]: [bool; 2],
        fault: Option<&Fault>,
    ) -> bool {
        let mut came = false;
        if let Some(Fault::Store { .. }) = fault {
            let before = site.revision();
            let (opened, fired) = site.try_open(self.clocks[host], |store| Self::arm(store, fault));
            assert!(opened.is_ok() || fired, "a host does not open, and nothing had failed: {opened:?}");
            self.agree(site, "the head after opening", &before, &site.revision());
            came = fired;
        }
        site.reopen(self.clocks, host, both, close);
        came
    }

    pub fn wrong_key(&self, site: &Site) {
        let before = site.revision();
        for opened in site.try_wrong_key() {
            assert!(matches!(opened, Err(keyrota::OpenError::WrongMasterKey(_))), "{opened:?}");
        }
        self.agree(site, "the head after a wrong master key", &before, &site.revision());
    }

    /// A host that has not yet read what a step did, and cannot read it now, grants nothing by what it knew.
    pub fn behind(&mut self, site: &mut Site, host: usize, hot: Option<usize>, at: usize) -> bool {
        let mut came = false;
        for token in 0..self.model.tokens.len() {
            if Some(self.model.tokens[token].0) == hot && site.names.text(token).is_some() {
                let fault = Fault::Store { site: faults::Site::Before, at };
                came |= self.validate(site, host, token, None, Some(&fault));
            }
        }
        came
    }
}
