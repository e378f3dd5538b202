-- What every commit replaces: its number, the floor of the feed, and the library's own record.
CREATE TABLE head (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    revision   INTEGER NOT NULL,
    floor      INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;

-- One record each. The body is JSON for people to read; the MAC covers every column but `n`.
CREATE TABLE row (
    n          INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 255),
    id         TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    parent     TEXT,
    owner      TEXT,
    due_at     INTEGER CHECK (due_at BETWEEN 0 AND 253402300799999999),
    ends_at    INTEGER CHECK (ends_at BETWEEN 0 AND 253402300799999999),
    state      TEXT,
    uniq       TEXT,
    body       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;
CREATE UNIQUE INDEX row_by_id ON row (kind, id);
CREATE UNIQUE INDEX row_by_unique ON row (kind, uniq) WHERE uniq IS NOT NULL;
CREATE INDEX row_by_parent ON row (kind, parent, id) WHERE parent IS NOT NULL;
CREATE INDEX row_by_owner ON row (kind, owner, id) WHERE owner IS NOT NULL;
CREATE INDEX row_by_due ON row (kind, due_at, id) WHERE due_at IS NOT NULL;
-- The feed follows kinds 1 to 4: keys, versions, owners and roles.
CREATE INDEX row_by_revision ON row (revision) WHERE kind IN (1, 2, 3, 4);

-- The audit log, only ever appended to.
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    key        TEXT,
    version    INTEGER,
    owner      TEXT,
    body       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;
CREATE INDEX audit_by_key ON audit (key) WHERE key IS NOT NULL;
CREATE INDEX audit_by_owner ON audit (owner) WHERE owner IS NOT NULL;

-- Followed rows that a commit deleted.
CREATE TABLE gone (
    kind     INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_by_revision ON gone (revision);

-- Followed rows that somebody else changed. The next commit gives them its revision; until then every reading of
-- the feed tells them.
CREATE TABLE touched (
    n        INTEGER PRIMARY KEY,
    revision INTEGER,
    kind     INTEGER NOT NULL,
    id       TEXT    NOT NULL
) STRICT;
CREATE INDEX touched_by_revision ON touched (revision, kind, id);

-- The library's own connections switch triggers off, so what these see was done by somebody else. `REPLACE` fires no
-- trigger for the rows that give way to the new one, hence the first.
CREATE TRIGGER row_displaced BEFORE INSERT ON row
BEGIN
    INSERT INTO touched (kind, id)
    SELECT kind, id FROM row
    WHERE kind IN (1, 2, 3, 4) AND (n = NEW.n OR kind = NEW.kind AND uniq = NEW.uniq);
END;
CREATE TRIGGER row_inserted AFTER INSERT ON row
WHEN NEW.kind IN (1, 2, 3, 4)
    AND NOT EXISTS (SELECT 1 FROM touched WHERE revision IS NULL AND kind = NEW.kind AND id = NEW.id)
BEGIN
    INSERT INTO touched (kind, id) VALUES (NEW.kind, NEW.id);
END;
CREATE TRIGGER row_updated AFTER UPDATE ON row
WHEN NEW.kind IN (1, 2, 3, 4)
    AND NOT EXISTS (SELECT 1 FROM touched WHERE revision IS NULL AND kind = NEW.kind AND id = NEW.id)
BEGIN
    INSERT INTO touched (kind, id) VALUES (NEW.kind, NEW.id);
END;
CREATE TRIGGER row_renamed AFTER UPDATE OF kind, id ON row
WHEN OLD.kind IN (1, 2, 3, 4)
    AND (NEW.kind <> OLD.kind OR NEW.id <> OLD.id)
    AND NOT EXISTS (SELECT 1 FROM touched WHERE revision IS NULL AND kind = OLD.kind AND id = OLD.id)
BEGIN
    INSERT INTO touched (kind, id) VALUES (OLD.kind, OLD.id);
END;
CREATE TRIGGER row_deleted AFTER DELETE ON row
WHEN OLD.kind IN (1, 2, 3, 4)
    AND NOT EXISTS (SELECT 1 FROM touched WHERE revision IS NULL AND kind = OLD.kind AND id = OLD.id)
BEGIN
    INSERT INTO touched (kind, id) VALUES (OLD.kind, OLD.id);
END;

-- What validating processes counted, as they hand it over: packed, because a row for each key costs ten times as much.
-- A tick adds it to `usage` and deletes it.
CREATE TABLE usage_batch (
    n          INTEGER PRIMARY KEY,
    format     INTEGER NOT NULL,
    writer     TEXT    NOT NULL,
    flushed_at INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;

-- The sums of it, by the hour (unit 2, for two days), by the day (1, for 400 days), and of all that is older (0). Why
-- requests with the right secret were denied is a column for each reason.
CREATE TABLE usage (
    key         TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    unit        INTEGER NOT NULL CHECK (unit IN (0, 1, 2)),
    begins      INTEGER NOT NULL,
    allowed     INTEGER NOT NULL,
    revoked     INTEGER NOT NULL,
    suspended   INTEGER NOT NULL,
    expired     INTEGER NOT NULL,
    retired     INTEGER NOT NULL,
    cancelled   INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    not_yet     INTEGER NOT NULL,
    tampered    INTEGER NOT NULL,
    network     INTEGER NOT NULL,
    scope       INTEGER NOT NULL,
    rate_limit  INTEGER NOT NULL,
    quota       INTEGER NOT NULL,
    last_used   INTEGER,
    PRIMARY KEY (key, version, unit, begins)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_begin ON usage (unit, begins);

-- Up to when each validating process has handed over what it counted, and the number of its last batch.
CREATE TABLE writer (
    name       TEXT PRIMARY KEY,
    sequence   INTEGER NOT NULL,
    flushed_at INTEGER NOT NULL,
    ended      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
