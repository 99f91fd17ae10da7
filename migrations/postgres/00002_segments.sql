-- How the partitions of changes come and go.

-- rowlock_roll_due tells whether the newest segment has had enough: it holds something and is _age old, or it has
-- _bytes. Both double with every eight segments that are kept, so that any retention stays within 64 partitions.
CREATE FUNCTION rowlock_roll_due(_age interval, _bytes bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    newest segments%ROWTYPE;
    kept   integer;
    size   bigint;
BEGIN
    SELECT * INTO newest FROM segments ORDER BY id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    size := coalesce(pg_relation_size(to_regclass('changes_' || newest.id)), 0);
    IF size = 0 THEN
        RETURN false;
    END IF;
    kept := (SELECT count(*) FROM segments);
    RETURN kept < 64 AND (newest.opened < clock_timestamp() - _age * (1 << (kept / 8)) OR size >= _bytes * (1 << (kept / 8)));
END $$;

-- rowlock_roll begins a new segment when one is due. Any number of replicas may call it: the lock on segments lets
-- one through, and the others then find nothing due. Commits go on meanwhile: attaching a partition takes no lock that
-- they wait for, and each goes to the newest segment whose table is committed.
CREATE FUNCTION rowlock_roll(_age interval, _bytes bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    next integer;
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    LOCK TABLE segments IN SHARE ROW EXCLUSIVE MODE;
    IF NOT rowlock_roll_due(_age, _bytes) THEN
        RETURN false;
    END IF;
    next := (SELECT coalesce(max(id), 0) + 1 FROM segments);
    -- Rows of up to 4 KB stay in place whole: with both states inside, the usual row is above the default of 2 KB.
    EXECUTE format('CREATE TABLE changes_%s (LIKE changes INCLUDING ALL) WITH (toast_tuple_target = 4080)', next);
    EXECUTE format('ALTER TABLE changes ATTACH PARTITION changes_%s FOR VALUES IN (%s)', next, next);
    INSERT INTO segments (id) VALUES (next);
    RETURN true;
END $$;

SELECT rowlock_roll('1 hour', 1);

-- rowlock_dead tells whether nobody can ask for anything in a segment any more: every row is below its cluster's floor,
-- or its cluster is gone. It asks the index once for each cluster.
CREATE FUNCTION rowlock_dead(_segment integer) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    alive boolean;
BEGIN
    EXECUTE format($q$
        SELECT EXISTS (SELECT 1 FROM clusters c WHERE c.dropped IS NULL
            AND (SELECT h.revision FROM changes_%s h WHERE h.cluster = c.id ORDER BY h.revision DESC LIMIT 1) > c.floor)
    $q$, _segment) INTO alive;
    RETURN NOT alive;
END $$;

-- rowlock_tidy does one bounded step of cleaning and returns whether there may be more to do: it removes what dropped
-- clusters left, drops a dead segment, or moves the few rows that keep a mostly dead one into the newest, so that a
-- cluster that is kept short gets its space back although another is kept long. Rows only move to newer segments, so
-- "what follows revision r is in segment s or later" stays true.
CREATE FUNCTION rowlock_tidy(_rows integer, _min_bytes bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    newest integer;
    victim integer;
    gone   bigint;
    total  bigint;
    kept   bigint;
BEGIN
    -- Whoever waits for the table's lock makes every commit behind him wait too; rather try again later.
    PERFORM set_config('lock_timeout', '200ms', true);
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM fences WHERE at < clock_timestamp() - interval '1 day';

    SELECT id INTO gone FROM clusters WHERE dropped IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        DELETE FROM objects o USING (
            SELECT d.cluster, d.resource, d.namespace, d.name FROM objects d WHERE d.cluster = gone LIMIT _rows
        ) d WHERE (o.cluster, o.resource, o.namespace, o.name) = (d.cluster, d.resource, d.namespace, d.name);
        IF NOT FOUND THEN
            DELETE FROM clusters WHERE id = gone;
        END IF;
        RETURN true;
    END IF;

    -- One at a time, and not while a segment is begun.
    LOCK TABLE segments IN SHARE ROW EXCLUSIVE MODE;
    newest := (SELECT max(id) FROM segments);
    FOR victim IN SELECT id FROM segments WHERE id < newest ORDER BY id LOOP
        IF rowlock_dead(victim) THEN
            LOCK TABLE changes IN ACCESS EXCLUSIVE MODE;
            -- Asked again: a commit that had chosen this segment before the next was begun may just have ended.
            IF rowlock_dead(victim) THEN
                EXECUTE format('DROP TABLE changes_%s', victim);
                DELETE FROM segments WHERE id = victim;
                RETURN true;
            END IF;
        END IF;
    END LOOP;

    FOR victim IN SELECT id FROM segments WHERE id < newest ORDER BY random() LIMIT 4 LOOP
        total := (SELECT reltuples FROM pg_class WHERE oid = to_regclass('changes_' || victim));
        CONTINUE WHEN pg_relation_size(to_regclass('changes_' || victim)) < _min_bytes OR total < 4;
        EXECUTE format($q$
            SELECT count(*) FROM (SELECT 1 FROM clusters c JOIN changes_%s h ON h.cluster = c.id AND h.revision > c.floor
                WHERE c.dropped IS NULL LIMIT %s) alive
        $q$, victim, total / 4) INTO kept;
        CONTINUE WHEN kept >= total / 4;
        EXECUTE format($q$
            UPDATE changes h SET segment = %s FROM (
                SELECT a.cluster, a.revision FROM clusters c JOIN changes_%s a ON a.cluster = c.id AND a.revision > c.floor
                WHERE c.dropped IS NULL LIMIT %s
            ) alive WHERE h.segment = %s AND h.cluster = alive.cluster AND h.revision = alive.revision
        $q$, newest, victim, _rows, victim);
        RETURN true;
    END LOOP;
    RETURN false;
END $$;
