-- Keys are columns of their own and sort by bytes (BINARY is SQLite's default collation). Revisions, times in
-- microseconds since 1970 UTC, and sizes in bytes are integers.

CREATE TABLE clusters (
    -- AUTOINCREMENT: an id is never used again, so what is left of a cluster that is being dropped belongs to nobody.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    UNIQUE, -- NULL: dropped, and its rows are still being deleted
    revision    INTEGER NOT NULL, -- of the newest change on disk
    epoch       INTEGER NOT NULL,
    epoch_start INTEGER NOT NULL, -- first revision of the epoch; nothing older can be resumed from
    floor       INTEGER NOT NULL, -- compacted through here
    reserved    INTEGER NOT NULL, -- no revision above this or "revision" was ever shown; above "revision" unless closed cleanly
    logged      INTEGER NOT NULL, -- bytes of all changes ever made
    created     INTEGER NOT NULL
) STRICT;

-- The present. A rowid table, because rows are long: WITHOUT ROWID would push them into overflow pages.
CREATE TABLE objects (
    cluster   INTEGER NOT NULL,
    resource  TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    data      BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX objects_key ON objects (cluster, resource, namespace, name);

-- The past. Both states are kept in the row, so that dropping old rows never takes away what newer ones need.
CREATE TABLE changes (
    cluster       INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    resource      TEXT    NOT NULL,
    namespace     TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    verb          INTEGER NOT NULL, -- 1 create, 2 update, 3 delete
    at            INTEGER NOT NULL,
    prev_revision INTEGER NOT NULL, -- 0 for a create
    logged        INTEGER NOT NULL, -- clusters.logged just before this change
    prev          BLOB,
    data          BLOB
) STRICT;

-- The key is in the index so that "what changed after r" is answered from it, without reading the states. It grows
-- at its end only; an index led by the key would cost every write one more page.
CREATE UNIQUE INDEX changes_revision ON changes (cluster, revision, resource, namespace, name);

-- For people with an SQL prompt. Data that is not plain JSON (encrypted at rest) shows as NULL.
CREATE VIEW kubernetes_objects AS
WITH plain AS (
    SELECT c.name AS cluster, o.resource AS resource, o.namespace, o.name, o.revision,
           CASE WHEN json_valid(CAST(o.data AS TEXT)) THEN CAST(o.data AS TEXT) END AS json
    FROM objects o JOIN clusters c ON c.id = o.cluster
    WHERE c.name IS NOT NULL
)
SELECT cluster,
       CASE WHEN instr(resource, '.') > 0 THEN substr(resource, instr(resource, '.') + 1) ELSE '' END AS "group",
       CASE WHEN instr(resource, '.') > 0 THEN substr(resource, 1, instr(resource, '.') - 1) ELSE resource END AS resource,
       json_extract(json, '$.kind') AS kind,
       namespace, name,
       json_extract(json, '$.metadata.labels') AS labels,
       revision,
       json_set(json, '$.metadata.resourceVersion', CAST(revision AS TEXT)) AS object
FROM plain;

CREATE VIEW kubernetes_changes AS
WITH plain AS (
    SELECT c.name AS cluster, h.resource AS resource, h.namespace, h.name, h.revision, h.verb, h.at, h.prev_revision,
           CASE WHEN json_valid(CAST(h.data AS TEXT)) THEN CAST(h.data AS TEXT) END AS json,
           CASE WHEN json_valid(CAST(h.prev AS TEXT)) THEN CAST(h.prev AS TEXT) END AS prev_json
    FROM changes h JOIN clusters c ON c.id = h.cluster
    WHERE c.name IS NOT NULL AND h.revision > max(c.floor, c.epoch_start - 1)
)
SELECT cluster, revision,
       strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time,
       CASE verb WHEN 1 THEN 'create' WHEN 2 THEN 'update' WHEN 3 THEN 'delete' END AS verb,
       CASE WHEN instr(resource, '.') > 0 THEN substr(resource, instr(resource, '.') + 1) ELSE '' END AS "group",
       CASE WHEN instr(resource, '.') > 0 THEN substr(resource, 1, instr(resource, '.') - 1) ELSE resource END AS resource,
       json_extract(coalesce(json, prev_json), '$.kind') AS kind,
       namespace, name,
       json_set(json, '$.metadata.resourceVersion', CAST(revision AS TEXT)) AS object,
       prev_revision,
       json_set(prev_json, '$.metadata.resourceVersion', CAST(prev_revision AS TEXT)) AS previous
FROM plain;
