//! The dice that choose what happens next.

use crate::acts::{
    ACTS, Act, Asked, DEMANDS, NOBODY, OWNERS, Planned, Policy, ROLES, Scopes, Step, Wanted, word,
};
use crate::faults::{Drawn, Fault, Other, Site, Swarm, Target};
use crate::naive::{DAY, HOUR, MONTH, Naive, SECOND, Time};

const MINUTE: Time = 60 * SECOND;
const POLICIES: [Policy; 7] = [
    Policy { lifetime: 90 * DAY, overlap: DAY },
    Policy { lifetime: 10 * DAY, overlap: 0 },
    Policy { lifetime: 2 * DAY, overlap: HOUR },
    Policy { lifetime: 6 * HOUR, overlap: 30 * MINUTE },
    Policy { lifetime: HOUR, overlap: 59 * MINUTE },
    Policy { lifetime: 20 * MINUTE, overlap: 5 * MINUTE },
    Policy { lifetime: 400 * DAY, overlap: 45 * DAY },
];

/// Seeded randomness: splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe<T>(&mut self, times: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(times).then(|| make(self))
    }

    /// Any time up to `end`.
    fn until(&mut self, end: Time) -> Time {
        (self.roll() % (end as u64 + 1)) as Time
    }

    /// A span of microseconds to weeks.
    fn span(&mut self) -> Time {
        let longest = self.pick(&[3, SECOND, 20 * MINUTE, HOUR, 3 * HOUR, 12 * HOUR, 2 * DAY, 12 * DAY]);
        self.until(longest)
    }

    fn scopes(&mut self) -> Scopes {
        DEMANDS.into_iter().filter(|_| self.one_in(4)).collect()
    }
}

/// What is chosen next. Remembers the request ids that were given, to repeat them.
pub struct Chooser {
    pub dice: Dice,
    swarm: Swarm,
    asked: Vec<(u32, Act)>,
    /// Request ids whose outcome is open: a caller repeats them soon.
    open: Vec<(u32, Act)>,
}

