//! All short sequences of acts on one key.

use keyrota::MemoryStore;

use crate::acts::{Act, Asked, Planned, Step, Wanted};
use crate::naive::{DAY, HOUR, Time};
use crate::site::Backing;
use crate::world::{Care, World};

#[derive(Clone, Debug)]
enum Letter {
    Act(Act),
    Tick,
    Later(Time),
}

fn alphabet() -> Vec<Letter> {
    let key = 0;
    let acts = [
        Act::Rotate { key, supersede: false },
        Act::Rotate { key, supersede: true },
        Act::Deprecate { key },
        Act::RollBack { key, compromised: false },
        Act::RollBack { key, compromised: true },
        Act::Replace { key, grace: 0 },
        Act::Replace { key, grace: HOUR },
        Act::RevokeVersion { key, version: 1, compromised: false },
        Act::RevokeVersion { key, version: 2, compromised: true },
        Act::RevokeKey { key, compromised: false },
        Act::Suspend { owner: "ada" },
        Act::Resume { owner: "ada" },
        Act::Purge { retention: 0 },
    ];
    let rest = [Letter::Tick, Letter::Later(HOUR), Letter::Later(DAY - 1), Letter::Later(1)];
    acts.into_iter().map(Letter::Act).chain(rest).collect()
}

/// How many sequences of a length there are.
pub fn count(length: u32) -> usize {
    alphabet().len().pow(length)
}

/// One of them, by number; returns how many steps it has.
pub fn run(length: u32, mut number: usize, tell: &mut dyn FnMut(String)) -> usize {
    let letters = alphabet();
    let mut world = World::new(vec![("memory", Backing::Memory(MemoryStore::new()))], Care::Passing);
    let mut sequence = vec![Letter::Act(Act::Issue(Wanted::plain("ada")))];
    for _ in 0..length {
        sequence.push(letters[number % letters.len()].clone());
        number /= letters.len();
    }
    for (at, letter) in sequence.iter().enumerate() {
        let step = match letter.clone() {
            Letter::Act(act) => Step::Act { host: at % 2, asked: Asked { who: "root", act, request: None } },
            Letter::Tick => Step::Tick { host: at % 2 },
            Letter::Later(by) => Step::Clocks(world.clocks.map(|now| now + by)),
        };
        tell(format!("{letter:?}"));
        if at + 1 == sequence.len() {
            world.care = Care::Full;
        }
        world.step(&Planned { step, fault: None, salt: 7 + at as u64 });
    }
    sequence.len()
}
