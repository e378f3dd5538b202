//! The views, as people with a SQL shell see them.

use rusqlite::types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::Fixture;
use crate::event::Event;
use crate::id::{KeyId, NotificationId, RotationId};
use crate::key::KeyRecord;
use crate::outbox::OutboxEntry;
use crate::rotation::RotationRecord;
use crate::store::{Draft, KeyStore, RowIndex, RowKind, UsageBatch, UsageEntry};
use crate::time::Timestamp;
use crate::version::VersionRecord;

const VIEWS: [&str; 6] = ["v_keys", "v_versions", "v_rotations", "v_audit", "v_outbox", "v_usage"];
const DIGEST: &str = "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1";
/// 2027-01-01T00:00:00Z.
const TIME: i64 = 1_798_761_600_000_000;

/// The record that this JSON is, after making sure that it knows all of its fields.
fn record<T: Serialize + DeserializeOwned>(json: &Json) -> T {
    let record = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), *json);
    record
}

/// A store with one record of each sort, in which no field is absent.
fn full() -> Fixture {
    let fixture = Fixture::new();
    let key = KeyId::new(Timestamp::MIN, [1; 10]).to_string();
    let rotation = RotationId::new(Timestamp::MIN, [1; 10]).to_string();
    let index = RowIndex {
        parent: Some(key.clone()),
        owner: Some("ada".to_owned()),
        due_at: Some(Timestamp::from_unix_micros(TIME).unwrap()),
        ends_at: Some(Timestamp::from_unix_micros(TIME).unwrap()),
        state: Some("live".to_owned()),
        unique: None,
    };
    let insert = |kind, id: &str, json: &Json| {
        let draft =
            Draft { kind, id: id.to_owned(), index: index.clone(), body: json.to_string().into_bytes() };
        fixture.commit(|changeset| changeset.insert(draft)).unwrap();
    };

    let json = json!({
        "id": key, "owner": "ada", "name": "ci", "prefix": "acme", "scopes": ["orders:read"], "role": "reader",
        "metadata": {"team": 1}, "issued_at": TIME, "never_expires": true, "hard_end": TIME, "revoked_at": TIME,
        "open_rotation": rotation, "rotates": true, "lapsed": true,
        "limits": {"rates": [{"uses": 60, "span_us": 60_000_000}], "quota": {"uses": 9, "refill": "daily"}},
        "networks": ["192.0.2.0/24"],
    });
    record::<KeyRecord>(&json);
    insert(RowKind::Key, &key, &json);

    let json = json!({
        "key": key, "number": 3, "locator": "AbCdEfGhIjKl",
        "digest": {"scheme": "hmac_sha256", "generation": 1, "value": DIGEST},
        "fingerprint": "fp_0123456789abcdef", "stage": "ended", "issued_at": TIME, "not_before": TIME,
        "expires_at": TIME, "offered_at": TIME, "claimed_by": 2, "first_used_at": TIME, "delivered_at": TIME,
        "activated_at": TIME, "deprecated_at": TIME, "grace_end": TIME, "compromised": true, "ended_at": TIME, "end_reason": "revoked",
    });
    record::<VersionRecord>(&json);
    insert(RowKind::Version, &format!("{key}/3"), &json);

    let json = json!({
        "id": rotation, "key": key, "old": 2, "new": 3, "leaving": 1, "status": "failed",
        "delivery": {"sealed": {"claimant": "holder"}}, "actor": {"kind": "operator", "name": "root"},
        "reason": "leaked", "due_at": TIME, "started_at": TIME, "claim_by": TIME, "delivered_at": TIME,
        "grace_end": TIME, "lagging_at": TIME, "finished_at": TIME, "failure": "unclaimed", "attempts": 3,
        "next_put_at": TIME, "lease": {"taken_at": TIME, "until": TIME},
    });
    record::<RotationRecord>(&json);
    insert(RowKind::Rotation, &rotation, &json);

    let json = json!({
        "rank": "0000000000000001", "channel": "ops", "state": "dead", "created_at": TIME, "due_at": TIME,
        "attempts": 3, "first_tried_at": TIME, "tried_at": TIME, "lease": {"taken_at": TIME, "until": TIME},
        "done_at": TIME, "error": "HTTP 410",
        "notification": {
            "format": 1, "id": NotificationId::new(Timestamp::MIN, [1; 10]), "kind": "revoked", "severity": "warning",
            "at": "2027-01-01T00:00:00Z", "key": key, "version": 3, "owner": "ada",
        },
    });
    record::<OutboxEntry>(&json);
    insert(RowKind::Outbox, "n1", &json);

    let event: Event = record(&json!({
        "at": TIME, "kind": "key_rotation", "actor": {"kind": "operator", "name": "root"}, "reason": "leaked",
        "request": "req-1", "key": key, "owner": "ada", "version": 3, "rotation": rotation,
        "old_fingerprint": "fp_0123456789abcdef", "new_fingerprint": "fp_0123456789abcdef",
        "end_reason": "retired", "until": TIME, "claimant": "holder", "source": "192.0.2.7",
        "subject": "reader",
    }));
    fixture.commit(|changeset| changeset.record(event)).unwrap();

    let mut entry = UsageEntry::new(key, 3);
    entry.counts.last_used = Some(Timestamp::from_unix_micros(TIME).unwrap());
    let now = Timestamp::from_unix_micros(TIME).unwrap();
    let batch = UsageBatch {
        writer: "w".to_owned(),
        sequence: 1,
        flushed_at: now,
        ended: false,
        entries: vec![entry],
    };
    fixture.store.add_usage(&batch).unwrap();
    fixture.store.roll_up_usage(now, 10).unwrap();
    fixture
}

#[test]
fn every_column_of_every_view_finds_its_field_where_the_schema_is_not_trusted() {
    let fixture = full();
    let shell = fixture.shell();
    shell.pragma_update(None, "trusted_schema", false).unwrap();
    for view in VIEWS {
        let mut statement = shell.prepare(&format!("SELECT * FROM {view}")).unwrap();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).unwrap();
        let row = rows.next().unwrap().unwrap();
        for (at, column) in columns.iter().enumerate() {
            let value: Value = row.get(at).unwrap();
            assert_ne!(value, Value::Null, "{view}.{column}");
            let times = ["at", "until", "hard_end", "grace_end", "claim_by", "not_before", "last_used"];
            let is_time = column.ends_with("_at") || times.contains(&&**column);
            let shown = format!("{value:?}");
            assert_eq!(shown.contains("2027-01-01T00:00:00Z"), is_time, "{view}.{column}");
            assert!(!shown.contains(DIGEST) && !["digest", "mac"].contains(&&**column), "{view}.{column}");
        }
        assert!(rows.next().unwrap().is_none(), "{view} has one row");
    }
}

#[test]
fn a_spoilt_body_spoils_no_other_row_of_a_view() {
    let fixture = full();
    let shell = fixture.shell();
    shell
        .execute_batch(
            "UPDATE row SET body = '{';
             UPDATE audit SET body = 'x';
             INSERT INTO row (kind, id, revision, body, generation, mac)
             SELECT kind, 'sound', revision, '{}', generation, mac FROM row",
        )
        .unwrap();
    for view in VIEWS {
        let mut statement = shell.prepare(&format!("SELECT * FROM {view}")).unwrap();
        let rows = statement.raw_query().mapped(|_| Ok(())).collect::<Result<Vec<()>, _>>();
        assert!(!rows.unwrap().is_empty(), "{view}");
    }
}
