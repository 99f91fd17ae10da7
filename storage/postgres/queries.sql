-- Statements of package postgres, loaded into the struct statements by name. All of them are single statements that
-- are transactions of their own, so that they work through a pooler that hands out connections per transaction.

-- name: SchemaTable
SELECT to_regclass('schema_version') IS NOT NULL, to_regclass('clusters') IS NOT NULL OR to_regclass('objects') IS NOT NULL
    OR to_regclass('changes') IS NOT NULL

-- name: SchemaVersion
SELECT coalesce(max(version), 0)::int FROM schema_version

-- name: Ready
SELECT coalesce(max(version), 0)::int, pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
    current_setting('transaction_isolation'), current_setting('server_encoding') FROM schema_version

-- name: Clusters
SELECT name, created FROM clusters WHERE dropped IS NULL ORDER BY name

-- name: CreateCluster
SELECT rowlock_create_cluster($1)

-- name: OpenCluster
SELECT id, revision FROM clusters WHERE name = $1 AND dropped IS NULL

-- name: DropCluster
UPDATE clusters SET name = NULL, dropped = now() WHERE name = $1 AND dropped IS NULL

-- name: Commit
SELECT status, before, head, epoch, at, present FROM rowlock_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: GiveUp
SELECT status, epoch, epoch_start, at, revisions, resources, namespaces, names FROM rowlock_give_up($1, $2, $3, $4)

-- What readers need to know of the cluster comes with the rows, so that both are of one snapshot. "current" is false
-- when the server restarted since the newest commit: then a new epoch has to begin before anything is answered.

-- The head is asked for most often, so rowlock_instance() is written out: a call costs more than the rest.

-- name: Head
SELECT revision, epoch, instance = rowlock_started() || '/' || coalesce((SELECT l.token FROM lifetime l), '') AS current
FROM clusters WHERE id = $1 AND dropped IS NULL

-- name: Renew
SELECT revision, epoch FROM rowlock_lock($1)

-- name: Floor
SELECT greatest(floor, epoch_start) AS floor, instance = rowlock_instance() AS current
FROM clusters WHERE id = $1 AND dropped IS NULL

-- name: Get
SELECT o.revision, o.data
FROM clusters c
LEFT JOIN objects o ON o.cluster = c.id AND o.resource = $2 AND o.namespace = $3 AND o.name = $4
WHERE c.id = $1 AND c.dropped IS NULL

-- An object at revision r is what the first change after r found; without one it is what is there now.

-- name: GetAt
SELECT c.revision AS head, c.epoch, greatest(c.floor, c.epoch_start) AS floor, c.instance = rowlock_instance() AS current,
    coalesce(h.prev_revision, o.revision, 0) AS revision, CASE WHEN h.prev_revision IS NULL THEN o.data ELSE h.prev END AS data
FROM clusters c
LEFT JOIN LATERAL (
    SELECT h.prev_revision, h.prev FROM changes h
    WHERE h.cluster = $1 AND h.revision > $5 AND h.resource = $2 AND h.namespace = $3 AND h.name = $4
    ORDER BY h.revision LIMIT 1
) h ON true
LEFT JOIN objects o ON o.cluster = c.id AND o.resource = $2 AND o.namespace = $3 AND o.name = $4
WHERE c.id = $1 AND c.dropped IS NULL

-- name: List
SELECT c.revision AS head, c.epoch, greatest(c.floor, c.epoch_start) AS floor, c.instance = rowlock_instance() AS current,
    o.resource, o.namespace, o.name, o.revision, o.data
FROM clusters c
LEFT JOIN LATERAL (
    SELECT o.resource, o.namespace, o.name, o.revision, o.data FROM objects o
    WHERE o.cluster = $1
        AND (o.resource, o.namespace, o.name) > ($2::text, $3::text, $4::text)
        AND (o.resource, o.namespace) <= ($5::text, $6::text)
        AND ($7::text = '' OR o.namespace = $7::text)
        AND ($8::text = '' OR o.name = $8::text)
    ORDER BY o.resource, o.namespace, o.name LIMIT $9
) o ON true
WHERE c.id = $1 AND c.dropped IS NULL

