//! Every command in a pipe: what it does, and its JSON.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::stage::{Stage, text};

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A policy under which a successor is due at once.
const AT_ONCE: &[&str] = &["--lifetime", "90d", "--rotate-every", "1ms", "--auto-rotation", "on"];

#[test]
fn init_makes_a_database_and_a_master_key_once() {
    let stage = Stage::bare();
    let made = stage.json(&["init", "--preset", "keep-two-newest", "--owner-limit", "3"]);
    assert_eq!((&made["founded"], &made["master_key_made"]), (&true.into(), &true.into()));
    assert_eq!((stage.mode("keys.db"), stage.mode("master.key")), (0o600, 0o600));
    let key = stage.read("master.key");
    let again = stage.json(&["init", "--owner-limit", "7"]);
    assert_eq!((&again["founded"], &again["master_key_made"]), (&false.into(), &false.into()));
    assert_eq!(stage.read("master.key"), key);
    let policy = stage.json(&["policy", "show"]);
    assert_eq!(policy["settings"]["owner_limit"], 3, "a store that is there stays as it is");
    assert_eq!(policy["policy"]["lifetime_seconds"], 181 * 86_400);
    std::fs::remove_file(stage.path("master.key")).unwrap();
    stage.run(&["init"]).failed(3, "give the file of its master key");
    assert!(!stage.path("master.key").exists(), "a new key is not the one of a database that is there");
}

#[test]
fn a_key_is_issued_validated_rotated_and_revoked() {
    let stage = Stage::new();
    let scopes = ["--scope", "orders:read", "orders:write", "--lifetime", "30d"];
    let issued = stage.json(&[&["issue", "--owner", "ada", "--name", "ci"], &scopes[..]].concat());
    assert_eq!(fields(&issued), BTreeSet::from(["key_id", "version", "valid_until", "token"]));
    let (key, token) = (text(&issued["key_id"]), text(&issued["token"]));

    let valid = stage.json_with(&["validate", "--scope", "orders:read"], &format!("{token}\n"));
    assert_eq!(
        (&valid["valid"], &valid["key_id"], &valid["version"]),
        (&true.into(), &issued["key_id"], &1.into())
    );
    assert_eq!(valid["scopes"], serde_json::json!(["orders:read", "orders:write"]));
    let denied = stage.run_with(&["validate", "--scope", "orders:admin", "--json"], &token).json(1);
    assert_eq!((&denied["valid"], &denied["key_id"]), (&false.into(), &issued["key_id"]));
    for junk in ["nonsense", "key_000000000000", "\u{fffd}", &token[..60]] {
        let unknown = stage.run_with(&["validate", "--json"], junk).json(1);
        assert_eq!((&unknown["reason"], &unknown["key_id"]), (&"unknown token".into(), &Value::Null));
    }

    let rotated = stage.json(&["rotate", &key]);
    assert_eq!((&rotated["version"], &rotated["old_version"]), (&2.into(), &1.into()));
    let grace = text(&rotated["old_valid_until"]).parse::<keyrota::Timestamp>().unwrap();
    assert!(grace < text(&rotated["valid_until"]).parse().unwrap());
    for token in [&token, &text(&rotated["token"])] {
        stage.json_with(&["validate"], token);
    }
    let back = stage.json(&["rollback", &key]);
    assert_eq!(back["key"]["versions"][0]["stage"], "active");
    assert_eq!(back["rotations"][0]["status"], "rolled_back");
    assert_eq!(back["rotations"][0]["key_id"], key.as_str());

    let revoked = stage.json(&["revoke", &key, "--version", "2", "--yes"]);
    assert_eq!(fields(&revoked), BTreeSet::from(["key_id", "done", "version"]));
    stage.json_with(&["validate"], &token);
    stage.json(&["revoke", &key, "--yes"]);
    let denied = stage.run_with(&["validate", "--json"], &token).json(1);
    assert_eq!(denied["reason"], "revoked");
    stage.run(&["rotate", &key]).failed(1, "revoked");
    stage.run(&["show", "key_0000000000000000000000"]).failed(1, "there is no key");
    stage.run(&["show", "no-key"]).refused(2, "22 base62 characters");
}

#[test]
fn a_token_goes_into_a_new_file_that_only_its_owner_reads() {
    let stage = Stage::new();
    let issued = stage.json(&["issue", "--owner", "ada", "--name", "ci", "--token-out", "token"]);
    assert_eq!(fields(&issued), BTreeSet::from(["key_id", "version", "valid_until", "token_file"]));
    assert_eq!(stage.mode("token"), 0o600);
    stage.json_with(&["validate"], &stage.read("token"));
    let before = stage.read("token");
    let refused = stage.run(&["rotate", &text(&issued["key_id"]), "--token-out", "token"]);
    refused.failed(3, "could not be made");
    assert_eq!(stage.read("token"), before);
    assert_eq!(
        stage.json(&["show", &text(&issued["key_id"])])["key"]["versions"].as_array().unwrap().len(),
        1
    );
    stage.run(&["rotate", "key_0000000000000000000000", "--token-out", "other"]).failed(1, "no key");
    assert!(!stage.path("other").exists(), "a file without a token is of no use");
}

