//! Playing a seed, or a list of steps; and making a list that fails as short as it gets.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use keyrota::MemoryStore;

use crate::acts::{ACTS, Planned};
use crate::chooser::Chooser;
use crate::faults::Swarm;
use crate::site::Backing;
use crate::world::{Care, World};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store {
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// Both beside each other.
    #[cfg(feature = "sqlite")]
    Both,
}

/// What a history is played on.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub seed: u64,
    pub store: Store,
    /// Whether anything goes wrong.
    pub faults: bool,
}

pub struct Played {
    pub history: Vec<Planned>,
    /// The steps and faults that came.
    pub pairs: Vec<(String, String)>,
    pub failure: Option<String>,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A failure of a history is told once, at the end, and not for each attempt to make it shorter.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PLACE.with(|slot| *slot.borrow_mut() = place);
            } else {
                usual(info);
            }
        }));
    });
}

/// What a run returns, or how it panics.
pub fn told<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    listen();
    QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("{}\n  at {}", text.unwrap_or_default(), PLACE.with(|place| place.borrow().clone()))
    })
}

fn quietly(run: impl FnOnce()) -> Option<String> {
    told(run).err()
}

impl Case {
    fn with_world(self, run: impl FnOnce(&mut World)) {
        let care = if self.faults { Care::Sampled } else { Care::Full };
        #[cfg(feature = "sqlite")]
        let folder = {
            // In memory where that is to be had: a commit waits for the disk.
            let shared = std::path::Path::new("/dev/shm");
            let make = || if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
            (self.store != Store::Memory).then(|| make().unwrap())
        };
        #[cfg(feature = "sqlite")]
        let file = || Backing::Sqlite(folder.as_ref().unwrap().path().join("keys.db"));
        let memory = || ("memory", Backing::Memory(MemoryStore::new()));
        let backings = match self.store {
            Store::Memory => vec![memory()],
            #[cfg(feature = "sqlite")]
            Store::Sqlite => vec![("sqlite", file())],
            #[cfg(feature = "sqlite")]
            Store::Both => vec![memory(), ("sqlite", file())],
        };
        run(&mut World::new(backings, care));
    }

    /// A seed's history, as far as it goes.
    pub fn play(self, steps: usize) -> Played {
        let (mut history, mut pairs) = (Vec::new(), Vec::new());
        let failure = quietly(|| {
            self.with_world(|world| {
                let swarm =
                    if self.faults { Swarm::of(self.seed, ACTS.len()) } else { Swarm::calm(ACTS.len()) };
                let mut chooser = Chooser::new(self.seed, swarm);
                for _ in 0..steps {
                    let planned = chooser.next(&world.model, world.clocks);
                    history.push(planned.clone());
                    world.step(&planned);
                    pairs.append(&mut world.pairs);
                    world.open.drain(..).for_each(|(request, act)| chooser.is_open(request, act));
                }
                world.finish();
            });
        });
        Played { history, pairs, failure }
    }

    /// A list of steps; returns how it fails.
    pub fn replay(self, history: &[Planned]) -> Option<String> {
        quietly(|| {
            self.with_world(|world| {
                history.iter().for_each(|planned| world.step(planned));
                world.finish();
            });
        })
    }

    /// Leaves out steps while it still fails in the same way.
    pub fn shrink(
        self,
        mut history: Vec<Planned>,
        failure: &str,
        mut attempts: usize,
    ) -> (Vec<Planned>, String) {
        let kind = |text: &str| text.chars().take_while(|c| !c.is_ascii_digit()).take(24).collect::<String>();
        let mut told = failure.to_owned();
        let mut size = history.len().div_ceil(2);
        while size > 0 && attempts > 0 {
            let (mut at, mut shorter) = (0, false);
            while at < history.len() && attempts > 0 {
                let mut without = history.clone();
                without.drain(at..(at + size).min(history.len()));
                attempts -= 1;
                match self.replay(&without) {
                    Some(text) if kind(&text) == kind(failure) => {
                        (history, told, shorter) = (without, text, true)
                    }
                    _ => at += size,
                }
            }
            if size == 1 && !shorter {
                break;
            }
            size = if size == 1 { 1 } else { size.div_ceil(2) };
        }
        (history, told)
    }

    /// What a failure says of itself.
    pub fn report(self, played: Played, attempts: usize) -> String {
        let (step, failure) = (played.history.len(), played.failure.unwrap_or_default());
        let Self { seed, store, faults } = self;
        let (list, told) = self.shrink(played.history, &failure, attempts);
        let list: Vec<_> = list.iter().map(|planned| format!("    {planned:?}")).collect();
        format!(
            "seed {seed}, step {step} ({store:?}, faults: {faults}): {failure}\n  of {step} steps these {} are \
             enough:\n{}\n  and end with: {told}",
            list.len(),
            list.join("\n")
        )
    }
}
