//! Edits of rows, whose token each could be meant to help, and how it has to be named.

use keyrota::{CheckFinding, RowKind};

use crate::common::{owner, v};
use crate::tampered::Scene;

/// An edit, whose token it could be meant to help, and how it has to be named.
pub(crate) struct Edit {
    pub(crate) what: &'static str,
    pub(crate) sql: String,
    pub(crate) presented: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) named: Vec<CheckFinding>,
}

pub(crate) fn edited(kind: RowKind, id: impl Into<String>) -> CheckFinding {
    CheckFinding::EditedRow { kind, id: id.into() }
}

const LIVE: &str = "UPDATE row SET state = 'live' WHERE";

/// Edits of rows that are meant to make a token good for more than it is.
pub(crate) fn corpus(scene: &Scene) -> Vec<Edit> {
    let (key, version) = (|name| scene.key_row(name), |name| scene.version_row(name));
    let id = |name| scene.key(name).to_string();
    let of_key = |name| edited(RowKind::Key, id(name));
    let of_version = |name| edited(RowKind::Version, format!("{}/1", id(name)));
    let of_owner = |name: &str| edited(RowKind::Owner, name);
    let mut edits = Vec::new();
    let mut add =
        |what, presented, scope, named, sql| edits.push(Edit { what, sql, presented, scope, named });
    let mut deny = |what, presented, named, sql| add(what, presented, "orders:read", named, sql);

    let unrevoke_key =
        format!("UPDATE row SET body = json_remove(body, '$.revoked_at') WHERE {}", key("revoked"));
    let unrevoke = |name| {
        format!(
            "UPDATE row SET state = 'active', body = json_set(json_remove(body, '$.ended_at', '$.end_reason'), \
             '$.stage', 'active') WHERE {}",
            version(name)
        )
    };
    deny("a key is un-revoked", "revoked", vec![of_key("revoked")], unrevoke_key.clone());
    deny("its state says live", "revoked", vec![of_key("revoked")], format!("{LIVE} {}", key("revoked")));
    deny("its version is un-revoked", "revoked", vec![of_version("revoked")], unrevoke("revoked"));
    deny(
        "a key is un-revoked in every place",
        "revoked",
        vec![of_key("revoked"), of_version("revoked")],
        format!("{unrevoke_key}; {LIVE} {}; {}", key("revoked"), unrevoke("revoked")),
    );
    deny("a version is un-revoked", "cut", vec![of_version("cut")], unrevoke("cut"));
    deny(
        "an owner is un-suspended",
        "suspended",
        vec![of_owner("bob")],
        "UPDATE row SET state = 'enabled', body = json_set(body, '$.suspended', json('false')) \
         WHERE kind = 3 AND id = 'bob'"
            .to_owned(),
    );
    deny(
        "an expiry is later",
        "expired",
        vec![of_key("expired"), of_version("expired")],
        format!(
            "UPDATE row SET ends_at = NULL, body = json_remove(body, '$.hard_end') WHERE {}; {}; \
             UPDATE row SET ends_at = NULL, body = json_remove(body, '$.expires_at') WHERE {}",
            key("expired"),
            unrevoke("expired"),
            version("expired")
        ),
    );
    deny(
        "a key is given to an owner who is not suspended",
        "suspended",
        vec![of_key("suspended")],
        format!(
            "UPDATE row SET owner = 'eve', body = json_set(body, '$.owner', 'eve') WHERE {}",
            key("suspended")
        ),
    );
    deny(
        "another version's digest",
        "live",
        vec![of_version("live")],
        format!(
            "UPDATE row SET body = json_set(body, '$.digest', (SELECT json_extract(body, '$.digest') FROM row \
             WHERE {})) WHERE {}",
            version("donor"),
            version("live")
        ),
    );
    for (what, name, finding, row, source) in [
        ("another version's whole row", "cut", of_version("cut"), version("cut"), version("donor")),
        ("another key's whole row", "revoked", of_key("revoked"), key("revoked"), key("donor")),
        (
            "another owner's whole row",
            "suspended",
            of_owner("bob"),
            "kind = 3 AND id = 'bob'".into(),
            "kind = 3 AND id = 'eve'".into(),
        ),
    ] {
        let sql = format!(
            "UPDATE row SET (revision, due_at, ends_at, state, body, mac) = (SELECT revision, due_at, ends_at, \
             state, body, mac FROM row WHERE {source}) WHERE {row}"
        );
        deny(what, name, vec![finding], sql);
    }
    for (row, finding) in [
        (key("live"), of_key("live")),
        (version("live"), of_version("live")),
        ("kind = 3 AND id = 'ada'".into(), of_owner("ada")),
    ] {
        for (what, change) in [
            ("a lower revision", "revision = revision - 1"),
            ("a higher revision", "revision = revision + 1"),
            ("a revision far ahead", "revision = 1000000"),
            ("a MAC of zeros", "mac = zeroblob(32)"),
            ("a body that is not JSON", "body = 'x'"),
            ("a body with a blank", "body = body || ' '"),
            ("another due date", "due_at = 1"),
            ("another end", "ends_at = 253402300799999999"),
            ("another state", "state = 'x'"),
            ("no state", "state = NULL"),
            ("another owner column", "owner = 'eve'"),
            ("another parent", "parent = 'x'"),
            ("another unique field", "uniq = 'AAAAAAAAAAAA'"),
        ] {
            deny(what, "live", vec![finding.clone()], format!("UPDATE row SET {change} WHERE {row}"));
        }
    }
    let gone = CheckFinding::MissingVersion { key: scene.key("live"), version: v(1) };
    let delete = |row| format!("DELETE FROM row WHERE {row}");
    deny("a version's row is deleted", "live", vec![gone.clone()], delete(version("live")));
    let orphan = CheckFinding::MissingKey { key: scene.key("live"), version: v(1) };
    deny("a key's row is deleted", "live", vec![orphan.clone()], delete(key("live")));
    let orphan = CheckFinding::MissingKey { key: scene.key("revoked"), version: v(1) };
    deny("a revoked key's row is deleted", "revoked", vec![orphan], delete(key("revoked")));
    let gone = CheckFinding::MissingVersion { key: scene.key("revoked"), version: v(1) };
    let both = format!("{}; {}", delete(key("revoked")), delete(version("revoked")));
    deny("a revoked key is deleted as a whole", "revoked", vec![gone.clone()], both);
    deny(
        "a deleted version's row comes back without its revocation",
        "revoked",
        vec![of_version("revoked")],
        format!(
            "CREATE TEMP TABLE old AS SELECT * FROM row WHERE {0}; DELETE FROM row WHERE {0}; \
             INSERT INTO row SELECT NULL, kind, id, revision, parent, owner, due_at, NULL, 'active', uniq, \
             json_set(json_remove(body, '$.ended_at', '$.end_reason'), '$.stage', 'active'), generation, mac FROM old",
            version("revoked")
        ),
    );
    let missing = |name, of| CheckFinding::MissingOwner { key: scene.key(name), owner: owner(of) };
    deny(
        "an owner's row is deleted",
        "live",
        vec![missing("live", "ada")],
        delete("kind = 3 AND id = 'ada'".into()),
    );
    deny(
        "a suspended owner's row is deleted",
        "suspended",
        vec![missing("suspended", "bob")],
        delete("kind = 3 AND id = 'bob'".into()),
    );
    deny(
        "another owner's row is copied over a suspended one",
        "suspended",
        vec![of_owner("bob")],
        "DELETE FROM row WHERE kind = 3 AND id = 'bob'; INSERT INTO row SELECT NULL, kind, 'bob', revision, \
         parent, owner, due_at, ends_at, state, uniq, body, generation, mac FROM row WHERE kind = 3 AND id = 'eve'"
            .to_owned(),
    );
    deny(
        "a good version's row is copied into a key without one",
        "cut",
        vec![edited(RowKind::Version, format!("{}/2", id("cut")))],
        format!(
            "INSERT INTO row SELECT NULL, kind, '{0}/2', revision, '{0}', owner, due_at, ends_at, state, NULL, body, \
             generation, mac FROM row WHERE {1}",
            id("cut"),
            version("donor")
        ),
    );
    deny(
        "a version's row is moved to another key",
        "revoked",
        vec![
            edited(RowKind::Version, format!("{}/7", id("donor"))),
            CheckFinding::MissingVersion { key: scene.key("revoked"), version: v(1) },
        ],
        format!("UPDATE row SET id = '{0}/7', parent = '{0}' WHERE {1}", id("donor"), version("revoked")),
    );
    let wider =
        format!("UPDATE row SET body = json_set(body, '$.scopes', json('[\"*\"]')) WHERE {}", key("live"));
    add("wider scopes", "live", "orders:write", vec![of_key("live")], wider);
    add(
        "a wider role",
        "live",
        "reports:write",
        vec![edited(RowKind::Role, "reader")],
        "UPDATE row SET body = json_set(body, '$.scopes', json('[\"*\"]')) WHERE kind = 4 AND id = 'reader'"
            .to_owned(),
    );
    add(
        "a role that is wider than the key under the name of the key's role",
        "live",
        "reports:write",
        vec![edited(RowKind::Role, "reader")],
        "INSERT OR REPLACE INTO row SELECT n, kind, id, revision, parent, owner, due_at, ends_at, state, uniq, \
         json_set(body, '$.scopes', json('[\"reports:*\"]')), generation, mac FROM row WHERE kind = 4"
            .to_owned(),
    );
    edits
}