#[test]
fn an_act_is_repeated_under_its_request_id() {
    let stage = Stage::new();
    let issue = ["issue", "--owner", "ada", "--name", "ci", "--request", "req-1"];
    let (first, second) = (stage.json(&issue), stage.json(&issue));
    assert_eq!(first, second);
    assert_eq!(stage.json(&["list"])["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn lists_and_edits_tell_keys_as_they_are() {
    let stage = Stage::new();
    let metadata = r#"{"team":"shop","key":"key_of_theirs","seen_at":5,"at_us":7}"#;
    let (key, _) = stage.issue(&["--metadata", metadata, "--limits", "10/s burst 50, quota 100 monthly"]);
    let (other, _) =
        stage.issue(&["--networks", "192.0.2.0/24", "--until", "in 3d", "--auto-rotation", "off"]);
    let list = stage.json(&["list"]);
    assert_eq!(fields(&list), BTreeSet::from(["keys", "edited", "next"]));
    let ids: Vec<_> = list["keys"].as_array().unwrap().iter().map(|key| text(&key["key_id"])).collect();
    assert_eq!(ids, [key.as_str(), other.as_str()]);
    assert_eq!(list["keys"][0]["metadata"], serde_json::from_str::<Value>(metadata).unwrap());
    assert_eq!(stage.run(&["list", "--ids"]).out, format!("{key}\n{other}\n"));
    let ending = stage.json(&["list", "--expiring-before", "in 4d"]);
    assert_eq!(ending["keys"][0]["key_id"], other.as_str());
    let page = stage.json(&["list", "--limit", "1"]);
    assert_eq!(page["next"], key.as_str());
    assert_eq!(stage.json(&["list", "--after", &key])["keys"][0]["key_id"], other.as_str());
    assert_eq!(stage.json(&["list", "--status", "revoked"])["keys"], serde_json::json!([]));

    let shown = stage.json(&["show", &key]);
    assert_eq!(fields(&shown), BTreeSet::from(["key", "rotations", "last_used", "quota_left"]));
    assert_eq!((&shown["quota_left"], &shown["key"]["key_id"]), (&100.into(), &key.as_str().into()));
    assert!(text(&shown["key"]["issued_at"]).ends_with('Z'));
    let edited = stage.json(&["edit", &key, "--name", "ci of the shop", "--auto-rotation", "on"]);
    assert_eq!((&edited["key"]["name"], &edited["key"]["rotates"]), (&"ci of the shop".into(), &true.into()));
    stage.run(&["edit", &key, "--no-limits"]).failed(1, "--widen");
    assert_eq!(stage.json(&["edit", &key, "--no-limits", "--widen"])["quota_left"], Value::Null);
    stage.run(&["edit", &key]).failed(2, "what is to be changed");
}

#[test]
fn a_successor_is_made_by_the_tick_and_claimed() {
    let (stage, keys) = Stage::with_due_keys(&["one", "two"]);
    let token = &keys[0].1;
    let plan = stage.json(&["plan"]);
    assert!(
        plan["events"].as_array().unwrap().iter().any(|event| event["kind"] == "rotation_started"),
        "{plan}"
    );
    let tick = stage.json(&["tick"]);
    assert_eq!(
        (&tick["started"], &tick["more"], &tick["clock"]),
        (&2.into(), &false.into(), &"steady".into())
    );
    let valid = stage.json_with(&["validate"], token);
    assert!(text(&valid["successor"]["claim_by"]).ends_with('Z'), "{valid}");

    let waiting = stage.json(&["waiting"]);
    let mut waiting: Vec<_> =
        waiting["waiting"].as_array().unwrap().iter().map(|waits| text(&waits["key_id"])).collect();
    waiting.sort();
    // Keys of one moment have no order among each other.
    let mut due: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
    due.sort();
    assert_eq!(waiting, due);

    let claim = ["claim", "--claim-id-file", "claim.id"];
    let (first, again) = (stage.json_with(&claim, token), stage.json_with(&claim, token));
    assert_eq!(first, again, "the same claim shows the same successor");
    assert_eq!((stage.mode("claim.id"), &first["version"]), (0o600, &2.into()));
    stage.run_with(&["claim"], token).failed(1, "claimed");
    stage.json_with(&["validate"], &text(&first["token"]));

    let owned = &keys[1].0;
    assert_eq!(stage.json(&["waiting"])["waiting"].as_array().unwrap().len(), 1);
    let claimed = stage.json(&["claim", "--for-owner", owned]);
    assert_eq!(claimed["key_id"], owned.as_str());
    assert_eq!(stage.json(&["waiting"])["waiting"], serde_json::json!([]));
}

#[test]
fn rotations_are_scheduled_and_cancelled_and_versions_deprecated() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let scheduled = stage.json(&["schedule", &key, "--at", "tomorrow", "--reason", "a window"]);
    assert_eq!(
        (&scheduled["rotation"]["status"], &scheduled["key_id"]),
        (&"scheduled".into(), &key.as_str().into())
    );
    assert_eq!(scheduled["rotation"]["reason"], "a window");
    stage.run(&["schedule", &key, "--at", "2w"]).refused(2, "write a date");
    stage.json(&["cancel", &key]);
    stage.run(&["cancel", &key]).failed(1, "no rotation is scheduled");
    let deprecated = stage.json(&["deprecate", &key, "--yes"]);
    assert_eq!(deprecated["key"]["versions"][0]["stage"], "deprecated");
    assert!(stage.json_with(&["validate"], &token)["deprecated_at"].is_string());
}

#[test]
fn an_emergency_ends_what_has_leaked() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let found = stage.json_with(&["find"], &token);
    assert_eq!(found["key_id"], key.as_str());
    let version = stage.json(&["show", &key])["key"]["versions"][0].clone();
    let fingerprint = text(&version["fingerprint"]);
    assert_eq!(stage.json(&["find", "--fingerprint", &fingerprint]), found);
    assert_eq!(stage.json(&["find", "--locator", &text(&version["locator"])]), found);
    assert_eq!(stage.run_with(&["find", "--json"], "nonsense").json(1)["key_id"], Value::Null);

    let replaced = stage.json(&["replace", &key, "--yes", "--reason", "leaked"]);
    assert_eq!(stage.run_with(&["validate", "--json"], &token).json(1)["reason"], "revoked");
    let token = text(&replaced["token"]);
    assert_eq!(stage.json_with(&["compromised", "--yes"], &token)["version"], 2);
    assert_eq!(stage.run_with(&["validate", "--json"], &token).json(1)["reason"], "revoked");
    assert_eq!(
        stage.run_with(&["compromised", "--yes", "--json"], "nonsense").json(1)["key_id"],
        Value::Null
    );
}

