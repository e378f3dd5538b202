//! The sink for Vault and OpenBao: once for each version, whatever happens in between.
//!
//! Set `KEYROTA_TEST_VAULT_ADDR` and `KEYROTA_TEST_VAULT_TOKEN` to a server for development, and the last test runs on it.

use std::sync::Arc;

use keyrota::{KeyId, KeyManager, ManualClock, RotationStatus, Validator, VersionNo};
use serde_json::{Value, json};

use crate::file::{bed, pass};
use crate::kv::{Kv, TOKEN};
use crate::secret_sink_vault::VaultSink;
use crate::support::HOUR;

fn sink(kv: &Kv, token: &str) -> VaultSink {
    VaultSink::new(&kv.address(), "secret", "keyrota", token, Some(&kv.authority.pem)).unwrap()
}

fn start() -> (Kv, KeyManager, Validator, ManualClock, KeyId) {
    let kv = Kv::new();
    let (keys, validator, clock, key) = bed(sink(&kv, TOKEN));
    pass(&keys, &clock, 82);
    (kv, keys, validator, clock, key)
}

impl Kv {
    /// All that was written for a key.
    fn writes(&self, key: KeyId) -> Vec<Option<Value>> {
        self.kept.lock().unwrap().secrets.get(&format!("keyrota/{key}")).cloned().unwrap_or_default()
    }

    fn current(&self, key: KeyId) -> Value {
        self.writes(key).pop().flatten().unwrap()
    }
}

#[test]
fn each_version_is_written_once_and_validates() {
    let (kv, keys, validator, clock, key) = start();
    for version in 2..=4 {
        pass(&keys, &clock, if version == 2 { 2 } else { 83 });
        let current = kv.current(key);
        assert_eq!((&current["version"], &current["key"]), (&json!(version), &json!(key.to_string())));
        assert_eq!(current["rotation"], keys.rotations(key).unwrap()[version as usize - 2].id.to_string());
        let grant = validator.validate(current["token"].as_str().unwrap()).unwrap();
        assert_eq!((grant.key(), grant.version()), (key, VersionNo::new(version)));
        assert_eq!(kv.writes(key).len() as u32, version - 1);
    }
}

#[test]
fn an_answer_that_is_lost_leads_to_no_second_write() {
    let (kv, keys, _, clock, key) = start();
    kv.kept.lock().unwrap().loses_answer = true;
    pass(&keys, &clock, 1);
    let rotation = &keys.rotations(key).unwrap()[0];
    assert!(rotation.delivered_at.is_none() && kv.writes(key).len() == 1, "written, and not known to be");
    clock.advance(HOUR).unwrap();
    while keys.tick().unwrap().more {}
    let rotation = &keys.rotations(key).unwrap()[0];
    assert_eq!((rotation.delivered_at.is_some(), kv.writes(key).len()), (true, 1));
    let kept = kv.kept.lock().unwrap();
    assert_eq!((kept.writes, rotation.attempts), (1, 2));
}

#[test]
fn a_write_by_somebody_else_meanwhile_is_seen_and_decided_upon_again() {
    let (kv, keys, _, clock, key) = start();
    kv.kept.lock().unwrap().meanwhile = Some(json!({"note": "by hand"}));
    pass(&keys, &clock, 1);
    assert_eq!(kv.writes(key).len(), 2);
    assert_eq!(kv.current(key)["version"], 2);
    assert_eq!(kv.kept.lock().unwrap().writes, 2, "refused once, and written over what is there now");

    // Another process has put a newer version: that one stays.
    let newer = json!({"token": "key_newer", "key": key.to_string(), "version": 9, "rotation": "rot_newer"});
    kv.kept.lock().unwrap().meanwhile = Some(newer.clone());
    pass(&keys, &clock, 84);
    assert_eq!(kv.current(key), newer);
    assert!(keys.rotations(key).unwrap()[1].delivered_at.is_some());
}

#[test]
fn a_secret_that_was_deleted_is_written_anew() {
    let (kv, keys, _, clock, key) = start();
    pass(&keys, &clock, 2);
    kv.kept.lock().unwrap().secrets.get_mut(&format!("keyrota/{key}")).unwrap()[0] = None;
    pass(&keys, &clock, 84);
    assert_eq!((kv.writes(key).len(), &kv.current(key)["version"]), (2, &json!(3)));
}

#[test]
fn a_server_that_is_down_sealed_or_refuses_is_asked_again_with_the_same_version() {
    for instead in [
        vec![("GET", 503)],
        vec![("POST", 503)],
        vec![("GET", 473)],
        vec![("GET", 429)],
        vec![("POST", 403)],
        vec![("GET", 301)],
    ] {
        let (kv, keys, validator, clock, key) = start();
        kv.kept.lock().unwrap().instead = instead.clone();
        pass(&keys, &clock, 1);
        assert!(keys.rotations(key).unwrap()[0].delivered_at.is_none(), "{instead:?}");
        pass(&keys, &clock, 1);
        let rotation = &keys.rotations(key).unwrap()[0];
        assert_eq!((rotation.delivered_at.is_some(), rotation.attempts), (true, 2), "{instead:?}");
        let current = kv.current(key);
        assert_eq!(current["version"], 2, "{instead:?}");
        assert!(validator.validate(current["token"].as_str().unwrap()).is_ok());
    }
}

