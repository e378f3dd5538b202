//! What one process has revoked, suspended or resumed, the first validation begun afterwards in another one says.

use std::path::Path;

use crate::stage::Bed;

/// Acts, and what each of some tokens is to be after each of them: one letter for a token, one word for an act.
pub(crate) struct Script {
    pub(crate) tokens: Vec<String>,
    pub(crate) acts: Vec<String>,
    /// What the tokens are before the first act, after the first act, and so on.
    pub(crate) expected: Vec<String>,
}

impl Script {
    fn new(tokens: Vec<String>) -> Self {
        let granted = "g".repeat(tokens.len());
        Self { tokens, acts: Vec::new(), expected: vec![granted] }
    }

    /// One more act, by which these tokens become that.
    fn then(&mut self, act: String, changes: &[(usize, char)]) {
        let mut verdicts: Vec<_> = self.expected.last().unwrap().chars().collect();
        for (token, verdict) in changes {
            verdicts[*token] = *verdict;
        }
        self.acts.push(act);
        self.expected.push(verdicts.into_iter().collect());
    }

    fn write(&self, folder: &Path) {
        let lists = [&self.tokens, &self.acts, &self.expected];
        std::fs::write(folder.join("script.json"), serde_json::to_vec(&lists).unwrap()).unwrap();
    }

    pub(crate) fn from_json(json: &[u8]) -> Self {
        let [tokens, acts, expected] = serde_json::from_slice(json).unwrap();
        Self { tokens, acts, expected }
    }
}

/// 200 times suspended and resumed, beside an owner to whom nothing happens.
fn suspensions(bed: &Bed) -> Script {
    let (_, ada) = bed.issue("ada");
    let (_, bob) = bed.issue("bob");
    let mut script = Script::new(vec![ada, bob]);
    for _ in 0..200 {
        script.then("suspend ada".to_owned(), &[(0, 's')]);
        script.then("resume ada".to_owned(), &[(0, 'g')]);
    }
    script
}

/// Versions, keys and all keys of an owner, each revoked; and nothing brings them back.
fn revocations(bed: &Bed) -> Script {
    let mut keys = Vec::new();
    let mut tokens = Vec::new();
    for n in 0..10 {
        let (key, first) = bed.issue(&format!("versions-{n}"));
        keys.push(key);
        tokens.extend([first, bed.rotate(key)]);
    }
    for n in 0..10 {
        let (key, token) = bed.issue(&format!("keys-{n}"));
        keys.push(key);
        tokens.push(token);
    }
    for n in 0..5 {
        tokens.extend([0; 2].map(|_| bed.issue(&format!("owner-{n}")).1));
    }
    let (leaked, eve) = bed.issue("eve");
    tokens.extend([eve, bed.issue("eve").1]);

    let mut script = Script::new(tokens);
    for (n, key) in keys.iter().take(10).enumerate() {
        // Of every other key the active version, which leaves the deprecated one.
        let number = n % 2 + 1;
        script.then(format!("revoke-version {key} {number}"), &[(2 * n + number - 1, 'r')]);
    }
    for (n, key) in keys.iter().skip(10).enumerate() {
        script.then(format!("revoke {key}"), &[(20 + n, 'r')]);
    }
    for n in 0..5 {
        let first = 30 + 2 * n;
        script.then(format!("revoke-owners owner-{n}"), &[(first, 'r'), (first + 1, 'r')]);
        script.then(format!("suspend owner-{n}"), &[]);
        script.then(format!("resume owner-{n}"), &[]);
    }
    script.then("suspend eve".to_owned(), &[(40, 's'), (41, 's')]);
    script.then(format!("revoke {leaked}"), &[(40, 'r')]);
    script.then("resume eve".to_owned(), &[(41, 'g')]);
    script
}

/// Step by step: the second process says that its act has returned, and only then the first one is told to validate.
fn tell_step_by_step(script: impl Fn(&Bed) -> Script) {
    let bed = Bed::new(100);
    let script = script(&bed);
    script.write(bed.folder.path());
    let mut processes = bed.processes(2);
    let [a, b] = processes.as_mut_slice() else { unreachable!() };
    a.ask(&format!("tokens {}", bed.folder.path().display()));
    assert_eq!(a.ask("check"), script.expected[0]);
    for (act, expected) in script.acts.iter().zip(&script.expected[1..]) {
        assert_eq!(b.ask(act), "done", "{act}");
        assert_eq!(a.ask("check"), *expected, "after {act}");
    }
    bed.assert_sound();
}

/// At full speed: the first process validates without a pause, and each of its verdicts is judged by how many acts the
/// other had finished before that validation began. The other one pauses after so many acts until all has been seen.
fn watch_at_full_speed(burst: usize, script: impl Fn(&Bed) -> Script) {
    const THREADS: usize = 2;
    let bed = Bed::new(100);
    let script = script(&bed);
    let folder = bed.folder.path().display();
    script.write(bed.folder.path());
    let mut processes = bed.processes(2);
    let [a, b] = processes.as_mut_slice() else { unreachable!() };
    a.tell(&format!("watch {folder} {THREADS}"));
    b.tell(&format!("perform {folder} {THREADS} {burst}"));
    let (watched, performed) = (a.answer(), b.answer());
    let rounds: Option<usize> = watched.strip_prefix("watched ").and_then(|rounds| rounds.parse().ok());
    assert!(performed == "performed" && rounds.is_some(), "{performed}; {watched}");
    assert!(rounds >= Some(THREADS * script.acts.len() / burst), "{rounds:?}");
    bed.assert_sound();
}

#[test]
fn a_suspension_and_its_end_show_in_the_next_validation_of_another_process() {
    tell_step_by_step(suspensions);
}

#[test]
fn a_revocation_shows_in_the_next_validation_of_another_process() {
    tell_step_by_step(revocations);
}

#[test]
fn no_validation_begun_after_a_suspension_returned_misses_it_at_full_speed() {
    watch_at_full_speed(1, suspensions);
}

#[test]
fn no_validation_begun_after_a_burst_of_suspensions_misses_the_last_of_them() {
    // Of three, so that the last one is a suspension and a resumption in turn: catching up with one act happens while
    // the next is being committed.
    watch_at_full_speed(3, suspensions);
}

#[test]
fn no_validation_begun_after_a_revocation_returned_misses_it_at_full_speed() {
    watch_at_full_speed(1, revocations);
}

#[test]
fn no_validation_begun_after_a_burst_of_revocations_misses_any_of_them() {
    watch_at_full_speed(4, revocations);
}