#[test]
fn owners_are_suspended_resumed_limited_and_revoked() {
    let stage = Stage::new();
    let (_, token) = stage.issue(&["--scope", "orders:read"]);
    stage.run(&["owner", "suspend", "nobody", "--yes"]).failed(1, "no owner");
    assert_eq!(stage.json(&["owner", "suspend", "ada", "--yes"])["owner"]["suspended"], true);
    let denied = stage.run_with(&["validate", "--json"], &token).json(1);
    assert_eq!(denied["reason"], "the owner is suspended");
    assert_eq!(stage.json(&["owner", "resume", "ada"])["owner"]["suspended"], false);
    stage.json_with(&["validate"], &token);
    let set = stage.json(&[
        "owner",
        "set",
        "ada",
        "--limit",
        "1",
        "--ceiling",
        "orders:*",
        "--auto-rotation",
        "on",
    ]);
    assert_eq!((&set["owner"]["limit"], &set["owner"]["ceiling"][0]), (&1.into(), &"orders:*".into()));
    assert_eq!(stage.json(&["owner", "show", "ada"]), set);
    assert_eq!(stage.json(&["owner", "list"])["owners"], serde_json::json!([set["owner"]]));
    stage.run(&["issue", "--owner", "ada", "--name", "two"]).failed(1, "holds its 1 keys");
    stage.json(&["owner", "revoke-all", "ada", "--yes"]);
    assert_eq!(stage.run_with(&["validate", "--json"], &token).json(1)["reason"], "revoked");
}