#[test]
fn a_wrong_token_or_a_wrong_certificate_gets_nothing_across() {
    let kv = Kv::new();
    let stranger = Kv::new();
    let wrong =
        VaultSink::new(&kv.address(), "secret", "keyrota", TOKEN, Some(&stranger.authority.pem)).unwrap();
    for (what, sink, requests) in [("token", sink(&kv, "hvs.wrong"), true), ("certificate", wrong, false)] {
        let before = kv.receiver.received().len();
        let (keys, _, clock, key) = bed(sink);
        pass(&keys, &clock, 84);
        assert!(keys.rotations(key).unwrap()[0].delivered_at.is_none(), "{what}");
        assert_eq!(kv.receiver.received().len() > before, requests, "{what}");
        assert!(kv.writes(key).is_empty());
    }
}

#[test]
fn several_processes_at_once_write_each_version_once() {
    use keyrota::{Handover, SecretSink, SinkError};
    /// Puts the same thing four times at once, as processes do that do not know of each other.
    struct Four(Arc<VaultSink>);
    impl SecretSink for Four {
        fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
            std::thread::scope(|scope| {
                let puts: Vec<_> = (0..4).map(|_| scope.spawn(|| self.0.put(handover))).collect();
                puts.into_iter().try_for_each(|put| put.join().unwrap())
            })
        }
    }
    let kv = Kv::new();
    let (keys, _, clock, key) = bed(Four(Arc::new(sink(&kv, TOKEN))));
    pass(&keys, &clock, 84 + 83);
    let versions: Vec<_> =
        kv.writes(key).into_iter().map(|write| write.unwrap()["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [2, 3]);
}

#[test]
fn the_same_holds_on_a_real_server_where_one_is_named() {
    let name = |name: &str| std::env::var(format!("KEYROTA_TEST_VAULT_{name}"));
    let (Ok(address), Ok(token)) = (name("ADDR"), name("TOKEN")) else {
        eprintln!(
            "\n=== LEFT OUT: name a Vault or OpenBao by KEYROTA_TEST_VAULT_ADDR and KEYROTA_TEST_VAULT_TOKEN ===\n"
        );
        return;
    };
    let authorities = name("CACERT").ok().map(|path| std::fs::read_to_string(path).unwrap());
    let sink = VaultSink::new(&address, "secret", "keyrota-test", &token, authorities.as_deref()).unwrap();
    let (keys, _, clock, key) = bed(sink);
    pass(&keys, &clock, 84 + 83);
    let rotations = keys.rotations(key).unwrap();
    assert_eq!(rotations.len(), 2);
    assert!(rotations.iter().all(|rotation| rotation.delivered_at.is_some() && rotation.attempts == 1));
    assert_eq!(rotations[0].status, RotationStatus::Completed);
}

/// Reads and writes by the usual client of Python's, so that it is not only our own reading of the interface that the
/// server here was made after.
const CLIENT: &str = r#"
import json, sys, hvac
address, token, authority, path = sys.argv[1:5]
kv = hvac.Client(url=address, token=token, verify=authority).secrets.kv.v2
read = lambda: kv.read_secret_version(path=path, mount_point="secret", raise_on_deleted_version=True)["data"]
first = read()
refused = None
try:
    kv.create_or_update_secret(path=path, secret={"note": "late"}, cas=0, mount_point="secret")
except hvac.exceptions.InvalidRequest as error:
    refused = str(error)
written = kv.create_or_update_secret(path=path, secret={"note": "by hand"}, cas=first["metadata"]["version"], mount_point="secret")
print(json.dumps([first["data"], refused, written["data"]["version"], read()["data"]]))
"#;

#[test]
fn another_client_reads_what_the_sink_has_written_and_the_sink_what_that_writes() {
    use crate::support::python::Program;
    let (kv, keys, validator, clock, key) = start();
    pass(&keys, &clock, 2);
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, &kv.authority.pem).unwrap();
    let (address, path) = (kv.address(), format!("keyrota/{key}"));
    let arguments = [address.as_str(), TOKEN, authority.to_str().unwrap(), path.as_str()];
    let Some((_client, line)) = Program::start(CLIENT, &arguments) else { return };
    let (read, refused, number, written): (Value, String, u64, Value) = serde_json::from_str(&line).unwrap();
    assert_eq!(read["version"], 2);
    assert!(validator.validate(read["token"].as_str().unwrap()).is_ok());
    assert!(refused.contains("did not match the current version"), "{refused}");
    assert_eq!((number, written), (2, json!({"note": "by hand"})));
    pass(&keys, &clock, 83);
    assert_eq!((kv.writes(key).len(), &kv.current(key)["version"]), (3, &json!(3)));
}
