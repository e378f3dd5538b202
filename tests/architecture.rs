//! The house, as the source keeps it: what stands on what, and what only one room may do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Crate, Module, Tree};

/// The rooms from low to high: a file imports only from rooms that stand below its own, or from its own. This
/// list is the one place that says so.
const HOUSE: &[&str] = &[
    // Words.
    "text",
    "time",
    "encode",
    "id",
    "actor",
    "secret",
    "crypto",
    "keyring",
    // Domain.
    "token",
    "digest",
    "imported",
    "claim",
    "scope",
    "limit",
    "network",
    "policy",
    "owner",
    "key",
    "version",
    "rotation",
    "lifecycle",
    "due",
    "event",
    "notification",
    "notice",
    "audit",
    "seal",
    "request",
    "signal",
    // Ports.
    "store",
    "clock",
    "sink",
    "notify",
    // Adapters.
    "store/memory",
    "store/sqlite",
    "store/conformance",
    "notify/writer",
    "notify/in_app",
    "notify/webhook",
    "notify/email",
    // What can go wrong, of all that stands below.
    "error",
    // Engines.
    "records",
    "outbox",
    "rewrite",
    "rotate",
    "validate",
    "report",
    "backup",
    "import",
    // Face.
    "manager",
    "http",
    // Documentation only.
    "guide",
];

/// The rooms from `first` to `last`.
fn rooms(first: &str, last: &str) -> &'static [&'static str] {
    let at = |room| HOUSE.iter().position(|name| *name == room).unwrap();
    &HOUSE[at(first)..=at(last)]
}

/// The room in which a module path lies: the longest name of a room that it begins with.
fn room_of(path: &[String]) -> Option<&'static str> {
    (1..=path.len()).rev().find_map(|length| {
        let name = path[..length].join("/");
        HOUSE.iter().copied().find(|room| *room == name)
    })
}

/// The path from the crate's root of something that a module names, or `None` if it is not of this crate.
fn resolve(path: &[String], module: &[String], names: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        first => names.get(first).map(|known| [known, &path[1..]].concat()),
    }
}

/// What one module names of this crate, and itself by its path; inline modules with their own.
fn named(path: &[String], trees: &[Tree], found: &mut Vec<(Vec<String>, Vec<String>)>) {
    let mut own = Vec::new();
    let mut names = BTreeMap::new();
    let mut rest = trees;
    while let Some((first, after)) = rest.split_first() {
        match rest {
            [word, Tree::Word(name), Tree::Group('{', inner), after @ ..] if word.is("mod") => {
                named(&[path, std::slice::from_ref(name)].concat(), inner, found);
                names.insert(name.clone(), [path, std::slice::from_ref(name)].concat());
                rest = after;
                continue;
            }
            [word, Tree::Word(name), Tree::Mark(';'), ..] if word.is("mod") => {
                names.insert(name.clone(), [path, std::slice::from_ref(name)].concat());
            }
            _ => {}
        }
        own.push(first.clone());
        rest = after;
    }
    let mut rest = own.as_slice();
    while let Some(at) = rest.iter().position(|tree| tree.is("use")) {
        let length = source::item_length(&rest[at..]);
        for (used, name) in source::use_paths(&rest[at + 1..at + length]) {
            if let Some(full) = resolve(&used, path, &names) {
                names.insert(name, full);
            }
        }
        rest = &rest[at + length..];
    }
    let paths = source::paths(&own);
    found.extend(paths.iter().filter_map(|named| Some((path.to_vec(), resolve(named, path, &names)?))));
}

/// What a module imports against the order of the house, in sentences.
fn against_the_order(module: &Module) -> BTreeSet<String> {
    let mut found = Vec::new();
    named(&module.path, &module.trees, &mut found);
    let sentences = found.into_iter().filter_map(|(from, to)| {
        let here = room_of(&from)?;
        let file = module.file.display();
        let Some(there) = room_of(&to) else {
            return Some(format!("{file} names crate::{}, which lies in no room", to.join("::")));
        };
        let floor = |room| HOUSE.iter().position(|name| *name == room);
        (floor(there) > floor(here))
            .then(|| format!("{file} is of {here} and imports {}, of {there} above it", to.join("::")))
    });
    sentences.collect()
}

