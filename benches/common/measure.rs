//! Measuring: batches that take turns, medians, and the lines `ratio NAME VALUE` at the end.
//!
//! Only ratios of one run mean anything on a machine whose speed drifts, so all that is compared is measured in turns.
//! Batches are measured by the processor time of their thread where the system tells it: a batch that others interrupt
//! does not take longer for it, and turns do not fall into step with the scheduler.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// One run of a benchmark.
pub(crate) struct Run {
    /// Whether each measurement is only to be carried out once, in seconds also in a debug build.
    pub(crate) test: bool,
    ratios: Vec<(String, f64)>,
}

/// Something to be measured: what it is called, how often it is called in one batch, and the batch, which returns the
/// nanoseconds of one call.
pub(crate) struct Measured<'a> {
    name: &'static str,
    calls: usize,
    batch: Box<dyn FnMut(usize) -> f64 + 'a>,
}

/// What one round of batches brought.
pub(crate) struct Round {
    names: Vec<&'static str>,
    /// For each batch the nanoseconds of one call, by measurement.
    batches: Vec<Vec<f64>>,
}

/// How long this thread has run.
#[cfg(target_os = "linux")]
fn ran() -> Duration {
    let ran = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(ran.tv_sec as u64, ran.tv_nsec as u32)
}

/// How long this thread has run, idle or not.
#[cfg(not(target_os = "linux"))]
fn ran() -> Duration {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// The nanoseconds for which this thread runs for some work.
pub(crate) fn busy_nanos(work: impl FnOnce()) -> f64 {
    let begin = ran();
    work();
    (ran() - begin).as_nanos() as f64
}

/// The nanoseconds that pass while some work is done, waiting included.
pub(crate) fn nanos(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

impl<'a> Measured<'a> {
    /// Calls that count on from batch to batch: 0, 1, 2, …
    pub(crate) fn call(name: &'static str, calls: usize, mut call: impl FnMut(usize) + 'a) -> Self {
        let mut at = 0;
        let batch = move |calls| {
            let from = at;
            at += calls;
            busy_nanos(|| (from..at).for_each(&mut call)) / calls as f64
        };
        Self { name, calls, batch: Box::new(batch) }
    }

    /// The same by several threads at once, each with its number: the nanoseconds from one call to the next, of
    /// whichever thread. Where fewer processors than threads are free, they are not really at once.
    pub(crate) fn threads(
        name: &'static str,
        calls: usize,
        threads: usize,
        call: impl Fn(usize, usize) + Sync + 'a,
    ) -> Self {
        let mut at = 0;
        let batch = move |calls: usize| {
            let from = at;
            at += calls;
            let (barrier, call) = (Barrier::new(threads), &call);
            let work = |thread: usize| {
                barrier.wait();
                busy_nanos(|| (from..from + calls).for_each(|number| call(thread, number)))
            };
            let longest = std::thread::scope(|scope| {
                let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
                spawned.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
            });
            longest / (calls * threads) as f64
        };
        Self { name, calls, batch: Box::new(batch) }
    }
}

impl Round {
    fn column(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap()
    }

    /// The median nanoseconds of one call.
    pub(crate) fn of(&self, name: &str) -> f64 {
        let column = self.column(name);
        median(self.batches.iter().map(|batch| batch[column]).collect())
    }

    /// The median of how often the one takes as long as the other did in the same turn.
    pub(crate) fn ratio(&self, name: &str, to: &str) -> f64 {
        let (name, to) = (self.column(name), self.column(to));
        median(self.batches.iter().map(|batch| batch[name] / batch[to]).collect())
    }
}

impl Run {
    /// Begins; `--test` on the command line asks for one of each.
    pub(crate) fn begin() -> Self {
        Self { test: std::env::args().any(|argument| argument == "--test"), ratios: Vec::new() }
    }

    /// One number in a real run, another where everything is done once.
    pub(crate) fn pick(&self, real: usize, test: usize) -> usize {
        if self.test { test } else { real }
    }

    /// How many keys: what the variable says, as `1000,1_000_000`, or else these. In a test few.
    pub(crate) fn sizes(&self, variable: &str, usual: &[usize]) -> Vec<usize> {
        if self.test {
            return vec![120];
        }
        let Ok(text) = std::env::var(variable) else { return usual.to_vec() };
        text.split(',').map(|number| number.trim().replace('_', "").parse().expect(variable)).collect()
    }

    /// Measures in turns and prints the medians.
    pub(crate) fn round(&self, title: &str, turns: usize, mut measured: Vec<Measured<'_>>) -> Round {
        let turns = self.pick(turns, 1);
        let names = measured.iter().map(|measured| measured.name).collect();
        let turn = |measured: &mut Vec<Measured<'_>>| {
            measured.iter_mut().map(|Measured { calls, batch, .. }| batch(*calls)).collect::<Vec<_>>()
        };
        if !self.test {
            turn(&mut measured);
        }
        let round = Round { names, batches: (0..turns).map(|_| turn(&mut measured)).collect() };
        println!("\n{title}");
        for name in &round.names {
            println!("  {name:<34}{:>12.1} ns", round.of(name));
        }
        round
    }

    /// Keeps a ratio for the end.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, value: f64) {
        self.ratios.push((name.into(), value));
    }

    /// Prints the ratios, with what else the machine was doing.
    pub(crate) fn end(self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("\nload average {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
        for (name, value) in self.ratios {
            println!("ratio {name} {value:.3}");
        }
    }
}
