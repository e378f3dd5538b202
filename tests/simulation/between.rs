//! Two hosts in the midst of each other: what comes out is one after the other.

use std::sync::{Arc, Mutex};

use crate::acts::{Act, Asked};
use crate::answers::{Answer, Outcome};
use crate::faults::Other;
use crate::naive::{Naive, Time};
use crate::put::{Raw, comparable, put};
use crate::site::Site;
use crate::world::{World, sorted};

impl Other {
    fn of(&self, model: &mut Naive, now: Time) -> Outcome {
        match self {
            Self::Act(asked) => model.perform(asked, now),
            Self::Tick => Ok(Answer::Ticked(model.tick(now))),
        }
    }
}

impl World {
    /// After some calls of an act to its store, the other host acts.
    pub fn between(&mut self, sites: &mut [Site], host: usize, one: &Asked, calls: usize, other: &Other) {
        let (now, others) = (self.clocks[host], self.clocks[1 - host]);
        let mut orders = [true, false].map(|other_first| {
            let mut model = self.model.clone();
            let outcomes = if other_first {
                let first = other.of(&mut model, others);
                [model.perform(one, now), first]
            } else {
                [model.perform(one, now), other.of(&mut model, others)]
            };
            (other_first, outcomes, model)
        });
        let [site] = sites else { panic!("one store, of which it is known who came first") };
        for host in &site.hosts {
            host.store.make_room();
        }
        let answered = Arc::new(Mutex::new(None));
        let (keys, names, answer) =
            (site.hosts[1 - host].keys.clone(), site.names.clone(), Arc::clone(&answered));
        let of_other = other.clone();
        site.hosts[host].store.let_in(calls, move || {
            *answer.lock().unwrap() = Some(match of_other {
                Other::Act(asked) => put(&keys, &names, &asked),
                Other::Tick => keys.tick().map(Raw::Ticked),
            });
        });
        let of_one = put(&site.hosts[host].keys, &site.names, one);
        site.hosts[host].store.disarm();
        let of_other = answered.lock().unwrap().take().unwrap();

        let events = site.news(host);
        // First the order that the log has. But an act goes on with a setting that it has read, even if another is
        // set meanwhile.
        let first = |who| events.iter().position(|event| event.actor.name() == who);
        if first("root").zip(first("other")).is_some_and(|(root, other)| root < other) {
            orders.reverse();
        }
        let (before, mut tried) = (site.names.clone(), String::new());
        for (other_first, outcomes, model) in orders {
            site.names = before.clone();
            let answers = if other_first {
                let first = site.names.answer(&of_other);
                [site.names.answer(&of_one), first]
            } else {
                [site.names.answer(&of_one), site.names.answer(&of_other)]
            };
            let [of_one, of_other] = answers;
            let answers = [comparable(&outcomes[0], of_one), comparable(&outcomes[1], of_other)];
            let told = sorted(events.iter().map(|event| site.names.entry(event)).collect());
            let news = sorted(model.log.clone());
            if outcomes == answers && news == told {
                self.model = model;
                self.model.told += std::mem::take(&mut self.model.log).len();
                let mut acts = vec![(Some(one), &outcomes[0])];
                let of_other = if let Other::Act(asked) = other { Some(asked) } else { None };
                acts.insert(usize::from(!other_first), (of_other, &outcomes[1]));
                for (asked, outcome) in acts {
                    if let Some(asked) = asked {
                        self.model.mark(&asked.act, outcome);
                        self.watch.done(&asked.act, outcome, &self.model);
                        asked.act.key().into_iter().for_each(|key| self.watch.unknown(key));
                    }
                }
                return;
            }
            tried += &format!(
                "\n  the other first: {other_first}\n  the model says   {outcomes:?} {news:?}\n  \
                 the library says {answers:?} {told:?}"
            );
        }
        panic!("no order explains it{tried}");
    }

    /// Between the calls of a validation the other host acts: the verdict is the one before or the one after.
    pub fn between_validation(
        &mut self,
        site: &mut Site,
        host: usize,
        (token, demanded): (usize, Option<&str>),
        calls: usize,
        other: &Other,
    ) -> bool {
        let t = self.t(host);
        site.hosts.iter().for_each(|host| host.store.make_room());
        // So that there is something to catch up with.
        let bills = vec!["bills:read"];
        let scopes = if self.model.roles.get("guest") == Some(&bills) { Vec::new() } else { bills };
        let set = Asked { who: "other", act: Act::SetRole { role: "guest", scopes }, request: None };
        let answer = put(&site.hosts[1 - host].keys, &site.names, &set);
        let answer = site.names.answer(&answer);
        self.settle(site, 1 - host, &set, answer, true, false);
        let before = self.model.verdict(token, demanded, t);
        let (keys, names) = (site.hosts[1 - host].keys.clone(), site.names.clone());
        let answered = Arc::new(Mutex::new(None));
        let (answer, of_other) = (Arc::clone(&answered), other.clone());
        site.hosts[host].eyes.let_in(calls, move || {
            *answer.lock().unwrap() = Some(match of_other {
                Other::Act(asked) => put(&keys, &names, &asked),
                Other::Tick => keys.tick().map(Raw::Ticked),
            });
        });
        let verdict = self.verdict(site, host, token, demanded);
        let came = answered.lock().unwrap().is_some();
        site.hosts[host].eyes.disarm();
        let library = answered.lock().unwrap().take().unwrap();
        let library = site.names.answer(&library);
        match other {
            Other::Act(asked) => self.settle(site, 1 - host, asked, library, false, false),
            Other::Tick => {
                let report = Ok(Answer::Ticked(self.model.tick(self.clocks[1 - host])));
                self.agree(site, "the report of a tick", &report, &library);
            }
        }
        // A tick may have moved the mark, and with it the time.
        let after = [t, self.t(host)].map(|t| self.model.verdict(token, demanded, t));
        if verdict != before && !after.contains(&verdict) {
            self.agree(site, "a verdict in the midst of an act", &after[1], &verdict);
        }
        came
    }
}