/// The modules outside these rooms for which `offends` finds something.
fn outside(library: &Crate, rooms: &[&str], offends: impl Fn(&Module) -> Option<String>) -> Vec<String> {
    let modules = library.modules.iter();
    let modules = modules.filter(|module| !room_of(&module.path).is_some_and(|room| rooms.contains(&room)));
    modules.filter_map(|module| Some(format!("{}: {}", module.file.display(), offends(module)?))).collect()
}

/// A path in the module that begins like one of these.
fn names_any(module: &Module, beginnings: &[&str]) -> Option<String> {
    let paths = source::paths(&module.trees).into_iter().map(|path| path.join("::"));
    let begins = |path: &String, with: &str| {
        path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    paths.into_iter().find(|path| beginnings.iter().any(|with| begins(path, with)))
}

fn has_word(module: &Module, offends: impl Fn(&str) -> bool) -> Option<String> {
    source::words(&module.trees).into_iter().find(|word| offends(word)).map(str::to_owned)
}

fn is_lock_or_atomic(word: &str) -> bool {
    const LOCKS: &[&str] =
        &["Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "Once", "Barrier", "RefCell", "Cell"];
    LOCKS.contains(&word) || word.starts_with("Atomic") || word == "thread_local"
}

/// Whether a text is the beginning or a part of an SQL statement.
fn is_sql(text: &str) -> bool {
    const VERBS: &[&str] = &[
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER", "PRAGMA", "BEGIN",
        "COMMIT", "ROLLBACK", "ATTACH", "VACUUM", "WITH",
    ];
    let mut words = text.trim_start_matches(['r', '#', 'b', 'c', '"']).split_whitespace();
    let first = words.next().unwrap_or_default().trim_end_matches([';', '"']);
    VERBS.contains(&first)
}

/// A reading of the system's time.
fn reads_the_clock(module: &Module) -> Option<String> {
    let paths = source::paths(&module.trees).into_iter();
    let clocks = ["SystemTime", "Instant", "OffsetDateTime", "UtcDateTime"];
    let readings = ["now", "now_utc", "now_local"];
    paths.into_iter().find_map(|path| {
        let [.., clock, reading] = path.as_slice() else { return None };
        (clocks.contains(&clock.as_str()) && readings.contains(&reading.as_str())).then(|| path.join("::"))
    })
}

/// A call of a clock's `now`.
fn asks_for_the_time(trees: &[Tree]) -> bool {
    let is_call = |window: &[Tree]| {
        window[0].is(".") && window[1].is("now") && window[2].group('(').is_some_and(<[Tree]>::is_empty)
    };
    trees.windows(3).any(is_call)
        || trees.iter().any(|tree| matches!(tree, Tree::Group(_, inner) if asks_for_the_time(inner)))
}

/// A module as the tests plant it, to see that the checker finds what it looks for.
fn planted(room: &str, source: &str) -> Module {
    Module {
        path: room.split('/').map(str::to_owned).collect(),
        file: Path::new("planted.rs").to_owned(),
        trees: source::without_tests(&source::tokens(source)),
        conditions: Vec::new(),
    }
}

fn planted_crate(room: &str, source: &str) -> Crate {
    Crate { modules: vec![planted(room, source)], ..Crate::default() }
}

#[test]
fn a_file_imports_only_from_rooms_below_its_own() {
    let library = source::library();
    let found: BTreeSet<_> = library.modules.iter().flat_map(against_the_order).collect();
    assert!(found.is_empty(), "against the order of the house:\n{found:#?}");
}

#[test]
fn an_import_from_above_is_found_in_every_spelling() {
    for upward in [
        "use crate::manager::KeyManager;",
        "use crate::{time::Timestamp, manager};",
        "fn f() -> crate::manager::Act<'static> { g() }",
        "fn f() { use super::super::manager::Act; }",
        "use crate::manager as face; ",
        "fn f() { let x = vec![crate::manager::X]; }",
        "#[serde(with = \"crate::manager::words\")] struct X;",
        "mod inner { use super::super::super::manager::Act; }",
        "pub use crate::KeyManager;",
        "impl X { fn f() { crate::manager::f() } }",
    ] {
        assert_eq!(
            against_the_order(&planted("store/memory", &format!("mod a; {upward}"))).len(),
            1,
            "{upward}"
        );
    }
    let renamed = planted("store", "use crate::store; fn f() { store::sqlite::open() }");
    assert_eq!(against_the_order(&renamed).len(), 1, "by a module's own name");
    let child = planted("store", "mod sqlite; pub use sqlite::SqliteStore;");
    assert_eq!(against_the_order(&child).len(), 1, "by a child's name");
}

#[test]
fn imports_from_below_and_in_tests_are_left_alone() {
    for fine in [
        "use crate::time::Timestamp;",
        "mod sqlite; pub(crate) mod memory;",
        "use self::row::Row; use super::keyring;",
        "#[cfg(test)] mod tests { use crate::manager::KeyManager; }",
        "#[cfg(test)] use crate::manager::KeyManager;",
        "#[cfg(all(test, feature = \"sqlite\"))] mod tests { use crate::manager::KeyManager; }",
        "#[test] fn f() -> X { crate::manager::f() }",
        "/// [`X`](crate::manager::X)\nstruct Y;",
        "macro_rules! m { () => { $crate::manager::f() } }",
        "// use crate::manager::X;\nconst S: &str = \"use crate::manager::X;\";",
    ] {
        let found = against_the_order(&planted("store", fine));
        assert!(found.is_empty(), "{fine}: {found:?}");
    }
}

#[test]
fn every_file_has_a_room_and_every_room_a_file() {
    let library = source::library();
    let mut rooms = BTreeSet::new();
    for module in library.modules.iter().filter(|module| !module.path.is_empty()) {
        let room = room_of(&module.path);
        assert!(room.is_some(), "{} lies in no room of the list", module.file.display());
        rooms.extend(room);
    }
    assert_eq!(rooms, HOUSE.iter().copied().collect(), "the list names rooms that are not there");
}

#[test]
fn every_file_is_reached_by_a_mod() {
    let mut reached = source::library().reached;
    reached.extend(source::command_line().reached);
    let files: BTreeSet<_> = source::files_below("src", "rs").into_iter().collect();
    assert_eq!(files, reached, "files under src, and files that a `mod` line reaches");
}

#[test]
fn no_file_is_longer_than_450_lines() {
    let lines = |file: &_| source::read(file).lines().count();
    let files = source::files_below("src", "rs").into_iter().chain(source::files_below("src", "sql"));
    let long: Vec<_> = files.map(|file| (lines(&file), file)).filter(|(lines, _)| *lines > 450).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn cryptography_has_one_room() {
    let names = |module: &Module| names_any(module, &["ring", "sha2", "subtle"]);
    assert_eq!(outside(&source::library(), &["crypto"], names), [""; 0]);
    assert_eq!(outside(&planted_crate("token", "use ring::hmac;"), &["crypto"], names).len(), 1);
    assert_eq!(outside(&planted_crate("token", "fn f() { ::subtle::g() }"), &["crypto"], names).len(), 1);
}

/// `secret` wipes its own two types, `keyring` and `token` the buffers in which a master key and a token are made.
#[test]
fn buffers_are_wiped_where_secrets_are_made() {
    let rooms = ["secret", "keyring", "token"];
    let names = |module: &Module| names_any(module, &["zeroize"]);
    assert_eq!(outside(&source::library(), &rooms, names), [""; 0]);
    assert_eq!(outside(&planted_crate("event", "use zeroize::Zeroizing;"), &rooms, names).len(), 1);
}

#[test]
fn sql_has_one_room() {
    let library = source::library();
    let engine = |module: &Module| names_any(module, &["rusqlite", "libsqlite3_sys"]);
    let statement = |module: &Module| {
        source::literals(&module.trees).into_iter().find(|text| is_sql(text)).map(str::to_owned)
    };
    assert_eq!(outside(&library, &["store/sqlite"], engine), [""; 0]);
    assert_eq!(outside(&library, &["store/sqlite"], statement), [""; 0]);
    let files = source::files_below("src", "sql");
    assert!(files.iter().all(|file| file.starts_with("src/store/sqlite")), "{files:?}");

    assert_eq!(outside(&planted_crate("store", "use rusqlite::Connection;"), &[], engine).len(), 1);
    for sql in ["\"SELECT 1\"", "r#\"\n  DELETE FROM rows\"#", "\"BEGIN IMMEDIATE\"", "\"COMMIT;\""] {
        let planted = planted_crate("manager", &format!("fn f() {{ run({sql}) }}"));
        assert_eq!(outside(&planted, &[], statement).len(), 1, "{sql}");
    }
    let sqlite = library.modules.iter().filter(|module| room_of(&module.path) == Some("store/sqlite"));
    assert!(sqlite.filter_map(statement).count() > 0, "the room of SQL writes SQL");
}

#[test]
fn the_system_s_time_enters_through_the_clock() {
    assert_eq!(outside(&source::library(), &["clock"], reads_the_clock), [""; 0]);
    for reading in ["std::time::SystemTime::now()", "Instant::now()", "time::OffsetDateTime::now_utc()"] {
        let planted = planted_crate("manager", &format!("fn f() {{ {reading} }}"));
        assert_eq!(outside(&planted, &["clock"], reads_the_clock).len(), 1, "{reading}");
    }
    for file in source::files_below("src", "sql") {
        let sql = source::read(&file).to_lowercase();
        for reading in ["current_timestamp", "'now'", "unixepoch()"] {
            assert!(!sql.contains(reading), "{} reads the clock by {reading}", file.display());
        }
    }
}

/// `clock` itself, the manager's acts and the validator's entry: below them, time is an argument. What is told outside
/// is dated when it is told, by the clock that the notifier was given.
#[test]
fn below_the_entries_time_is_an_argument() {
    let rooms = ["clock", "validate", "manager", "notify/webhook", "notify/email"];
    let asks = |module: &Module| asks_for_the_time(&module.trees).then(|| "asks for the time".to_owned());
    assert_eq!(outside(&source::library(), &rooms, asks), [""; 0]);
    assert_eq!(outside(&planted_crate("rotate", "fn f() { clock.now() }"), &rooms, asks).len(), 1);
}

#[test]
fn locks_and_atomics_stay_with_the_replica_the_stores_and_the_clock() {
    // The conformance suite asks stores from several threads at once; it is a test that others run.
    let rooms = [
        "clock",
        "store/memory",
        "store/sqlite",
        "store/conformance",
        "notify/writer",
        "notify/email",
        "validate",
    ];
    let locks = |module: &Module| has_word(module, is_lock_or_atomic);
    assert_eq!(outside(&source::library(), &rooms, locks), [""; 0]);
    for lock in
        ["use std::sync::Mutex;", "static N: AtomicU64 = x();", "fn f() { std::sync::RwLock::new(1); }"]
    {
        assert_eq!(outside(&planted_crate("records", lock), &rooms, locks).len(), 1, "{lock}");
    }
}

#[test]
fn there_is_no_background_thread() {
    let rooms = ["store/conformance"];
    let spawns = |module: &Module| has_word(module, |word| word == "spawn");
    assert_eq!(outside(&source::library(), &rooms, spawns), [""; 0]);
    assert_eq!(outside(&planted_crate("manager", "fn f() { thread::spawn(g) }"), &rooms, spawns).len(), 1);
}

#[test]
fn only_two_files_are_unsafe() {
    const FILES: &[&str] = &["src/store/sqlite/stamp.rs", "src/validate/prefetch.rs"];
    let unsafes = |module: &Module| {
        let is_listed = FILES.iter().any(|file| module.file == Path::new(file));
        has_word(module, |word| word == "unsafe").filter(|_| !is_listed)
    };
    assert_eq!(outside(&source::library(), &[], unsafes), [""; 0]);
    assert_eq!(outside(&planted_crate("validate", "fn f() { unsafe { g() } }"), &[], unsafes).len(), 1);
}

/// The domain is pure, and so are the words, but for the keyring, which reads the environment and a file.
#[test]
fn the_domain_does_no_io_and_holds_nothing() {
    const OUTSIDE: &[&str] = &[
        "std::fs",
        "std::net",
        "std::env",
        "std::io",
        "std::os",
        "std::process",
        "std::sync",
        "std::thread",
    ];
    let pure: BTreeSet<_> =
        rooms("text", "signal").iter().copied().filter(|room| *room != "keyring").collect();
    let others: Vec<_> = HOUSE.iter().copied().filter(|room| !pure.contains(room)).collect();
    let touches = |module: &Module| {
        if module.path.is_empty() { None } else { names_any(module, OUTSIDE) }
    };
    assert_eq!(outside(&source::library(), &others, touches), [""; 0]);
    for impure in
        ["use std::fs;", "use std::{fmt, net::IpAddr};", "fn f() { std::env::var(X) }", "use std::sync::Arc;"]
    {
        assert_eq!(outside(&planted_crate("lifecycle", impure), &others, touches).len(), 1, "{impure}");
    }
}

/// Only what a host plugs in, and the file of a database or a master key, lies outside of the process.
#[test]
fn files_have_two_rooms_and_the_network_has_one() {
    let library = source::library();
    let files = |module: &Module| names_any(module, &["std::fs", "std::env", "std::process", "std::os"]);
    // The importer reads the variable that it is told to, as the keyring does.
    assert_eq!(outside(&library, &["keyring", "store/sqlite", "import"], files), [""; 0]);
    assert_eq!(outside(&planted_crate("manager", "use std::fs::File;"), &[], files).len(), 1);
    let network =
        |module: &Module| has_word(module, |word| ["TcpStream", "TcpListener", "UdpSocket"].contains(&word));
    assert_eq!(outside(&library, &["notify/email"], network), [""; 0]);
    let client = |module: &Module| names_any(module, &["ureq", "lettre", "rustls", "webpki_roots"]);
    assert_eq!(outside(&library, &["notify/webhook", "notify/email"], client), [""; 0]);
    assert_eq!(outside(&planted_crate("manager", "use ureq::Agent;"), &[], client).len(), 1);
    assert_eq!(outside(&planted_crate("manager", "use std::net::TcpStream;"), &[], network).len(), 1);
}

/// What decides is the library's: the command line reaches neither a row nor a cipher, and no clock but the library's.
#[test]
fn the_command_line_only_carries() {
    const INSIDE: &[&str] =
        &["rusqlite", "ring", "sha2", "subtle", "crc32fast", "base64", "time", "std::net::TcpStream"];
    let program = source::command_line();
    assert!(program.modules.len() > 20);
    let names = |module: &Module| names_any(module, INSIDE).or_else(|| reads_the_clock(module));
    assert_eq!(outside(&program, &[], names), [""; 0]);
    assert_eq!(outside(&planted_crate("keys", "use rusqlite::Connection;"), &[], names).len(), 1);
    let statement = |module: &Module| {
        source::literals(&module.trees).into_iter().find(|text| is_sql(text)).map(str::to_owned)
    };
    assert_eq!(outside(&program, &[], statement), [""; 0]);
}

/// What a service's clients read; the fields of what the library itself sends are their senders'.
#[test]
fn the_answers_of_http_have_one_room() {
    const FIELDS: &[&str] = &["www-authenticate", "x-api-key", "ratelimit", "sunset", "problem+json"];
    let names = |module: &Module| {
        let is_field = |text: &str| FIELDS.iter().any(|field| text.to_ascii_lowercase().contains(field));
        source::literals(&module.trees).into_iter().find(|text| is_field(text)).map(str::to_owned)
    };
    // A column of a foreign table may be named as a field.
    assert_eq!(outside(&source::library(), &["http", "import"], names), [""; 0]);
    let planted = planted_crate("manager", "const FIELD: &str = \"X-API-Key-Deprecated\";");
    assert_eq!(outside(&planted, &["http"], names).len(), 1);
}

#[test]
fn the_root_only_declares_and_re_exports() {
    let library = source::library();
    let root = library.modules.iter().find(|module| module.path.is_empty()).unwrap();
    let mut rest = root.trees.as_slice();
    while !rest.is_empty() {
        let item = source::attributes(rest).1;
        let keyword = source::keyword(item);
        assert!(["mod", "use"].contains(&keyword), "lib.rs has a `{keyword}`");
        rest = &item[source::item_length(item)..];
    }
}