#[test]
fn roles_and_policies_are_set_and_shown() {
    let stage = Stage::new();
    stage
        .run(&["issue", "--owner", "ada", "--name", "ci", "--role", "deployer"])
        .failed(1, "keyrota role set");
    let roles = stage.json(&["role", "set", "deployer", "--scope", "releases:write,releases:read"]);
    assert_eq!(
        (&roles["roles"][0]["name"], roles["roles"][0]["scopes"].as_array().unwrap().len()),
        (&"deployer".into(), 2)
    );
    assert_eq!(stage.json(&["role", "list"]), roles);
    let (key, token) = stage.issue(&["--role", "deployer"]);
    stage.json_with(&["validate", "--scope", "releases:write"], &token);

    let set = stage.json(&["policy", "set", "--lifetime", "60d", "--rotate-every", "50d", "--warn", "5d,1d"]);
    assert_eq!(set["policy"]["lifetime_seconds"], 60 * 86_400);
    assert_eq!(set["policy"]["warnings_seconds"], serde_json::json!([432_000, 86_400]));
    assert!(text(&set["policy"]["text"]).contains("50 d"));
    let own = stage.json(&["policy", "set", "--key", &key, "--overlap", "1h"]);
    assert_eq!((&own["own"], &own["policy"]["overlap_seconds"]), (&true.into(), &3_600.into()));
    assert_eq!(own["policy"]["lifetime_seconds"], 60 * 86_400, "what is not said stays");
    assert_eq!(stage.json(&["policy", "show", &key]), own);
    assert_eq!(stage.json(&["policy", "set", "--key", &key, "--inherit"])["own"], false);
    stage.run(&["policy", "set"]).failed(2, "what is to be set");
    stage.run(&["policy", "set", "--overlap", "80d"]).failed(2, "overlap");
    let off = stage.json(&["policy", "set", "--management", "off", "--auto-rotation", "on"]);
    assert_eq!(off["settings"]["management_enabled"], false);
    stage.run(&["rotate", &key]).failed(1, "switched off");
    stage.json(&["revoke", &key, "--yes"]);
}

#[test]
fn a_simulation_needs_no_database() {
    let stage = Stage::bare();
    let simulated = stage.json(&["simulate", "--from", "2027-01-01", "--claims-after", "2d"]);
    assert_eq!(simulated["most_live"], 2);
    let begun: Vec<_> =
        simulated["events"].as_array().unwrap().iter().filter(|e| e["kind"] == "rotation_started").collect();
    assert_eq!((begun.len(), text(&begun[0]["at"])), (4, "2027-03-25T00:00:00Z".to_owned()));
    assert!(!stage.path("keys.db").exists());
    let never = stage.json(&["simulate", "--from", "2027-01-01", "--never-claims"]);
    assert_eq!(never["ends_at"], "2027-04-01T00:00:00Z");
}

#[test]
fn the_audit_log_is_read_exported_and_verified() {
    let stage = Stage::new();
    let (key, _) = stage.issue(&[]);
    let early = text(&stage.json(&["audit", "verify"])["anchor"]);
    stage.json(&["rotate", &key, "--reason", "the client moves"]);
    let query = stage.json(&["audit", "query", "--key", &key, "--kind", "key_rotation"]);
    let [entry] = query["entries"].as_array().unwrap().as_slice() else { panic!("{query}") };
    assert_eq!((&entry["key_id"], &entry["reason"]), (&key.as_str().into(), &"the client moves".into()));
    assert_eq!(entry["actor"]["name"], "root");
    let page = stage.json(&["audit", "query", "--limit", "2"]);
    assert_eq!(page["next"], page["entries"][1]["seq"]);
    assert_eq!(stage.json(&["audit", "query", "--after", &page["next"].to_string()])["entries"][0]["seq"], 3);
    stage.run(&["audit", "query", "--kind", "no_such"]).refused(2, "no such kind");

    let lines = stage.run(&["audit", "export"]).out;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].is_u64()));
    let exported = stage.json(&["audit", "export", "--out", "log"]);
    assert_eq!(
        (exported["exported"].as_u64().unwrap() as usize, stage.read("log")),
        (lines.lines().count(), lines)
    );

    let verified = stage.json(&["audit", "verify", "--anchor", &early]);
    assert_eq!((&verified["sound"], &verified["verdict"]), (&true.into(), &"sound".into()));
    let foreign = early.replace(|c: char| c.is_ascii_lowercase(), "0");
    assert_eq!(
        stage.run(&["audit", "verify", "--anchor", &foreign, "--json"]).json(1)["verdict"],
        "not_anchored"
    );
    stage.run(&["audit", "verify", "--anchor", "1:abc"]).refused(2, "an anchor is");
}

#[test]
fn usage_is_reported_and_what_nobody_uses_is_listed() {
    let stage = Stage::new();
    let (used, token) = stage.issue(&[]);
    let (unused, _) = stage.issue(&[]);
    stage.json_with(&["validate"], &token);
    stage.run_with(&["validate", "--scope", "a:b", "--json"], &token).json(1);
    let usage = stage.json(&["usage", &used]);
    assert_eq!((&usage["key_id"], &usage["usage"]["counts"]["allowed"]), (&used.as_str().into(), &1.into()));
    assert!(text(&usage["usage"]["counts"]["last_used"]).ends_with('Z'));
    assert!(text(&usage["usage"]["buckets"][0][0]["hour"]).ends_with('Z'), "{usage}");
    let all = stage.json(&["usage"]);
    assert_eq!(fields(&all), BTreeSet::from(["as_of", "keys", "denied"]));
    assert_eq!((&all["keys"][0]["key_id"], &all["denied"]["scope"]), (&used.as_str().into(), &1.into()));
    let stale = stage.json(&["stale", "--for", "0s"]);
    assert!(stale["keys"].as_array().unwrap().iter().any(|key| key["key_id"] == unused.as_str()), "{stale}");
    assert_eq!(stage.json(&["stale"])["keys"], serde_json::json!([]));
}

