//! A notifier that does not answer for long, in a process of its own: validation there and elsewhere, another process's
//! commits and its deliveries on other channels go on meanwhile, and once the lease is over the same notification, too.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use keyrota::{
    ChannelFilter, KeyManager, ManualClock, NewKey, Notification, NotificationKind, Notifier, NotifyError,
    SqliteStore, Timestamp, Validator,
};

use crate::stage::{Bed, Process, Tally, keyring, letter, owner, root, start};

const LEASE: Duration = Duration::from_secs(60);

/// Notes the id in a file that all processes share, and returns when it is let go.
struct Held {
    folder: PathBuf,
    until: Option<&'static str>,
}

impl Notifier for Held {
    fn notify(&self, told: &Notification) -> Result<(), NotifyError> {
        note(&self.folder, &format!("begins {}", told.id));
        while self.until.is_some_and(|file| !self.folder.join(file).exists()) {
            thread::sleep(Duration::from_millis(1));
        }
        note(&self.folder, &format!("told {}", told.id));
        Ok(())
    }
}

/// One line in one write.
fn note(folder: &Path, line: &str) {
    use std::io::Write as _;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("blocked.log"));
    log.unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn notes(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("blocked.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn manager(folder: &Path, time: Timestamp, until: Option<&'static str>) -> (KeyManager, Validator) {
    let store = SqliteStore::open(folder.join("keys.db")).unwrap();
    let held = |until| Held { folder: folder.to_owned(), until };
    // Not the alarm of the revoked token that the child goes on validating with.
    let kinds = || ChannelFilter::all().kinds([NotificationKind::Issued]);
    let keys = KeyManager::builder(store, keyring())
        .clock(ManualClock::new(time))
        .filtered_channel("slow", kinds(), held(until))
        .filtered_channel("fine", kinds(), held(None))
        .open()
        .unwrap();
    let validator = keys.validator().unwrap();
    (keys, validator)
}

/// What the child does that is held up: it ticks, and validates on another thread all the while.
pub(crate) fn hold(folder: &Path, time: Timestamp, token: &str) -> String {
    let (keys, validator) = manager(folder, time, Some("let-go"));
    let (granted, denied) = (Tally::open(folder.join("granted")), Tally::open(folder.join("denied")));
    let told = thread::scope(|scope| {
        let ticking = scope.spawn(|| keys.tick().unwrap().notified);
        while !ticking.is_finished() {
            match letter(&validator.validate(token)) {
                'g' => granted.add(),
                'r' => denied.add(),
                other => panic!("{other}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
        ticking.join().unwrap()
    });
    format!("told {told}")
}

/// What another child does.
pub(crate) fn deliver(folder: &Path, time: Timestamp, channel: &str) -> String {
    let (keys, _) = manager(folder, time, None);
    format!("told {}", keys.deliver(channel).unwrap().notified)
}

/// Until something that another process does has happened.
fn wait_until(happened: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if happened() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it has not happened within a minute and more");
}

#[test]
fn while_a_notifier_of_one_process_blocks_all_else_goes_on_in_it_and_in_others() {
    let bed = Bed::new(10);
    let folder = bed.folder.path();
    // Its rows are there for both channels; it tells nothing itself.
    let writer = KeyManager::builder(SqliteStore::open(bed.path()).unwrap(), keyring())
        .clock(bed.clock.clone())
        .channel_elsewhere("slow", ChannelFilter::all())
        .channel_elsewhere("fine", ChannelFilter::all())
        .open()
        .unwrap();
    let issue = |name: &str| writer.by(root()).issue(NewKey::new(owner(name), "ci").unwrap()).unwrap();
    let first = issue("first");
    let mut children: Vec<Process> = bed.processes(2);
    let at = |time: Timestamp| time.unix_micros();
    children[0].tell(&format!("hold {} {} {}", folder.display(), at(start()), first.token.expose()));
    wait_until(|| notes(folder).len() == 1);
    let begun = notes(folder).remove(0);

    // Its own validation.
    let (granted, denied) = (Tally::open(folder.join("granted")), Tally::open(folder.join("denied")));
    let before = granted.count();
    wait_until(|| granted.count() > before + 10);
    // Another process: what it tells on the other channel, and on this one of other keys.
    let deliver =
        |time: Timestamp, channel: &str| format!("deliver {} {} {channel}", folder.display(), at(time));
    assert_eq!(children[1].ask(&deliver(start(), "fine")), "told 1");
    issue("second");
    assert_eq!(children[1].ask(&deliver(start(), "fine")), "told 1");
    assert_eq!(children[1].ask(&deliver(start(), "slow")), "told 1", "of the second key; the first is taken");
    assert_eq!(children[1].ask(&deliver(start(), "slow")), "told 0");
    // Its commits and validations, its tick, and that what it does is known in the process that is held up.
    let issued = children[1].ask("issue third");
    let [_, _, token] = issued.split(' ').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(letter(&bed.keys.validator().unwrap().validate(token)), 'g');
    assert!(children[1].ask("tick").starts_with("ticked "));
    assert_eq!(denied.count(), 0);
    assert_eq!(children[1].ask(&format!("revoke {}", first.key)), "done");
    wait_until(|| denied.count() > 10);

    // It is still at it, and nobody else is before its lease is over; then another tells the same, by the same id.
    let of_first = |what: &str| {
        let id = begun.split(' ').nth(1).unwrap();
        notes(folder).iter().filter(|line| **line == format!("{what} {id}")).count()
    };
    assert_eq!(
        (of_first("begins"), of_first("told")),
        (2, 1),
        "here and on the other channel, which has told it"
    );
    let over = start().plus(LEASE).unwrap();
    let almost = start().plus(LEASE - Duration::from_micros(1)).unwrap();
    assert_eq!(children[1].ask(&deliver(almost, "slow")), "told 0");
    assert_eq!(children[1].ask(&deliver(over, "slow")), "told 1");
    assert_eq!((of_first("begins"), of_first("told")), (3, 2));
    std::fs::write(folder.join("let-go"), "").unwrap();
    assert_eq!(children[0].answer(), "told 1", "late; and nothing waits behind it");
    assert_eq!((of_first("begins"), of_first("told")), (3, 3));
    assert_eq!(children[1].ask(&deliver(over, "slow")), "told 0");
    bed.assert_sound();
}