-- A collection at revision r: what has not changed since, and for the rest what its first change after r found.

-- name: ListAt
WITH first AS MATERIALIZED (
    SELECT h.resource, h.namespace, h.name, min(h.revision) AS revision FROM changes h
    WHERE h.cluster = $1 AND h.revision > $10
        AND (h.resource, h.namespace, h.name) > ($2::text, $3::text, $4::text)
        AND (h.resource, h.namespace) <= ($5::text, $6::text)
        AND ($7::text = '' OR h.namespace = $7::text)
        AND ($8::text = '' OR h.name = $8::text)
    GROUP BY h.resource, h.namespace, h.name
)
SELECT c.revision AS head, c.epoch, greatest(c.floor, c.epoch_start) AS floor, c.instance = rowlock_instance() AS current,
    o.resource, o.namespace, o.name, o.revision, o.data
FROM clusters c
LEFT JOIN LATERAL (
    SELECT * FROM (
        (SELECT o.resource, o.namespace, o.name, o.revision, o.data FROM objects o
        WHERE o.cluster = $1 AND o.revision <= $10
            AND (o.resource, o.namespace, o.name) > ($2::text, $3::text, $4::text)
            AND (o.resource, o.namespace) <= ($5::text, $6::text)
            AND ($7::text = '' OR o.namespace = $7::text)
            AND ($8::text = '' OR o.name = $8::text)
        ORDER BY o.resource, o.namespace, o.name LIMIT $9)
        UNION ALL
        (SELECT h.resource, h.namespace, h.name, h.prev_revision, h.prev
        FROM first JOIN changes h ON h.cluster = $1 AND h.revision = first.revision
        WHERE h.prev_revision > 0
        ORDER BY h.resource, h.namespace, h.name LIMIT $9)
    ) o
    ORDER BY o.resource, o.namespace, o.name LIMIT $9
) o ON true
WHERE c.id = $1 AND c.dropped IS NULL

-- $4 spares looking into the partitions that a reader is past. $5 bounds the bytes of an answer; its first row comes
-- whatever its size.

-- name: Changes
SELECT c.revision AS head, c.epoch, greatest(c.floor, c.epoch_start) AS floor, c.instance = rowlock_instance() AS current,
    c.segment, h.revision, h.verb, h.resource, h.namespace, h.name, h.data, h.prev, h.prev_revision, h.at
FROM clusters c
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT h.revision, h.verb, h.resource, h.namespace, h.name, h.data, h.prev, h.prev_revision, h.at,
            h.volume - first_value(h.volume) OVER (ORDER BY h.revision) AS ahead
        FROM changes h
        WHERE h.cluster = $1 AND h.revision > $2 AND h.segment >= $4
        ORDER BY h.revision LIMIT $3
    ) h
    WHERE h.ahead < $5
) h ON true
WHERE c.id = $1 AND c.dropped IS NULL

-- name: Horizon
SELECT rowlock_horizon($1, make_interval(secs => $2::float8), $3)

-- name: Compact
UPDATE clusters SET floor = greatest(floor, least($2, revision)) WHERE id = $1 AND dropped IS NULL RETURNING revision

-- name: Tidy
SELECT rowlock_tidy($1, $2)

-- name: Roll
SELECT rowlock_roll(make_interval(secs => $1::float8), $2)

-- One query a second for the whole process: which of its clusters moved, and (as cluster 0) whether a new segment of
-- the log is due.

-- name: Poll
SELECT c.id, c.revision FROM unnest($1::bigint[], $2::bigint[]) AS seen (id, revision)
JOIN clusters c ON c.id = seen.id WHERE c.revision <> seen.revision
UNION ALL
SELECT 0, 0 WHERE rowlock_roll_due(make_interval(secs => $3::float8), $4)

-- A notification needs no disk: losing it is allowed.

-- name: Notify
SELECT set_config('synchronous_commit', 'off', true), pg_notify('rowlock', $1)