/// A channel of a process that is no more, whose notifications nobody could tell.
#[test]
fn dead_letters_are_listed_retried_and_dropped() {
    use keyrota::{Actor, Callback, KeyManager, Keyring, NewKey, NotifyError, OwnerId, SqliteStore};
    let stage = Stage::new();
    let store = SqliteStore::open(stage.path("keys.db")).unwrap();
    let keyring = Keyring::from_file(stage.path("master.key")).unwrap();
    let refuses = Callback::new(|_: &_| Err(NotifyError::permanent("no such\u{1b}[2J address")));
    let keys = KeyManager::builder(store, keyring).channel("ops", refuses).open().unwrap();
    for name in ["one", "two"] {
        keys.by(Actor::operator("root"))
            .issue(NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap())
            .unwrap();
    }
    keys.deliver("ops").unwrap();
    drop(keys);
    let list = stage.json(&["notifications", "list", "ops"]);
    let letters = list["dead_letters"].as_array().unwrap();
    assert_eq!((letters.len(), &letters[0]["channel"]), (2, &"ops".into()), "{list}");
    assert!(letters[0]["notification"]["key_id"].is_string(), "{list}");
    let people = stage.run(&["notifications", "list", "ops"]).out;
    assert!(!people.contains('\u{1b}'), "what a receiver said moves no cursor: {people:?}");
    let id = |at: usize| text(&letters[at]["notification"]["id"]);
    stage.json(&["notifications", "retry", "ops", &id(0)]);
    stage.json(&["notifications", "drop", "ops", &id(1), "--yes"]);
    assert_eq!(stage.json(&["notifications", "list", "ops"])["dead_letters"], serde_json::json!([]));
    stage.run(&["notifications", "retry", "ops", &id(1)]).failed(1, "no dead letter");
    let (key, _) = stage.issue(&["--channel", "ops"]);
    let keyring = Keyring::from_file(stage.path("master.key")).unwrap();
    let store = SqliteStore::open(stage.path("keys.db")).unwrap();
    let (inbox, told) = keyrota::InApp::queue(10);
    let keys = KeyManager::builder(store, keyring).channel("ops", inbox).open().unwrap();
    keys.deliver("ops").unwrap();
    let told: Vec<_> = told.try_iter().filter_map(|told| told.key).collect();
    assert!(
        told.iter().any(|told| told.to_string() == key),
        "what the command line does is told by the service"
    );
}

#[test]
fn what_is_over_is_cleaned_up_and_a_backup_brings_nothing_revoked_back() {
    let stage = Stage::new();
    let (gone, _) = stage.issue(&[]);
    let (key, token) = stage.issue(&[]);
    stage.json(&["revoke", &gone, "--yes"]);
    let backup = stage.json(&["backup", "copy.db"]);
    assert_eq!((stage.mode("copy.db"), fields(&backup)), (0o600, BTreeSet::from(["backup", "anchor"])));
    stage.run(&["backup", "copy.db"]).failed(3, "copy.db");
    let dry = stage.json(&["cleanup", "--older-than", "0s", "--dry-run"]);
    assert_eq!(dry, serde_json::json!({ "dry_run": true, "purged": 1, "keys": [gone] }));
    assert!(stage.run(&["cleanup", "--older-than", "0s", "--dry-run"]).out.contains(&gone));
    assert_eq!(stage.json(&["cleanup", "--older-than", "90d", "--dry-run"])["purged"], 0);
    assert_eq!(stage.json(&["show", &gone])["key"]["status"], "revoked", "a dry run removes nothing");
    let cleaned = stage.json(&["cleanup", "--older-than", "0s", "--yes"]);
    assert_eq!(cleaned, serde_json::json!({ "dry_run": false, "purged": 1, "keys": [] }));
    stage.json(&["revoke", &key, "--yes"]);
    let (late, _) = stage.issue(&[]);
    let restored = stage.json(&["restore", "copy.db", "--yes", "--reason", "a test"]);
    assert_eq!(
        (&restored["sound"], &restored["carried_over"]["keys"]),
        (&true.into(), &1.into()),
        "{restored}"
    );
    assert_eq!(stage.run_with(&["validate", "--json"], &token).json(1)["reason"], "revoked");
    stage.run(&["show", &late]).failed(1, "there is no key");
    stage.run(&["restore", "copy.db"]).failed(2, "--yes");
    let fresh = stage.json(&["restore", "copy.db", "--db", "elsewhere.db"]);
    assert_eq!(fresh["carried_over"], Value::Null, "{fresh}");
    stage.json_with(&["validate", "--db", "elsewhere.db"], &token);
    stage.run(&["restore", "none.db", "--yes"]).failed(3, "there is no backup");
}

