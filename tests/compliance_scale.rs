//! A compliance report over many keys holds its lists and an id for each rotation, and no keys: counted by the allocator
//! itself, in a process of its own.
//!
//! `KEYROTA_COMPLIANCE_KEYS=1000000 cargo test --release --test compliance_scale -- --nocapture` measures a million.
#![cfg(feature = "sqlite")]
#![allow(unsafe_code, reason = "an allocator can only be implemented so; it forwards each call unchanged")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{DAY, HOUR, Place, START, at, keyring};
use keyrota::{Actor, ComplianceQuery, KeyManager, ManualClock, NewKey, OwnerId, OwnerLimit};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grew(by: usize) {
    let live = LIVE.fetch_add(by, Ordering::Relaxed) + by;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is the system allocator's own, with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grew(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How far the heap grew at most while this was done.
fn grown<T>(what: &str, work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let done = work();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("{what}: {:?}, {} KiB of heap at most", began.elapsed(), peak / 1_024);
    (done, peak)
}

/// Of so many keys one in ten is rotated once.
fn filled(place: &Place, keys: usize) -> (KeyManager, ManualClock) {
    let clock = ManualClock::new(at(START));
    let manager = KeyManager::builder(place.open(), keyring()).clock(clock.clone());
    let manager = manager.owner_limit(OwnerLimit::new(100_000).unwrap()).open().unwrap();
    for n in 0..keys {
        // A millisecond each, by which ids are ordered.
        clock.advance(DAY / 86_400_000).unwrap();
        let owner = OwnerId::new(&format!("owner-{}", n % 1_000)).unwrap();
        let new = NewKey::new(owner, format!("key number {n}")).unwrap().lifetime(700 * DAY);
        let key = manager.by(Actor::operator("root")).issue(new).unwrap().key;
        if n % 10 == 0 {
            manager.by(Actor::operator("root")).because("quarterly").rotate(key).unwrap();
        }
    }
    clock.advance(HOUR).unwrap();
    (manager, clock)
}

#[test]
fn a_report_over_many_keys_holds_its_lists_and_no_keys() {
    let count = std::env::var("KEYROTA_COMPLIANCE_KEYS").map_or(1_000, |count| count.parse().unwrap());
    let place = Place::sqlite();
    let ((keys, clock), _) = grown("making them", || filled(&place, count));
    let query = ComplianceQuery::default().listed(100);
    let tenth = count.div_ceil(10) as u64;

    let (report, peak) = grown("the report", || keys.compliance(&query).unwrap());
    assert_eq!((report.keys, report.within, report.overdue.total), (count as u64, count as u64, 0));
    assert_eq!((report.evidence.total, report.rotations.rotated), (tenth, tenth));
    assert!(report.audit.is_sound());
    // An id for each rotation, with the room that a table keeps free; all else does not grow with the keys.
    let bound = 1_024 * 1_024 + 160 * count / 10;
    assert!(peak < bound, "{peak} bytes for {count} keys");
    drop(report);

    // A hundred days later the tenth that was rotated is as old as the others: the oldest are chosen among all.
    (0..4).for_each(|_| clock.advance(25 * DAY).unwrap());
    let (report, peak) = grown("the report of a late day", || keys.compliance(&query).unwrap());
    assert_eq!((report.overdue.total, report.overdue.listed.len()), (count as u64, 100));
    assert!(report.overdue.listed.is_sorted_by_key(|key| key.issued_at));
    assert!(peak < bound, "{peak} bytes for {count} keys");

    let (lines, peak) = grown("the keys as CSV", || keys.export_compliance(&query, std::io::sink()).unwrap());
    assert!(lines == count as u64 && peak < 1_024 * 1_024, "{lines} lines, {peak} bytes");
    let (lines, peak) =
        grown("the rotations as CSV", || keys.export_rotations(&query, std::io::sink()).unwrap());
    assert!(lines >= tenth && peak < 2 * 1_024 * 1_024, "{lines} lines, {peak} bytes");

    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let told = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    println!("{count} keys; {}; {}", told("VmHWM"), told("VmRSS"));
}
