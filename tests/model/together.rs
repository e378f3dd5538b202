//! Two hosts in the midst of each other: what comes out is one after the other.

use std::sync::{Arc, Mutex};

use crate::acts::{Asked, Chooser, Step};
use crate::answers::{Answer, Outcome};
use crate::naive::{Naive, Time};
use crate::put::{Raw, comparable, put, time};
use crate::world::{World, sorted};

/// What the other host does.
#[derive(Clone, Debug)]
enum Other {
    Act(Asked),
    Tick,
}

impl Other {
    fn of(&self, model: &mut Naive, now: Time) -> Outcome {
        match self {
            Self::Act(asked) => model.perform(asked, now),
            Self::Tick => Ok(Answer::Ticked(model.tick(now))),
        }
    }
}

impl World {
    /// Like a step; but after some calls of an act to its store, the other host acts.
    pub fn step_between(&mut self, chooser: &mut Chooser) {
        let now = self.clocks[0];
        // The hosts are of one mind about the time: else an act has the one from before the other's tick.
        let one = if self.clocks[1] == now { Some(chooser.next(&self.model, self.clocks)) } else { None };
        let Some(Step::Act { host, asked }) = one else { return self.step(chooser) };
        let one = Asked { who: "root", ..asked };
        let other = match chooser.next(&self.model, self.clocks) {
            // Under one request id they are the same caller.
            Step::Act { asked, .. } if one.request.is_some() && asked.request == one.request => {
                Other::Act(Asked { who: "root", ..asked })
            }
            Step::Act { asked, .. } => Other::Act(Asked { who: "other", ..asked }),
            Step::Tick { .. } => Other::Tick,
            _ => return self.step(chooser),
        };
        let mut orders = [true, false].map(|other_first| {
            let mut model = self.model.clone();
            let outcomes = if other_first {
                let first = other.of(&mut model, now);
                [model.perform(&one, now), first]
            } else {
                [model.perform(&one, now), other.of(&mut model, now)]
            };
            (other_first, outcomes, model)
        });
        let (calls, number) = (chooser.dice.below(12), self.history.len() + 1);
        self.history.push(format!("{number:>3} {} {one:?}, after {calls} calls {other:?}", time(now)));

        let mut sites = std::mem::take(&mut self.sites);
        let [site] = &mut sites[..] else { panic!("one store, of which it is known who came first") };
        let answered = Arc::new(Mutex::new(None));
        let (keys, names, answer) =
            (site.hosts[1 - host].keys.clone(), site.names.clone(), Arc::clone(&answered));
        let of_other = other.clone();
        site.hosts[host].store.plan(calls, move || {
            *answer.lock().unwrap() = Some(match of_other {
                Other::Act(asked) => put(&keys, &names, &asked),
                Other::Tick => keys.tick().map(Raw::Ticked),
            });
        });
        let of_one = put(&site.hosts[host].keys, &site.names, &one);
        site.hosts[host].store.finish();
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
            let [one, other] = answers;
            let answers = [comparable(&outcomes[0], one), comparable(&outcomes[1], other)];
            let told = sorted(events.iter().map(|event| site.names.entry(event)).collect());
            let news = sorted(model.log[self.told..].to_vec());
            if outcomes == answers && news == told {
                (self.told, self.model) = (model.log.len(), model);
                self.compare(&mut sites, host, chooser);
                self.sites = sites;
                return;
            }
            tried += &format!(
                "\n  the other first: {other_first}\n  the model says   {outcomes:?} {news:?}\n  \
                 the library says {answers:?} {told:?}"
            );
        }
        panic!("seed {}, step {number}: no order explains it{tried}", self.seed);
    }
}