#[test]
fn a_master_key_is_rotated_in_steps_and_retired_when_nothing_needs_it() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let (idle, _) = stage.issue(&[]);
    let before = stage.read("master.key");
    let added = stage.json(&["master-key", "rotate"]);
    assert_eq!((&added["step"], &added["generation"]), (&"added".into(), &2.into()));
    assert_eq!(
        (
            stage.mode("master.key"),
            stage.read("master.key").contains(before.trim().split(':').next_back().unwrap())
        ),
        (0o600, true)
    );
    assert_eq!(added["generations"][1]["rows"], 0);
    stage.json_with(&["validate"], &token);
    assert_eq!(stage.json(&["master-key", "rotate"])["step"], "current");
    let valid = stage.json_with(&["validate"], &token);
    assert_eq!(valid["key_id"], key.as_str(), "what was written under the old one is still read");
    let rotated = stage.json(&["rotate", &key]);
    stage.json_with(&["validate"], &text(&rotated["token"]));
    let status = stage.json(&["master-key", "status"]);
    let [old, new] = status["generations"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!(
        (&old["digests"], &new["digests"], &new["current"]),
        (&1.into(), &2.into(), &true.into()),
        "{status}"
    );
    assert!(new["rows"].as_u64().unwrap() > 0);
    assert_eq!(stage.json(&["audit", "verify"])["sound"], true);
    assert_eq!(stage.json(&["doctor"])["healthy"], true);

    stage.run(&["master-key", "retire", "2"]).failed(1, "current");
    stage.run(&["master-key", "retire", "1"]).failed(1, "still need g1; --force would lose them");
    assert_eq!(stage.json(&["master-key", "rotate"])["step"], "added");
    assert_eq!(stage.json(&["master-key", "retire", "3", "--yes"])["step"], "retired");
    // A tick writes the rows again; the token that nobody uses any more is what is left.
    let ticked = stage.json(&["tick"]);
    assert!(ticked["rewritten"].as_u64().unwrap() > 3, "{ticked}");
    assert_eq!(ticked["rewriting"]["remaining"], 0, "{ticked}");
    let status = stage.json(&["master-key", "status"]);
    assert_eq!(
        (&status["generations"][0]["rows"], &status["rewriting"]["remaining"]),
        (&0.into(), &0.into())
    );
    let refused = stage.run(&["master-key", "retire", "1"]);
    refused.failed(1, &format!("0 rows, 0 sealed secrets, 1 tokens and 0 audit entries (1 keys: {idle})"));
    let (lonely, unused) = stage.issue(&[]);
    stage.json(&["revoke", &idle, "--yes"]);
    stage.run(&["master-key", "retire", "1"]).refused(2, "--yes");
    let retired = stage.json(&["master-key", "retire", "1", "--yes"]);
    assert_eq!(
        retired["lost"],
        serde_json::json!({
            "generation": 1, "rows": 0, "sealed": 0, "digests": 0, "keys": [], "audit_entries": 0,
        })
    );
    let file = stage.read("master.key");
    assert!(!file.contains("g1") && file.contains("g2*:"), "the old one is out of the file");
    assert_eq!(
        stage.json(&["audit", "verify"])["sound"],
        true,
        "without the master key of its first entries"
    );
    assert_eq!(stage.json(&["doctor"])["healthy"], true);
    assert_eq!(stage.json_with(&["validate"], &unused)["key_id"], lonely.as_str());
    // By force, also while a token needs it.
    stage.json(&["master-key", "rotate"]);
    stage.json(&["master-key", "rotate"]);
    stage.json(&["tick"]);
    let forced = stage.json(&["master-key", "retire", "2", "--force", "--yes"]);
    assert_eq!(
        (&forced["lost"]["digests"], &forced["lost"]["keys"]),
        (&3.into(), &serde_json::json!([key, lonely]))
    );
    assert_eq!(stage.json(&["audit", "verify"])["sound"], true);
    let files = std::fs::read_dir(stage.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = files.filter(|name| name.to_string_lossy().starts_with("master")).collect();
    assert_eq!(beside, ["master.key"], "no other copy of a master key stays");
    let one = stage
        .program(crate::stage::PROGRAM)
        .env("KEYROTA_MASTER_KEY", before.trim())
        .env_remove("KEYROTA_MASTER_KEY_FILE")
        .args(["list"])
        .output()
        .unwrap();
    crate::stage::Answer::from(one).failed(3, "generation");
}

#[test]
fn the_doctor_tells_what_is_wrong_and_what_to_do() {
    let stage = Stage::new();
    stage.issue(AT_ONCE);
    let found = |answer: &Value, name: &str, state: &str| {
        let checks = answer["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["check"] == name && check["state"] == state).count()
    };
    let well = stage.json(&["doctor"]);
    assert_eq!(well["healthy"], true);
    assert_eq!(found(&well, "due", "warning"), 1, "{well}");
    for name in ["database", "master key", "clock", "permissions", "audit log", "integrity", "usage"] {
        assert_eq!(found(&well, name, "ok"), 1, "{name}: {well}");
    }
    assert_eq!(found(&well, "permissions", "warning"), 1, "the master key lies beside the database");
    stage.json(&["tick"]);
    assert_eq!(found(&stage.json(&["doctor", "--channel", "ops"]), "notifications", "ok"), 1);

    stage.set_mode("master.key", 0o640);
    let open = stage.run(&["doctor", "--json"]).json(3);
    assert_eq!((&open["healthy"], found(&open, "permissions", "failed")), (&false.into(), 1), "{open}");
    stage.set_mode("master.key", 0o600);

    let shell = rusqlite::Connection::open(stage.path("keys.db")).unwrap();
    let kind = keyrota::RowKind::Key.code();
    let edited = shell.execute(
        "UPDATE row SET body = replace(body, 'orders', 'billing'), owner = 'eve' WHERE kind = ?1",
        (kind,),
    );
    assert_eq!(edited.unwrap(), 1);
    drop(shell);
    let edited = stage.run(&["doctor", "--json"]).json(3);
    assert_eq!(found(&edited, "integrity", "failed"), 1, "{edited}");
    std::fs::remove_file(stage.path("master.key")).unwrap();
    let missing = stage.run(&["doctor", "--json"]).json(3);
    assert_eq!(
        (found(&missing, "database", "failed"), found(&missing, "master key", "failed")),
        (0, 1),
        "{missing}"
    );
}

#[test]
fn keys_of_another_system_are_imported_and_validate() {
    let stage = Stage::new();
    let import = |more: &[&str]| {
        let mut command = stage.command(&[&["import", "--json", "--owner", "clients"], more].concat());
        command.env("API_KEYS", "ci:7Fh2kQ9zXw4VbN8mT3cYpL6r,web:Zr9Hq0bV4gJm2xkQe8TnYw6c");
        crate::stage::Answer::from(command.output().unwrap())
    };
    let env = ["--env", "API_KEYS", "--scope", "orders:read"];
    let dry = import(&[&env[..], &["--dry-run"]].concat()).json(0);
    assert_eq!((&dry["dry_run"], &dry["imported"]), (&true.into(), &2.into()), "{dry}");
    stage.run_with(&["validate", "--json"], "7Fh2kQ9zXw4VbN8mT3cYpL6r").json(1);
    let done = import(&[&env[..], &["--request", "move-1"]].concat()).json(0);
    assert_eq!((&done["imported"], &done["skipped"]), (&2.into(), &0.into()), "{done}");
    stage.json_with(&["validate", "--scope", "orders:read"], "7Fh2kQ9zXw4VbN8mT3cYpL6r");
    assert_eq!(import(&[&env[..], &["--request", "move-1"]].concat()).json(0)["before"], 2);

    let digest = "8607d7a64164f14dc0555be7d408ce12559b51e9514d4814b714f6a9a482262e";
    std::fs::write(stage.path("keys.csv"), format!("odd,user_id,name\n{digest},17,ci\nnonsense,17,old\n"))
        .unwrap();
    let csv = ["--csv", "keys.csv", "--column", "odd=digest"];
    let refused = import(&csv).json(1);
    assert_eq!((&refused["imported"], &refused["problems"][0]["line"]), (&0.into(), &3.into()), "{refused}");
    assert!(!refused.to_string().contains("nonsense"), "what a line says may be a token");
    assert_eq!(import(&[&csv[..], &["--skip-bad-lines"]].concat()).json(0)["imported"], 1);
    stage.json_with(&["validate"], "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r");
    let left = stage.json(&["import", "--remaining"]);
    assert_eq!(left["remaining"], 3, "{left}");
    import(&[]).refused(2, "from where?");
    import(&["--csv", "."]).refused(3, "directory");
    import(&["--csv", "none.csv"]).refused(3, "cannot be read");
    import(&["--csv", "keys.csv", "--column", "odd=strange"]).refused(2, "nothing that a column says");
}

/// Of a digest nobody can tell how strong its token is, until that is used; then it is as `--weak` said.
#[test]
fn a_weak_token_of_which_only_the_digest_came_is_flagged_rotated_or_refused_once_it_is_used() {
    let stage = Stage::new();
    for (weak, token) in
        [("flag", "acme-ci-password-a"), ("rotate", "acme-ci-password-b"), ("refuse", "acme-ci-password-c")]
    {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(stage.path("keys.csv"), format!("key_hash,name\n{hex},{weak}\n")).unwrap();
        let done = stage.json(&["import", "--csv", "keys.csv", "--owner", "clients", "--weak", weak]);
        assert_eq!(
            (&done["imported"], &done["unknown_strength"], &done["weak"]),
            (&1.into(), &1.into(), &0.into())
        );
        let found = stage.json(&["list", "--name", weak]);
        let strength = |key: &Value| key["versions"][0]["imported"]["strength"].clone();
        assert_eq!(strength(&found["keys"][0]), "unknown", "{found}");
        // The first use is granted, whatever is learned of it.
        stage.json_with(&["validate"], token);
        let after = stage.json(&["list", "--name", weak])["keys"][0].clone();
        assert_eq!(strength(&after), "weak", "{after}");
        let rotates = after["rotates"].as_bool().unwrap();
        let again = stage.run_with(&["validate", "--json"], token);
        match weak {
            "flag" => assert_eq!((again.json(0)["successor"].is_null(), rotates), (true, false)),
            "rotate" => {
                assert!(rotates);
                stage.json(&["tick"]);
                assert!(stage.json_with(&["validate"], token)["successor"].is_object());
            }
            _ => assert_eq!((&again.json(1)["reason"], rotates), (&"revoked".into(), false)),
        }
    }
    let left = stage.json(&["import", "--remaining"]);
    assert_eq!(
        (&left["remaining"], &left["weak"], &left["over"]),
        (&2.into(), &2.into(), &1.into()),
        "{left}"
    );
}

#[test]
fn compliance_is_reported_and_exported() {
    let stage = Stage::new();
    let (key, _) = stage.issue(&[]);
    let report = stage.json(&["compliance", "--keys-csv", "keys.csv", "--rotations-csv", "rotations.csv"]);
    assert_eq!((&report["keys"], &report["within"], &report["format"]), (&1.into(), &1.into(), &1.into()));
    assert!(text(&report["at"]).ends_with('Z'));
    assert_eq!(report["never_rotating"]["listed"][0]["key_id"], key.as_str());
    assert_eq!((stage.read("keys.csv").lines().count(), stage.mode("keys.csv")), (2, 0o600));
    stage.run(&["compliance", "--keys-csv", "keys.csv"]).failed(3, "could not be made");
    let exempt = stage.json(&["compliance", "--exempt", &format!("{key}=printed on devices")]);
    assert_eq!(exempt["exceptions"]["total"], 1);
    stage.run(&["compliance", "--exempt", "no key"]).refused(2, "KEY_ID=REASON");
}

#[test]
fn completions_are_made_for_each_shell() {
    let stage = Stage::bare();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stage.run(&["completions", shell]).out;
        assert!(script.contains("compromised") && script.contains("master-key"), "{shell}");
    }
    let script = text(&stage.json(&["completions", "bash"])["script"]);
    std::fs::write(stage.path("script"), script).unwrap();
    assert!(stage.program("bash").args(["-n", "script"]).status().unwrap().success());
}

/// Each command of the help, with those of its groups.
pub(crate) fn commands(stage: &Stage, path: &[&str]) -> Vec<String> {
    let help = stage.run(&[path, &["--help"]].concat());
    assert_eq!((help.code, help.err.as_str()), (0, ""), "{path:?}");
    let listed = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<_> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        assert!(help.out.contains(&format!("  keyrota {}", path.join(" "))), "{path:?} has no example");
        return vec![path.join(" ")];
    }
    names.iter().flat_map(|name| commands(stage, &[path, &[name.as_str()]].concat())).collect()
}

#[test]
fn every_command_is_among_those_that_are_asked_for_json() {
    let stage = Stage::bare();
    let source: String = include_str!("every_command.rs").split_whitespace().collect();
    let words =
        |command: &str| command.split(' ').map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(",");
    let all = commands(&stage, &[]);
    let unasked: Vec<_> =
        all.iter().filter(|command| !source.contains(&format!("[{}", words(command)))).collect();
    assert!(unasked.is_empty(), "{unasked:?}");
    for wanted in [
        "revoke",
        "owner revoke-all",
        "policy set",
        "audit export",
        "master-key rotate",
        "notifications drop",
    ] {
        assert!(all.iter().any(|command| command == wanted), "{wanted} is not among {all:?}");
    }
}
