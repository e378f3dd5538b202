-- For people with a SQL shell. Times are UTC; no view shows a digest or a MAC.
CREATE VIEW v_keys AS
SELECT
    id AS key,
    json_extract(json, '$.name') AS name,
    owner,
    state,
    json_extract(json, '$.prefix') AS prefix,
    json_extract(json, '$.scopes') AS scopes,
    json_extract(json, '$.role') AS role,
    json_extract(json, '$.limits') AS limits,
    json_extract(json, '$.networks') AS networks,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.issued_at') / 1000000, 'unixepoch') AS issued_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.hard_end') / 1000000, 'unixepoch') AS hard_end,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.revoked_at') / 1000000, 'unixepoch') AS revoked_at,
    coalesce(json_extract(json, '$.rotates'), 0) AS rotates,
    coalesce(json_extract(json, '$.lapsed'), 0) AS lapsed,
    json_extract(json, '$.open_rotation') AS open_rotation,
    json_extract(json, '$.metadata') AS metadata,
    strftime('%Y-%m-%dT%H:%M:%SZ', ends_at / 1000000, 'unixepoch') AS ends_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', due_at / 1000000, 'unixepoch') AS due_at,
    revision
FROM (SELECT *, CASE WHEN json_valid(body) THEN body END AS json FROM row WHERE kind = 1);

CREATE VIEW v_versions AS
SELECT
    parent AS key,
    json_extract(json, '$.number') AS version,
    json_extract(json, '$.locator') AS locator,
    json_extract(json, '$.fingerprint') AS fingerprint,
    json_extract(json, '$.stage') AS stage,
    json_extract(json, '$.end_reason') AS end_reason,
    coalesce(json_extract(json, '$.compromised'), 0) AS compromised,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.issued_at') / 1000000, 'unixepoch') AS issued_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.not_before') / 1000000, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.expires_at') / 1000000, 'unixepoch') AS expires_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.offered_at') / 1000000, 'unixepoch') AS offered_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.delivered_at') / 1000000, 'unixepoch') AS delivered_at,
    json_extract(json, '$.claimed_by') AS claimed_by,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.activated_at') / 1000000, 'unixepoch') AS activated_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.first_used_at') / 1000000, 'unixepoch') AS first_used_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.deprecated_at') / 1000000, 'unixepoch') AS deprecated_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.grace_end') / 1000000, 'unixepoch') AS grace_end,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.ended_at') / 1000000, 'unixepoch') AS ended_at,
    revision
FROM (SELECT *, CASE WHEN json_valid(body) THEN body END AS json FROM row WHERE kind = 2);

CREATE VIEW v_rotations AS
SELECT
    id AS rotation,
    parent AS key,
    json_extract(json, '$.status') AS status,
    json_extract(json, '$.old') AS old_version,
    json_extract(json, '$.new') AS new_version,
    json_extract(json, '$.leaving') AS leaving_version,
    json_extract(json, '$.failure') AS failure,
    json_extract(json, '$.delivery') AS delivery,
    coalesce(json_extract(json, '$.attempts'), 0) AS attempts,
    json_extract(json, '$.actor.name') AS actor,
    json_extract(json, '$.reason') AS reason,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.due_at') / 1000000, 'unixepoch') AS due_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.started_at') / 1000000, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.claim_by') / 1000000, 'unixepoch') AS claim_by,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.next_put_at') / 1000000, 'unixepoch') AS next_put_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.delivered_at') / 1000000, 'unixepoch') AS delivered_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.grace_end') / 1000000, 'unixepoch') AS grace_end,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.finished_at') / 1000000, 'unixepoch') AS finished_at,
    revision
FROM (SELECT *, CASE WHEN json_valid(body) THEN body END AS json FROM row WHERE kind = 6);

CREATE VIEW v_audit AS
SELECT
    seq,
    strftime('%Y-%m-%dT%H:%M:%SZ', at / 1000000, 'unixepoch') AS at,
    kind,
    actor,
    json_extract(json, '$.reason') AS reason,
    json_extract(json, '$.request') AS request,
    key,
    version,
    owner,
    json_extract(json, '$.rotation') AS rotation,
    json_extract(json, '$.old_fingerprint') AS old_fingerprint,
    json_extract(json, '$.new_fingerprint') AS new_fingerprint,
    json_extract(json, '$.end_reason') AS end_reason,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.until') / 1000000, 'unixepoch') AS until,
    json_extract(json, '$.claimant') AS claimant,
    json_extract(json, '$.source') AS source,
    json_extract(json, '$.subject') AS subject
FROM (SELECT *, CASE WHEN json_valid(body) THEN body END AS json FROM audit);

CREATE VIEW v_outbox AS
SELECT
    json_extract(json, '$.notification.id') AS notification,
    json_extract(json, '$.channel') AS channel,
    json_extract(json, '$.notification.kind') AS kind,
    json_extract(json, '$.notification.severity') AS severity,
    json_extract(json, '$.notification.key') AS key,
    json_extract(json, '$.notification.version') AS version,
    json_extract(json, '$.notification.owner') AS owner,
    state,
    json_extract(json, '$.attempts') AS attempts,
    json_extract(json, '$.error') AS error,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.created_at') / 1000000, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.tried_at') / 1000000, 'unixepoch') AS tried_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(json, '$.done_at') / 1000000, 'unixepoch') AS done_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', due_at / 1000000, 'unixepoch') AS due_at,
    revision
FROM (SELECT *, CASE WHEN json_valid(body) THEN body END AS json FROM row WHERE kind = 9)
-- What the library counts there for itself is not told.
WHERE coalesce(state, '') NOT IN ('asked', 'breaker', 'tally');

-- As of the last tick: what was counted since is not in it.
CREATE VIEW v_usage AS
SELECT
    key,
    version,
    CASE unit WHEN 0 THEN 'total' WHEN 1 THEN 'day' ELSE 'hour' END AS unit,
    strftime('%Y-%m-%dT%H:%M:%SZ', begins / 1000000, 'unixepoch') AS begins_at,
    allowed,
    revoked + suspended + expired + retired + cancelled + undelivered + not_yet + tampered + network + scope + rate_limit + quota AS denied,
    revoked,
    suspended,
    expired,
    retired,
    cancelled,
    undelivered,
    not_yet,
    tampered,
    network,
    scope,
    rate_limit,
    quota,
    strftime('%Y-%m-%dT%H:%M:%SZ', last_used / 1000000, 'unixepoch') AS last_used
FROM usage;
