-- One statement for each name; the loader refuses a name that is missing here or unused there.

-- name: Begin
BEGIN

-- name: BeginWrite
-- IMMEDIATE takes the write lock at once; a deferred transaction could fail half-way when it wants to write.
BEGIN IMMEDIATE

-- name: Commit
COMMIT

-- name: Rollback
ROLLBACK

-- name: Clusters
SELECT name, created FROM clusters WHERE name IS NOT NULL ORDER BY name

-- name: FindCluster
SELECT id, revision, epoch, epoch_start, floor, reserved, logged FROM clusters WHERE name = ?1

-- name: CreateCluster
INSERT INTO clusters (name, revision, epoch, epoch_start, floor, reserved, logged, created)
VALUES (?1, 1, 1, 1, 1, 1, 0, ?2)

-- name: MarkDropped
UPDATE clusters SET name = NULL WHERE id = ?1

-- name: Dropped
SELECT id FROM clusters WHERE name IS NULL

-- name: DropObjects
DELETE FROM objects WHERE rowid IN (SELECT rowid FROM objects WHERE cluster = ?1 LIMIT ?2)

-- name: ForgetCluster
DELETE FROM clusters WHERE id = ?1 AND name IS NULL

-- name: Lost
-- Clusters that were not closed cleanly: revisions up to "reserved" may have been shown without reaching the disk.
SELECT name FROM clusters WHERE name IS NOT NULL AND reserved > revision

-- name: Recover
UPDATE clusters
SET epoch = epoch + 1, epoch_start = reserved + 1, revision = reserved + 1, reserved = reserved + 1
WHERE name IS NOT NULL AND reserved > revision

-- name: Position
SELECT revision, epoch, max(floor, epoch_start), logged FROM clusters WHERE id = ?1

-- name: Advance
UPDATE clusters SET revision = ?2, reserved = ?3, logged = ?4 WHERE id = ?1

-- name: Reserve
UPDATE clusters SET reserved = ?2 WHERE id = ?1

-- name: RaiseFloor
UPDATE clusters SET floor = ?2 WHERE id = ?1 AND floor < ?2

-- name: FindObject
-- The length of a blob is in the row's header: long data is not read.
SELECT revision, length(data) FROM objects WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4

-- name: GetObject
SELECT revision, data FROM objects WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4

-- name: InsertObject
INSERT INTO objects (cluster, resource, namespace, name, revision, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)

-- name: UpdateObject
UPDATE objects SET revision = ?5, data = ?6 WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4

-- name: UpsertObject
INSERT INTO objects (cluster, resource, namespace, name, revision, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (cluster, resource, namespace, name) DO UPDATE SET revision = excluded.revision, data = excluded.data

-- name: DeleteObject
DELETE FROM objects WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4

-- name: InsertChange
INSERT INTO changes (cluster, resource, namespace, name, revision, data, verb, at, logged, prev_revision, prev)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)

-- name: InsertChangeOver
-- The state before is copied from the object inside the database. It runs before the object is changed.
INSERT INTO changes (cluster, resource, namespace, name, revision, data, verb, at, logged, prev_revision, prev)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, revision, data
FROM objects WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4

-- name: ListAll
SELECT resource, namespace, name, revision, data FROM objects
WHERE cluster = ?1 AND (resource, namespace, name) > (?2, ?3, ?4)
  AND (?5 = '' OR namespace = ?5) AND (?6 = '' OR name = ?6)
ORDER BY resource, namespace, name

-- name: ListResource
SELECT resource, namespace, name, revision, data FROM objects
WHERE cluster = ?1 AND resource = ?2 AND (namespace, name) > (?3, ?4)
  AND (?5 = '' OR namespace = ?5) AND (?6 = '' OR name = ?6)
ORDER BY namespace, name

-- name: ListNamespace
SELECT resource, namespace, name, revision, data FROM objects
WHERE cluster = ?1 AND resource = ?2 AND namespace = ?3 AND name > ?4
  AND ?5 = namespace AND (?6 = '' OR name = ?6)
ORDER BY name

-- name: ChangedSince
-- Answered from the index alone, whatever the size of the states.
SELECT resource, namespace, name, min(revision) FROM changes
WHERE cluster = ?1 AND revision > ?2
  AND (?3 = '' OR resource = ?3) AND (?4 = '' OR namespace = ?4) AND (?5 = '' OR name = ?5)
GROUP BY resource, namespace, name

-- name: Before
SELECT prev_revision, prev FROM changes WHERE cluster = ?1 AND revision = ?2

-- name: ListChanges
SELECT resource, namespace, name, revision, verb, at, data, prev, prev_revision FROM changes
WHERE cluster = ?1 AND revision > ?2
ORDER BY revision LIMIT ?3

-- name: ChangeFrom
SELECT revision, at, logged FROM changes WHERE cluster = ?1 AND revision >= ?2 ORDER BY revision LIMIT 1

-- name: HasChanges
SELECT 1 FROM changes WHERE cluster = ?1 AND revision <= ?2 LIMIT 1

-- name: DropChanges
DELETE FROM changes WHERE rowid IN (
    SELECT rowid FROM changes WHERE cluster = ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3)

-- name: FreePages
PRAGMA freelist_count

-- name: Vacuum
PRAGMA incremental_vacuum(256)
