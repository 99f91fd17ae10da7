-- What a commit costs. Nothing else changes: signatures, rows and meaning are those of 00001_init.sql.

-- It was an SQL function, which Postgres cannot inline because of the subquery, and then parses and plans anew at every
-- call: most of what a question for the head cost, and part of each commit.
CREATE OR REPLACE FUNCTION rowlock_instance() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN rowlock_started() || '/' || coalesce((SELECT l.token FROM lifetime l), '');
END $$;

-- rowlock_commit as 00001_init.sql tells of it. A small commit takes its ops one by one, by statements that do no more than
-- find a row by its key; a large one takes all of them with one statement, whose start costs as much as ten ops.
CREATE OR REPLACE FUNCTION rowlock_commit(
    _cluster bigint, _origin bigint, _relaxed boolean, _lock_timeout text,
    _resources text[], _namespaces text[], _names text[], _verbs bigint[], _expects bigint[], _datas bytea[],
    OUT status integer, OUT before bigint, OUT head bigint, OUT epoch bigint, OUT at timestamptz, OUT present bigint[]
) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_material = off SET jit = off
AS $$
DECLARE
    c          clusters%ROWTYPE;
    instance   text;
    fenced     boolean;
    newest     integer;
    stamp      timestamptz;
    n          bigint := 0;
    bytes      bigint := 0;
    _resource  text;
    _namespace text;
    _name      text;
    _verb      bigint;
    _expect    bigint;
    _data      bytea;
    added      bigint;
    replaced   bigint;
    ignored    text;
BEGIN
    -- Assignments, because a PERFORM is a statement that is planned and run.
    ignored := set_config('lock_timeout', _lock_timeout, true);
    IF _relaxed THEN
        ignored := set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        ignored := set_config('synchronous_commit', 'on', true);
    END IF;

    SELECT * INTO c FROM clusters u WHERE u.id = _cluster AND u.dropped IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        status := 1;
        RETURN;
    END IF;
    -- A statement of its own: it has to see what the lock waited for.
    SELECT (SELECT s.id FROM segments s ORDER BY s.id DESC LIMIT 1),
            EXISTS (SELECT 1 FROM fences f WHERE f.cluster = _cluster AND f.origin = _origin),
            rowlock_started() || '/' || coalesce((SELECT l.token FROM lifetime l WHERE l.one), '')
        INTO newest, fenced, instance;
    IF c.instance <> instance THEN
        SELECT * INTO c FROM rowlock_lock(_cluster);
    END IF;
    IF fenced THEN
        status := 2;
        RETURN;
    END IF;
    stamp := greatest(clock_timestamp(), c.changed);

    IF cardinality(_verbs) <= 8 THEN
        present := array_fill(0::bigint, ARRAY[cardinality(_verbs)]);
        FOR i IN 1 .. cardinality(_verbs) LOOP
            _resource := _resources[i];
            _namespace := _namespaces[i];
            _name := _names[i];
            _verb := _verbs[i];
            _expect := _expects[i];
            _data := _datas[i];
            added := coalesce(octet_length(_data), 0) + octet_length(_resource) + octet_length(_namespace) + octet_length(_name);
            IF _verb = 1 THEN
                INSERT INTO objects (cluster, revision, resource, namespace, name, data)
                    VALUES (_cluster, c.revision + n + 1, _resource, _namespace, _name, _data) ON CONFLICT DO NOTHING;
                IF FOUND THEN
                    INSERT INTO changes (cluster, revision, prev_revision, origin, volume, at, segment, verb,
                            resource, namespace, name, data)
                        VALUES (_cluster, c.revision + n + 1, 0, _origin, c.volume + bytes, stamp, newest, _verb,
                            _resource, _namespace, _name, _data);
                    n := n + 1;
                    bytes := bytes + added;
                    CONTINUE;
                END IF;
            ELSE
                INSERT INTO changes (cluster, revision, prev_revision, origin, volume, at, segment, verb,
                        resource, namespace, name, data, prev)
                    SELECT _cluster, c.revision + n + 1, o.revision, _origin, c.volume + bytes, stamp, newest, _verb,
                        _resource, _namespace, _name, _data, o.data
                    FROM objects o WHERE o.cluster = _cluster
                        AND o.resource = _resource AND o.namespace = _namespace AND o.name = _name AND o.revision = _expect
                    RETURNING octet_length(prev) INTO replaced;
                IF FOUND THEN
                    IF _verb = 3 THEN
                        DELETE FROM objects o WHERE o.cluster = _cluster
                            AND o.resource = _resource AND o.namespace = _namespace AND o.name = _name;
                    ELSE
                        UPDATE objects o SET revision = c.revision + n + 1, data = _data WHERE o.cluster = _cluster
                            AND o.resource = _resource AND o.namespace = _namespace AND o.name = _name;
                    END IF;
                    n := n + 1;
                    bytes := bytes + added + replaced;
                    present[i] := _expect;
                    CONTINUE;
                END IF;
            END IF;
            present[i] := coalesce((SELECT o.revision FROM objects o WHERE o.cluster = _cluster
                AND o.resource = _resource AND o.namespace = _namespace AND o.name = _name), 0);
        END LOOP;
    ELSE
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
            SELECT _cluster, revision, had, _origin, volume, stamp, newest, verb, resource, namespace, name, data, prev FROM done
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
    END IF;

    IF n > 0 THEN
        UPDATE clusters u SET revision = c.revision + n, volume = c.volume + bytes, segment = newest, changed = stamp
        WHERE u.id = _cluster;
    END IF;
    status := 0;
    before := c.revision;
    head := c.revision + n;
    epoch := c.epoch;
    at := stamp;
END $$;