impl Chooser {
    pub fn new(seed: u64, swarm: Swarm) -> Self {
        let dice = Dice(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        Self { dice, swarm, asked: Vec::new(), open: Vec::new() }
    }

    /// The number by which a request id that nobody has asked for is known from now on.
    pub fn is_open(&mut self, request: u32, act: Act) {
        self.open.push((request, act));
    }

    pub fn next(&mut self, model: &Naive, clocks: [Time; 2]) -> Planned {
        let mut step = self.step(model, clocks);
        let salt = self.dice.roll();
        let fault = self.swarm.draw(&mut self.dice);
        let fault = fault.and_then(|drawn| self.fault(drawn, &mut step, model, clocks));
        Planned { step, fault, salt }
    }

    fn step(&mut self, model: &Naive, clocks: [Time; 2]) -> Step {
        let host = self.dice.below(2);
        let who = if self.dice.one_in(10) { "other" } else { "root" };
        if !self.open.is_empty() && self.dice.one_in(2) {
            let (request, act) = self.open.swap_remove(self.dice.below(self.open.len()));
            return Step::Act { host, asked: Asked { who, act, request: Some(request) } };
        }
        match self.dice.below(100) {
            0..22 => Step::Clocks(self.clocks(model, clocks)),
            22..32 => Step::Tick { host },
            32..36 => Step::Validate {
                host,
                back: self.dice.below(12),
                demanded: self.dice.maybe(3, |dice| dice.pick(&DEMANDS)),
            },
            36..38 => Step::Flush { host },
            38..40 => Step::Reopen { host, both: self.dice.one_in(3), close: self.dice.one_in(2) },
            40 if self.dice.one_in(4) => Step::WrongKey,
            40..49 if !self.asked.is_empty() => {
                // Mostly the same act again, mostly one of the last.
                let back = self.asked.len() - 1 - self.dice.below(self.asked.len().min(6));
                let (request, same) = self.asked[back].clone();
                let act = if self.dice.one_in(4) { self.act(model, clocks[host]) } else { same };
                Step::Act { host, asked: Asked { who, act, request: Some(request) } }
            }
            _ => {
                let act = self.act(model, clocks[host]);
                let request = self.dice.one_in(3).then_some(self.asked.len() as u32);
                self.asked.extend(request.map(|request| (request, act.clone())));
                Step::Act { host, asked: Asked { who, act, request } }
            }
        }
    }

    fn fault(&mut self, drawn: Drawn, step: &mut Step, model: &Naive, clocks: [Time; 2]) -> Option<Fault> {
        let at = self.dice.below(9);
        let dice = &mut self.dice;
        match (drawn, &mut *step) {
            (_, Step::Clocks(_) | Step::WrongKey) => None,
            // A validation has few calls.
            (Drawn::Store(site), Step::Validate { .. }) => Some(Fault::Store { site, at: at % 3 }),
            (Drawn::Store(site), Step::Flush { .. }) => Some(Fault::Store { site, at: 0 }),
            // These wait for the commit.
            (Drawn::Store(site @ (Site::Lost | Site::Conflict)), _) => Some(Fault::Store { site, at: 0 }),
            (Drawn::Store(site), _) => Some(Fault::Store { site, at }),
            (Drawn::Clock(by), _) => Some(Fault::Clock { by, stays: dice.one_in(3) }),
            (Drawn::Flip, Step::Flush { .. } | Step::Reopen { .. }) => None,
            (Drawn::Flip, Step::Act { asked, .. }) => {
                let target = Self::target(dice, model, Some(&asked.act))?;
                Some(Fault::Flip { target, bit: dice.below(100_000) })
            }
            (Drawn::Flip, _) => {
                let target = Self::target(dice, model, None)?;
                Some(Fault::Flip { target, bit: dice.below(100_000) })
            }
            // The hosts are of one mind about the time: else an act has the one from before the other's tick.
            (Drawn::Other, Step::Act { asked, .. }) if clocks[0] == clocks[1] => {
                asked.who = "root";
                let (request, key) = (asked.request, asked.act.key());
                // Mostly something that is in the way.
                let clock = |act: &Act| matches!(act, Act::ConfirmClock(_));
                let confirms = clock(&asked.act);
                let owner = if let Act::Issue(wanted) = &asked.act { Some(wanted.owner) } else { None };
                let near = |step: &Step| match step {
                    Step::Act { asked: Asked { act: Act::Issue(wanted), .. }, .. } => {
                        Some(wanted.owner) == owner
                    }
                    Step::Act { asked, .. } => {
                        owner.is_none() && asked.act.key() == key && !clock(&asked.act)
                    }
                    _ => false,
                };
                let mut other = self.step(model, clocks);
                for _ in 0..12 {
                    if !near(&other) {
                        other = self.step(model, clocks);
                    }
                }
                let what = match other {
                    // Who confirms the clock decides on the mark alone, which no row holds: twice is as good as once.
                    Step::Act { asked, .. } if clock(&asked.act) => return None,
                    // Under one request id they are the same caller.
                    Step::Act { asked, .. } if request.is_some() && asked.request == request => {
                        Other::Act(Asked { who: "root", ..asked })
                    }
                    Step::Act { asked, .. } => Other::Act(Asked { who: "other", ..asked }),
                    _ if confirms => return None,
                    _ => Other::Tick,
                };
                Some(Fault::Other { at: self.dice.below(9), what })
            }
            (Drawn::Other, Step::Validate { .. }) => {
                let what = match self.step(model, clocks) {
                    Step::Act { asked, .. } => Other::Act(asked),
                    _ => Other::Tick,
                };
                Some(Fault::Other { at: self.dice.pick(&[0, 1, 2, 3, 3]), what })
            }
            (Drawn::Behind, Step::Act { .. } | Step::Tick { .. }) => Some(Fault::Behind { at: at % 3 }),
            (Drawn::Behind | Drawn::Other, _) => None,
        }
    }

    /// A row to be edited for the time of a step. Not one of those that an act passes over in silence.
    fn target(dice: &mut Dice, model: &Naive, act: Option<&Act>) -> Option<Target> {
        let key = match act.and_then(Act::key) {
            Some(key) if dice.below(8) > 0 => key,
            _ => {
                let there: Vec<_> = (0..model.keys.len()).filter(|key| !model.keys[*key].purged).collect();
                if there.is_empty() {
                    return None;
                }
                dice.pick(&there)
            }
        };
        let of = model.keys.get(key).filter(|key| !key.purged)?;
        let passes_over = matches!(
            act,
            Some(
                Act::RevokeKey { .. }
                    | Act::RevokeVersion { .. }
                    | Act::RevokeOwner { .. }
                    | Act::Purge { .. }
            )
        );
        Some(match dice.below(4) {
            0 => Target::Owner(of.owner),
            1 if !passes_over => Target::Version(key, 1 + dice.below(of.versions.len()) as u32),
            _ => Target::Key(key),
        })
    }

    fn clocks(&mut self, model: &Naive, [now, other]: [Time; 2]) -> [Time; 2] {
        let dice = &mut self.dice;
        let skew = match dice.below(8) {
            0 => dice.pick(&[-HOUR, -2 * SECOND, -1, 1, 5 * MINUTE]),
            1..3 => 0,
            _ => other - now,
        };
        let now = match dice.below(40) {
            // A clock that was far off comes to its senses.
            _ if now < model.mark - DAY || now > model.mark + 3 * 365 * DAY => model.mark,
            0 => now + MONTH + dice.until(150 * DAY),
            1..4 => now - dice.span(),
            // To where something ends or begins, and one microsecond before and after.
            4..18 => {
                let soon = model.moments().into_iter().filter(|at| (now..now + 40 * DAY).contains(at));
                let soon = soon.map(|at| (at, dice.roll())).min_by_key(|(at, roll)| (roll % 3, *at, *roll));
                soon.map_or(now + dice.span(), |(at, _)| at + dice.pick(&[-1, 0, 0, 1]))
            }
            _ => now + dice.span(),
        };
        [now, now + skew]
    }

    fn is_live(model: &Naive, key: usize) -> bool {
        let key = &model.keys[key];
        key.revoked_at.is_none() && key.lives(model.mark) && !model.owners[key.owner].suspended
    }

    fn key(&mut self, model: &Naive) -> usize {
        let dice = &mut self.dice;
        let there: Vec<_> = (0..model.keys.len()).filter(|key| !model.keys[*key].purged).collect();
        let live: Vec<_> = there.iter().copied().filter(|key| Self::is_live(model, *key)).collect();
        match (there.last(), live.last(), dice.below(40)) {
            (None, ..) => NOBODY,
            (_, _, 0) => dice.pick(&[NOBODY, 0]),
            (_, Some(last), 1..20) => *last,
            (_, Some(_), 20..32) => dice.pick(&live),
            _ => dice.pick(&there),
        }
    }

    /// An act of those that the swarm has.
    fn act(&mut self, model: &Naive, now: Time) -> Act {
        let kept = model.keys.iter().filter(|key| !key.purged).count();
        if kept > 24 && self.dice.one_in(4) {
            return Act::Purge { retention: 0 };
        }
        let live = (0..model.keys.len()).filter(|key| Self::is_live(model, *key)).count();
        if live < 2 && self.dice.one_in(3) {
            let enabled = |owner: &&str| model.owners.get(owner).is_none_or(|owner| !owner.suspended);
            let owner = OWNERS.into_iter().rev().find(enabled);
            let wanted = Self::wanted(&mut self.dice, now.max(model.mark));
            return match owner {
                Some(owner) => Act::Issue(Wanted { owner, ..wanted }),
                None => Act::Resume { owner: self.dice.pick(&OWNERS) },
            };
        }
        for _ in 0..20 {
            let act = self.any_act(model, now);
            let at = ACTS.iter().position(|name| *name == word(&act));
            if at.is_some_and(|at| self.swarm.acts[at]) {
                return act;
            }
        }
        Act::Issue(Self::wanted(&mut self.dice, now.max(model.mark)))
    }

    fn any_act(&mut self, model: &Naive, now: Time) -> Act {
        if now - model.mark > MONTH && self.dice.one_in(2) {
            return Act::ConfirmClock(self.dice.pick(&[now, now, now - DAY, now + 1]));
        }
        let key = self.key(model);
        let dice = &mut self.dice;
        let owner = dice.pick(&OWNERS);
        match dice.below(100) {
            0..20 => Act::Issue(Self::wanted(dice, now.max(model.mark))),
            20..38 => Act::Rotate { key, supersede: dice.one_in(3) },
            38..45 => Act::Deprecate { key },
            45..57 => Act::RollBack { key, compromised: dice.one_in(3) },
            57..61 => Act::Replace { key, grace: dice.pick(&[0, 0, MINUTE, 4 * HOUR, 4 * HOUR + 1]) },
            61..64 => Act::RevokeKey { key, compromised: dice.one_in(2) },
            64..72 => {
                // Rarely one that does not exist.
                let versions = model.keys.get(key).map_or(0, |key| key.versions.len());
                let strange = usize::from(versions == 0 || dice.one_in(9));
                let version = 1 + dice.below(versions + strange) as u32;
                Act::RevokeVersion { key, version, compromised: dice.one_in(2) }
            }
            72 => Act::RevokeOwner { owner, compromised: dice.one_in(2) },
            73..76 => Act::Suspend { owner },
            76..81 => Act::Resume { owner },
            81..84 => Act::SetPolicy(dice.pick(&POLICIES)),
            84 => Act::SetDefaultLimit(dice.pick(&[2, 3, 5])),
            85..87 => Act::SetLimit { owner, limit: dice.pick(&[None, None, Some(1), Some(5)]) },
            87..89 => {
                let ceiling = dice.maybe(2, |dice| if dice.one_in(3) { vec!["*"] } else { dice.scopes() });
                Act::SetCeiling { owner, ceiling }
            }
            89..92 => Act::SetRole { role: dice.pick(&ROLES), scopes: dice.scopes() },
            92..96 => Act::Edit {
                key,
                scopes: dice.maybe(2, Dice::scopes),
                role: dice.maybe(2, |dice| dice.maybe(2, |dice| dice.pick(&ROLES))),
                widen: dice.one_in(2),
            },
            96..98 => Act::Purge { retention: dice.pick(&[0, HOUR, DAY, MONTH]) },
            _ => Act::ConfirmClock(dice.pick(&[now, now + 1, model.mark, model.mark + 1])),
        }
    }

    fn wanted(dice: &mut Dice, t: Time) -> Wanted {
        let from = dice.maybe(4, |dice| t + dice.span() - dice.pick(&[0, 0, HOUR]));
        Wanted {
            owner: dice.pick(&OWNERS),
            scopes: dice.scopes(),
            role: dice.maybe(4, |dice| dice.pick(&ROLES)),
            policy: dice.maybe(4, |dice| dice.pick(&POLICIES)),
            lifetime: dice
                .maybe(4, |dice| dice.pick(&[30 * SECOND, 10 * MINUTE, 2 * HOUR, 3 * DAY, 40 * DAY])),
            from,
            until: dice.maybe(4, |dice| from.unwrap_or(t) + dice.span() - dice.pick(&[0, 0, 0, HOUR])),
            never_expires: dice.one_in(8),
        }
    }
}
