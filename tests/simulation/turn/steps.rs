//! The steps: drawn from a seed alone, with places instead of names, so that a list means something whatever is left
//! out of it.

use crate::chooser::Dice;
use crate::faults::Site;

pub const POLICIES: usize = 8;

/// What a service or a receiver answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Fine,
    Refuses,
    /// The channel's only: it does not want this one, ever.
    Never,
    Panics,
    /// It has understood, and its answer is lost.
    Forgets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Key(usize),
    Owner(usize),
    Deployment,
}

/// How time passes.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// To when something is due next, and so many microseconds after.
    ToDue(i64),
    Minutes(u32),
    Hours(u32),
    Back {
        hours: u32,
    },
    /// Farther than a tick follows; then it is confirmed.
    Leap {
        days: u32,
    },
}

/// Keys are those that were issued last, counted back.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Issue {
        owner: usize,
        policy: Option<usize>,
        auto: Option<bool>,
        days: Option<u32>,
    },
    Pass(Pass),
    Tick,
    Deliver,
    Flush,
    /// A client uses what it has, and does what it is told.
    Look {
        key: usize,
        claims: bool,
    },
    Claim {
        key: usize,
        id: u8,
        owner: bool,
    },
    Schedule {
        key: usize,
        days: u32,
    },
    Cancel {
        key: usize,
    },
    Rotate {
        key: usize,
        supersede: bool,
    },
    RollBack {
        key: usize,
        compromised: bool,
    },
    Replace {
        key: usize,
        grace: bool,
    },
    Deprecate {
        key: usize,
    },
    RevokeKey {
        key: usize,
    },
    RevokeVersion {
        key: usize,
        back: usize,
    },
    Suspend {
        owner: usize,
    },
    Resume {
        owner: usize,
    },
    Auto {
        whose: Whose,
        on: Option<bool>,
    },
    SetPolicy {
        policy: usize,
    },
    EditPolicy {
        key: usize,
        policy: Option<usize>,
    },
    Management {
        on: bool,
    },
    Purge,
    DeadLetters {
        drop: bool,
    },
    Reopen {
        flushes: bool,
    },
    Sink(Mood),
    Ear(Mood),
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub op: Op,
    pub host: usize,
    /// At which call of the host's store, and how.
    pub fault: Option<(Site, usize)>,
    /// Whether the other host ticks before that call instead.
    pub other_ticks: Option<usize>,
}

const SITES: [Site; 8] = [
    Site::Before,
    Site::After,
    Site::Lost,
    Site::Busy,
    Site::Full,
    Site::Conflict,
    Site::CrashBefore,
    Site::CrashAfter,
];

/// What goes wrong in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// A service and a receiver that have their moods.
    Outside,
    /// The store and the processes as well.
    Everything,
}

/// The steps of a seed. Of the rarer acts each seed has half, and of the faults a quarter.
pub fn draw(seed: u64, length: usize, wrong: Wrong) -> Vec<Step> {
    let faults = wrong == Wrong::Everything;
    let mut dice = Dice(seed.wrapping_mul(0x9E6C_63D0_985B_5A2F) ^ 0x7013);
    let rare: [bool; 20] = std::array::from_fn(|_| dice.one_in(2));
    let sites: Vec<_> = SITES.into_iter().filter(|_| faults && dice.one_in(4)).collect();
    let others = faults && dice.one_in(2);
    let moods = dice.one_in(2) && wrong != Wrong::Nothing;
    let mut steps = Vec::new();
    while steps.len() < length {
        let Some(op) = op(&mut dice, &rare, moods) else { continue };
        let fault = (!sites.is_empty() && dice.one_in(5)).then(|| (dice.pick(&sites), call(&mut dice)));
        let other_ticks = (others && fault.is_none() && dice.one_in(6)).then(|| dice.below(20));
        let step = Step { op, host: dice.below(2), fault, other_ticks };
        steps.push(step);
        // Who thinks better of it does so soon.
        if let Op::Rotate { key, .. } | Op::Claim { key, .. } | Op::Look { key, claims: true } = op
            && dice.one_in(6)
        {
            let op = Op::RollBack { key, compromised: dice.one_in(3) };
            steps.push(Step { op, fault: None, other_ticks: None, ..step });
        }
    }
    steps
}

