//! The faults: what may go wrong with a step, and the dice that decide for a seed which of it ever does.

use crate::acts::Asked;
use crate::chooser::Dice;
use crate::naive::{DAY, HOUR, Time};

/// Where and how a store's call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect, and its answer is lost: of a commit, nobody knows.
    After,
    /// The commit is lost, and nobody knows.
    Lost,
    /// This call and some after it find the store busy.
    Busy,
    /// Nothing is written any more until room is made.
    Full,
    /// The commit conflicts although nobody was in the way.
    Conflict,
    /// The process ends before the call has an effect.
    CrashBefore,
    /// The process ends after the call took effect.
    CrashAfter,
}

/// A row that is edited behind the library's back for the time of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Key(usize),
    Version(usize, u32),
    Owner(&'static str),
}

/// What the other host does in the midst of an act.
#[derive(Clone, Debug)]
pub enum Other {
    Act(Asked),
    Tick,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// At a call to the store, counted from the beginning of the step.
    Store { site: Site, at: usize },
    /// A bit of a row is flipped; `bit` chooses which.
    Flip { target: Target, bit: usize },
    /// The host's clock is off; for this step only, or from now on.
    Clock { by: Time, stays: bool },
    /// The other host acts before a call.
    Other { at: usize, what: Other },
    /// After the step, the other host's replica is behind and cannot catch up; `at` is the call that fails.
    Behind { at: usize },
}

const STORE: [Site; 8] = [
    Site::Before,
    Site::After,
    Site::Lost,
    Site::Busy,
    Site::Full,
    Site::Conflict,
    Site::CrashBefore,
    Site::CrashAfter,
];
const CLOCK: [Time; 6] = [-1, 1, -HOUR, HOUR, -3_652 * DAY, 3_652 * DAY];

/// All faults by name, in the order of [`Swarm`].
pub fn names() -> Vec<String> {
    let store = STORE.iter().map(|site| format!("{site:?}"));
    let clock = CLOCK.iter().map(|by| format!("Clock{}", hand(*by)));
    store.chain(clock).chain(["Flip".to_owned(), "Behind".to_owned(), "OtherHost".to_owned()]).collect()
}

fn hand(by: Time) -> String {
    let sign = if by < 0 { '-' } else { '+' };
    match by.abs() {
        1 => format!("{sign}1us"),
        HOUR => format!("{sign}1h"),
        _ => format!("{sign}10y"),
    }
}

impl Fault {
    pub fn name(&self) -> String {
        match self {
            Self::Store { site, .. } => format!("{site:?}"),
            Self::Flip { .. } => "Flip".to_owned(),
            Self::Clock { by, .. } => format!("Clock{}", hand(*by)),
            Self::Other { .. } => "OtherHost".to_owned(),
            Self::Behind { .. } => "Behind".to_owned(),
        }
    }
}

/// Which acts and faults a seed has at all.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub acts: Vec<bool>,
    faults: Vec<bool>,
}

/// What of a fault's kind the chooser makes a fault of.
pub enum Drawn {
    Store(Site),
    Clock(Time),
    Flip,
    Behind,
    Other,
}

impl Swarm {
    /// All acts, no fault.
    pub fn calm(acts: usize) -> Self {
        Self { acts: vec![true; acts], faults: vec![false; names().len()] }
    }

    /// Half of the acts, a quarter of the faults.
    pub fn of(seed: u64, acts: usize) -> Self {
        let mut dice = Dice(seed ^ 0x5EED_5A3B_9D01_77C4);
        let faults = names().len();
        Self {
            acts: (0..acts).map(|_| dice.one_in(2)).collect(),
            // The other host is no misfortune: it is there in half of the seeds.
            faults: (0..faults).map(|fault| dice.one_in(if fault + 1 == faults { 2 } else { 4 })).collect(),
        }
    }

    /// Each active fault fires at a quarter of the steps; of several, one.
    pub fn draw(&self, dice: &mut Dice) -> Option<Drawn> {
        let fires: Vec<_> =
            self.faults.iter().enumerate().filter(|(_, active)| **active && dice.one_in(4)).collect();
        let fault = if fires.is_empty() { return None } else { dice.pick(&fires).0 };
        Some(match fault.checked_sub(STORE.len()) {
            None => Drawn::Store(STORE[fault]),
            Some(clock) if clock < CLOCK.len() => Drawn::Clock(CLOCK[clock]),
            Some(rest) if rest == CLOCK.len() => Drawn::Flip,
            Some(rest) if rest == CLOCK.len() + 1 => Drawn::Behind,
            Some(_) => Drawn::Other,
        })
    }
}
