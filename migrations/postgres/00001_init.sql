-- Tables and functions of a Rowlock database. Unqualified names: everything lives in the connection's schema.

-- One row per cluster. Every commit updates its row, so rows are kept far apart and updates stay on their page (HOT).
CREATE TABLE clusters (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" UNIQUE,               -- null once dropped
    revision    bigint NOT NULL DEFAULT 1,             -- the head: the newest revision handed out
    epoch       bigint NOT NULL DEFAULT 1,             -- grows when the server came back without what it may have shown
    epoch_start bigint NOT NULL DEFAULT 1,             -- the head when the epoch began
    floor       bigint NOT NULL DEFAULT 1,             -- compaction: changes above it are kept
    volume      bigint NOT NULL DEFAULT 0,             -- bytes ever logged; differences tell the size of a stretch
    segment     integer NOT NULL DEFAULT 1,            -- partition of changes that the newest commit went to
    instance    text NOT NULL,                         -- rowlock_instance() at the newest commit
    changed     timestamptz NOT NULL DEFAULT now(),    -- time of the newest commit
    created     timestamptz NOT NULL DEFAULT now(),
    dropped     timestamptz
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The present. Data keeps its bytes exactly; kubernetes_objects shows it as JSON.
CREATE TABLE objects (
    cluster   bigint NOT NULL,
    revision  bigint NOT NULL,
    resource  text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (cluster, resource, namespace, name)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- The past: what each revision did, with the state after and before it, so that replays and reads at an exact revision
-- need no row below the floor. Partitions are numbered segments (see segments): compaction drops tables, not rows.
-- There is no default partition: a row that fits nowhere is an error, and the commit is tried again.
CREATE TABLE changes (
    cluster       bigint NOT NULL,
    revision      bigint NOT NULL,
    prev_revision bigint NOT NULL,          -- 0 for a create
    origin        bigint NOT NULL,          -- which commit call wrote it: how a lost answer is found again
    volume        bigint NOT NULL,          -- clusters.volume just before this change
    at            timestamptz NOT NULL,     -- never falls along a cluster's log
    segment       integer NOT NULL,
    verb          smallint NOT NULL,        -- 1 create, 2 update, 3 delete
    resource      text COLLATE "C" NOT NULL,
    namespace     text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    data          bytea,
    prev          bytea,
    PRIMARY KEY (cluster, revision, segment)
) PARTITION BY LIST (segment);

-- Fast compression where this server was built with it.
DO $$
BEGIN
    ALTER TABLE objects ALTER COLUMN data SET COMPRESSION lz4;
    ALTER TABLE changes ALTER COLUMN data SET COMPRESSION lz4, ALTER COLUMN prev SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END $$;

-- The partitions of changes. The newest takes all writes of all clusters.
CREATE TABLE segments (
    id     integer PRIMARY KEY,
    opened timestamptz NOT NULL DEFAULT now()
);

-- Commits that were given up: one that is still on its way is refused when it arrives.
CREATE TABLE fences (
    cluster bigint NOT NULL,
    origin  bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, origin)
);

-- One row that a crash or a failover empties, because the table is not logged. So its token names one stretch of time
-- in which the server lost nothing.
CREATE UNLOGGED TABLE lifetime (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    token text NOT NULL
);

DO $$
BEGIN
    PERFORM pg_postmaster_start_time();
    CREATE FUNCTION rowlock_started() RETURNS text LANGUAGE sql STABLE
        AS 'SELECT extract(epoch FROM pg_postmaster_start_time())::text';
EXCEPTION WHEN undefined_function OR feature_not_supported THEN
    CREATE FUNCTION rowlock_started() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''''::text';
END $$;

-- rowlock_instance names the run of the server: another value means that acknowledged relaxed writes may be lost. It
-- also differs after a clean restart, which may have been a restart on an older copy of the files.
CREATE FUNCTION rowlock_instance() RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT rowlock_started() || '/' || coalesce((SELECT l.token FROM lifetime l), '') $$;

CREATE FUNCTION rowlock_begin_lifetime() RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO lifetime (token)
    SELECT md5(random()::text || clock_timestamp()::text || rowlock_started())
    WHERE NOT EXISTS (SELECT 1 FROM lifetime)
    ON CONFLICT DO NOTHING;
$$;

CREATE FUNCTION rowlock_create_cluster(_name text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM rowlock_begin_lifetime();
    INSERT INTO clusters (name, instance) VALUES (_name, rowlock_instance());
END $$;

-- rowlock_lock takes the lock that orders a cluster's writes, until the transaction ends, and returns the row under it
-- (nothing when the cluster is gone). If the server has restarted since the newest commit, it first begins a new epoch: the
-- revision jumps past all that can have been shown and then lost. The jump itself must be on disk before anybody sees
-- it, or a second crash would hand out the same revisions again.
CREATE FUNCTION rowlock_lock(_cluster bigint) RETURNS SETOF clusters LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c clusters%ROWTYPE;
BEGIN
    SELECT * INTO c FROM clusters WHERE id = _cluster AND dropped IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF c.instance <> rowlock_instance() THEN
        PERFORM rowlock_begin_lifetime();
        PERFORM set_config('synchronous_commit', 'on', true);
        UPDATE clusters SET epoch = epoch + 1, revision = revision + 1000000, epoch_start = revision + 1000000,
            instance = rowlock_instance() WHERE id = _cluster RETURNING * INTO c;
    END IF;
    RETURN NEXT c;
END $$;

-- rowlock_commit judges and applies the ops of one commit, in one round trip.
--
-- Why commit order is revision order: the row lock on the cluster's counter is taken first and is held until this
-- transaction is committed and visible. So the next commit reads the counter only when all revisions below are visible,
-- and whoever has seen revision r (in the counter or the log) can never meet one at or below r that he has not seen.
-- It has to be a function and not one statement with FOR UPDATE inside: each statement of a volatile function sees
-- what was committed before that statement began, so what follows the lock sees all that the lock waited for.
--
-- Expectations are judged on the result: present holds each op's present revision (0: none), and an op was applied if and
-- only if that is what it expects. The applied ones have the revisions before+1, before+2 … in the order of the arrays.
-- status: 0 done, 1 the cluster is gone, 2 this origin was given up.
CREATE FUNCTION rowlock_commit(
    _cluster bigint, _origin bigint, _relaxed boolean, _lock_timeout text,
    _resources text[], _namespaces text[], _names text[], _verbs bigint[], _expects bigint[], _datas bytea[],
    OUT status integer, OUT before bigint, OUT head bigint, OUT epoch bigint, OUT at timestamptz, OUT present bigint[]
) LANGUAGE plpgsql VOLATILE
-- One plan for any number of ops: planning takes twice as long as doing. It is cached for the life of a connection,
-- so one that was made for empty tables must not scan them when they are full; and what has to be scanned nevertheless
-- then looks costly enough to be compiled, which takes longer than a hundred commits.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_material = off SET jit = off
AS $$
DECLARE
    c     clusters%ROWTYPE;
    n     bigint;
    bytes bigint;
    seg   integer;
    stamp timestamptz;
BEGIN
    PERFORM set_config('lock_timeout', _lock_timeout, true);
    IF _relaxed THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    SELECT * INTO c FROM rowlock_lock(_cluster);
    IF c.id IS NULL THEN
        status := 1;
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM fences f WHERE f.cluster = _cluster AND f.origin = _origin) THEN
        status := 2;
        RETURN;
    END IF;
    stamp := greatest(clock_timestamp(), c.changed);
    seg := (SELECT max(s.id) FROM segments s);

    WITH ops AS (
        SELECT * FROM unnest(_resources, _namespaces, _names, _verbs, _expects, _datas)
            WITH ORDINALITY AS u(resource, namespace, name, verb, expect, data, ord)
    ), judged AS MATERIALIZED (
        SELECT ops.*, coalesce(o.revision, 0) AS had, o.data AS prev,
            CASE WHEN ops.verb = 1 THEN o.revision IS NULL ELSE coalesce(o.revision = ops.expect, false) END AS ok,
            (coalesce(octet_length(ops.data), 0) + coalesce(octet_length(o.data), 0) + octet_length(ops.resource)
                + octet_length(ops.namespace) + octet_length(ops.name))::bigint AS size
        -- OFFSET 0 keeps the look-up a look-up: one for each op. A join may be turned round, and a plan that was made when
        -- the table was empty thinks it as cheap to read all objects of the cluster and look for their ops.
        FROM ops LEFT JOIN LATERAL (
            SELECT p.revision, p.data FROM objects p WHERE p.cluster = _cluster
                AND p.resource = ops.resource AND p.namespace = ops.namespace AND p.name = ops.name OFFSET 0
        ) o ON true
    ), done AS MATERIALIZED (
        SELECT j.*, c.revision + row_number() OVER (ORDER BY ord) AS revision,
            c.volume + sum(size) OVER (ORDER BY ord ROWS UNBOUNDED PRECEDING) - size AS volume
        FROM judged j WHERE ok
    ), written AS (
        -- Updates too are inserts that meet their row: for the same reason, an UPDATE would be a join.
        INSERT INTO objects (cluster, revision, resource, namespace, name, data)
        SELECT _cluster, revision, resource, namespace, name, data FROM done WHERE verb <> 3
        ON CONFLICT (cluster, resource, namespace, name) DO UPDATE SET revision = excluded.revision, data = excluded.data
    ), logged AS (
        INSERT INTO changes (cluster, revision, prev_revision, origin, volume, at, segment, verb,
            resource, namespace, name, data, prev)
        SELECT _cluster, revision, had, _origin, volume, stamp, seg, verb, resource, namespace, name, data, prev FROM done
        ORDER BY ord
    )
    SELECT count(*) FILTER (WHERE ok), coalesce(sum(size) FILTER (WHERE ok), 0), coalesce(array_agg(had ORDER BY ord), '{}')
        INTO n, bytes, present FROM judged;

    FOR i IN 1 .. cardinality(_verbs) LOOP
        IF _verbs[i] = 3 AND present[i] = _expects[i] THEN
            DELETE FROM objects o WHERE o.cluster = _cluster
                AND o.resource = _resources[i] AND o.namespace = _namespaces[i] AND o.name = _names[i];
        END IF;
    END LOOP;

    IF n > 0 THEN
        UPDATE clusters SET revision = revision + n, volume = volume + bytes, segment = seg, changed = stamp
        WHERE id = _cluster;
    END IF;
    status := 0;
    before := c.revision;
    head := c.revision + n;
    epoch := c.epoch;
    at := stamp;
END $$;

-- rowlock_give_up ends the doubt about a commit whose answer was lost. Under the lock it is either in the log, and its
-- rows are returned, or it has not happened; then the fence keeps it from happening later, however late it arrives.
-- Call it in one transaction with nothing else. status as in rowlock_commit; rows only with 0.
CREATE FUNCTION rowlock_give_up(
    _cluster bigint, _origin bigint, _after bigint, _lock_timeout text,
    OUT status integer, OUT epoch bigint, OUT epoch_start bigint, OUT at timestamptz,
    OUT revisions bigint[], OUT resources text[], OUT namespaces text[], OUT names text[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c clusters%ROWTYPE;
BEGIN
    PERFORM set_config('lock_timeout', _lock_timeout, true);
    SELECT * INTO c FROM rowlock_lock(_cluster);
    IF c.id IS NULL THEN
        status := 1;
        RETURN;
    END IF;
    epoch := c.epoch;
    epoch_start := c.epoch_start;
    SELECT max(h.at), array_agg(h.revision ORDER BY h.revision), array_agg(h.resource ORDER BY h.revision),
            array_agg(h.namespace ORDER BY h.revision), array_agg(h.name ORDER BY h.revision)
        INTO at, revisions, resources, namespaces, names
        FROM changes h WHERE h.cluster = _cluster AND h.revision > _after AND h.origin = _origin;
    IF revisions IS NULL THEN
        INSERT INTO fences (cluster, origin) VALUES (_cluster, _origin) ON CONFLICT DO NOTHING;
        status := 2;
    ELSE
        status := 0;
    END IF;
END $$;

-- rowlock_horizon finds the newest change that is older than _max_age, or below which the log must end to hold at
-- most _max_bytes. Time and volume never fall along the log, so it halves its way there.
CREATE FUNCTION rowlock_horizon(_cluster bigint, _max_age interval, _max_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    c    clusters%ROWTYPE;
    r    record;
    lo   bigint;
    hi   bigint;
    mid  bigint;
    best bigint;
BEGIN
    SELECT * INTO c FROM clusters WHERE id = _cluster AND dropped IS NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    best := c.floor;
    lo := c.floor;
    hi := c.revision;
    WHILE lo < hi LOOP
        mid := lo + (hi - lo + 1) / 2;
        SELECT h.revision, h.at, h.volume INTO r FROM changes h
            WHERE h.cluster = _cluster AND h.revision > lo AND h.revision <= mid ORDER BY h.revision DESC LIMIT 1;
        IF NOT FOUND THEN
            lo := mid;
        ELSIF r.at < clock_timestamp() - _max_age OR r.volume < c.volume - _max_bytes THEN
            best := r.revision;
            lo := mid;
        ELSE
            hi := r.revision - 1;
        END IF;
    END LOOP;
    RETURN best;
END $$;