/// Most acts have few calls, a tick has many.
fn call(dice: &mut Dice) -> usize {
    let most = dice.pick(&[4, 12, 40]);
    dice.below(most)
}

fn mood(dice: &mut Dice) -> Mood {
    dice.pick(&[Mood::Fine, Mood::Fine, Mood::Fine, Mood::Refuses, Mood::Panics, Mood::Forgets, Mood::Never])
}

/// An act, unless the seed does not have it.
fn op(dice: &mut Dice, rare: &[bool; 20], moods: bool) -> Option<Op> {
    let key = dice.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 5]);
    let owner = dice.below(2);
    let roll = dice.below(100);
    let has = |act: usize, op: Op| rare[act].then_some(op);
    Some(match roll {
        0..28 => Op::Pass(match dice.below(24) {
            0..9 => Pass::ToDue(dice.pick(&[-1, 0, 0, 0, 1])),
            9..14 => Pass::Hours(1 + dice.below(30) as u32),
            14..19 => Pass::Minutes(1 + dice.below(90) as u32),
            19..22 => Pass::Hours(24 * (1 + dice.below(5) as u32)),
            22 if rare[0] => Pass::Back { hours: 1 + dice.below(60) as u32 },
            _ if rare[1] && rare[2] => Pass::Leap { days: 31 + dice.below(120) as u32 },
            _ => return None,
        }),
        28..46 => Op::Tick,
        46..51 => Op::Deliver,
        51..56 => Op::Flush,
        56..69 => Op::Look { key, claims: !dice.one_in(4) },
        69..74 => Op::Claim { key, id: dice.below(3) as u8, owner: dice.one_in(3) },
        74..78 => {
            let policy = if dice.one_in(4) { None } else { Some(dice.below(POLICIES)) };
            let days = if dice.one_in(8) { Some(5 + dice.below(60) as u32) } else { None };
            Op::Issue {
                owner,
                policy,
                auto: dice.pick(&[Some(true), Some(true), Some(true), None, Some(false)]),
                days,
            }
        }
        78 => has(3, Op::Schedule { key, days: dice.below(20) as u32 })?,
        79 => has(4, Op::Cancel { key })?,
        80 => has(5, Op::Rotate { key, supersede: dice.one_in(2) })?,
        81..83 => Op::RollBack { key: 0, compromised: dice.one_in(3) },
        83 => has(7, Op::Replace { key, grace: dice.one_in(2) })?,
        84 if dice.one_in(2) => has(8, Op::RevokeKey { key })?,
        84 => has(9, Op::RevokeVersion { key, back: dice.below(2) })?,
        85 => has(10, Op::Suspend { owner })?,
        86..88 => Op::Resume { owner },
        88 => {
            let whose = dice.pick(&[Whose::Key(key), Whose::Owner(owner), Whose::Deployment]);
            has(11, Op::Auto { whose, on: dice.pick(&[Some(true), Some(true), Some(false), None]) })?
        }
        89 => has(12, Op::SetPolicy { policy: dice.below(POLICIES) })?,
        90 => {
            let policy = if dice.one_in(4) { None } else { Some(dice.below(POLICIES)) };
            has(13, Op::EditPolicy { key, policy })?
        }
        91 if dice.one_in(2) => has(14, Op::Purge)?,
        91 => has(15, Op::Management { on: !dice.one_in(3) })?,
        92 => Op::DeadLetters { drop: dice.one_in(2) },
        93..95 => has(17, Op::Reopen { flushes: dice.one_in(2) })?,
        95 => has(16, Op::Deprecate { key })?,
        96..98 if moods => Op::Sink(mood(dice)),
        98..100 if moods => Op::Ear(mood(dice)),
        _ => return None,
    })
}

/// A version that is brought back, and one that nobody uses any more: what the dice reach rarely.
pub fn rare() -> [Vec<Step>; 2] {
    let steps =
        |ops: &[Op]| ops.iter().map(|op| Step { op: *op, host: 0, fault: None, other_ticks: None }).collect();
    let issue = |policy| Op::Issue { owner: 0, policy: Some(policy), auto: Some(true), days: None };
    let rotate = Op::Rotate { key: 0, supersede: false };
    [
        steps(&[issue(0), rotate, Op::RollBack { key: 0, compromised: false }]),
        steps(&[issue(4), rotate, Op::Look { key: 0, claims: true }, Op::Flush]),
    ]
}
