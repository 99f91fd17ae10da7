-- For people with psql. The server does not use them.

-- rowlock_json is null for what is not JSON, such as what is encrypted at rest.
CREATE FUNCTION rowlock_json(_data bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF _data IS NULL OR get_byte(_data, 0) <> ascii('{') THEN
        RETURN NULL;
    END IF;
    RETURN convert_from(_data, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- rowlock_object adds the resourceVersion that clients see.
CREATE FUNCTION rowlock_object(_doc jsonb, _revision bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(_doc -> 'metadata') = 'object'
        THEN jsonb_set(_doc, '{metadata,resourceVersion}', to_jsonb(_revision::text)) ELSE _doc END
$$;

CREATE FUNCTION rowlock_group(_resource text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN strpos(_resource, '.') = 0 THEN '' ELSE substr(_resource, strpos(_resource, '.') + 1) END
$$;

CREATE VIEW kubernetes_objects AS
SELECT c.name AS cluster, rowlock_group(o.resource) AS "group", split_part(o.resource, '.', 1) AS resource,
    j.doc ->> 'kind' AS kind, o.namespace, o.name, j.doc #> '{metadata,labels}' AS labels, o.revision,
    rowlock_object(j.doc, o.revision) AS object
FROM clusters c
JOIN objects o ON o.cluster = c.id
-- OFFSET keeps the planner from parsing the document once for each column.
CROSS JOIN LATERAL (SELECT rowlock_json(o.data) AS doc OFFSET 0) j
WHERE c.dropped IS NULL;

CREATE VIEW kubernetes_changes AS
SELECT c.name AS cluster, h.revision, h.at AS time, (ARRAY['create', 'update', 'delete'])[h.verb] AS verb,
    rowlock_group(h.resource) AS "group", split_part(h.resource, '.', 1) AS resource,
    coalesce(j.doc, p.doc) ->> 'kind' AS kind, h.namespace, h.name,
    rowlock_object(j.doc, h.revision) AS object, h.prev_revision, rowlock_object(p.doc, h.prev_revision) AS previous
FROM clusters c
JOIN changes h ON h.cluster = c.id
CROSS JOIN LATERAL (SELECT rowlock_json(h.data) AS doc OFFSET 0) j
CROSS JOIN LATERAL (SELECT rowlock_json(h.prev) AS doc OFFSET 0) p
WHERE c.dropped IS NULL;

COMMENT ON VIEW kubernetes_objects IS 'Every object of every cluster, as a client sees it in its stored version';
COMMENT ON VIEW kubernetes_changes IS 'The log of changes that is still kept, oldest revision first within a cluster';
