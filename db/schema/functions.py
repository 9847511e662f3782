"""Functions that runs need: with the rights of the ledger's owner, but for one. Each of those checks its arguments.

A role that only runs may not make or drop a table of predictions, delete a prediction, or change what readers see. It
calls these functions. None of them takes SQL or a name of another schema. They check the ledger before they change what
readers see; but a role that may write the ledger could invent a run there.

`rows_read_only` takes SQL, and runs it with the rights of its caller.
"""

from typing import Any

from sqlalchemy import Connection, event, text

from scorebeat.db.schema.metadata import metadata

_HEAD = (
    "CREATE FUNCTION scorebeat.{signature}\n"
    "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n{body}\n$$"
)
_ENDED_WHOLE = """\
EXISTS (SELECT FROM scorebeat.runs r WHERE r.prediction_set_id = set_id AND r.state IN ('succeeded', 'partial')
        AND r.plan_is_whole AND r.row_limit IS NULL AND r.row_filter IS NULL AND r.row_keys IS NULL
        AND (SELECT coalesce(bool_and(b.state = 'committed'), true)
            AND (coalesce(sum(b.rows_scored), 0) > 0 OR coalesce(sum(b.rows_failed), 0) = 0)
            FROM scorebeat.batches b WHERE b.run_id = r.id))"""
"""`Tally.can_be_shown` for an ended run over all rows: no row was left out, and not all were quarantined."""

OPEN_GENERATION = _HEAD.format(
    signature="open_generation(like_set bigint, number integer, new_table text) RETURNS bigint",
    body="""\
DECLARE
    old scorebeat.prediction_sets;
    newest integer;
    whole text;
    tail text;
    made bigint;
BEGIN
    SELECT s.* INTO old FROM scorebeat.prediction_sets s JOIN scorebeat.jobs j ON j.name = s.job
        WHERE s.id = like_set AND s.dropped_at IS NULL AND j.removed_at IS NULL AND j.spec ->> 'rescore' = 'every-run';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'prediction set % is not one of a job that scores every row in every run', like_set;
    END IF;
    SELECT max(s.generation) INTO newest FROM scorebeat.prediction_sets s WHERE s.job = old.job
        AND s.model = old.model AND s.model_version = old.model_version AND s.dropped_at IS NULL;
    IF number IS DISTINCT FROM newest + 1 THEN
        RAISE EXCEPTION 'generation % does not follow %, the newest of the job, model and version of %', number,
            newest, old.table_name;
    END IF;
    tail := format('_v%s_g%s', old.model_version, number);
    whole := old.job || '__' || old.model || tail;
    IF length(whole) > 63 THEN
        whole := left(whole, 50 - length(tail)) || '_' || left(encode(sha256(convert_to(whole, 'UTF8')), 'hex'), 12)
            || tail;
    END IF;
    IF new_table IS DISTINCT FROM whole THEN
        RAISE EXCEPTION '% is not the name of generation % of %', new_table, number, old.table_name;
    END IF;
    INSERT INTO scorebeat.prediction_sets (job, model, model_version, generation, table_name)
        VALUES (old.job, old.model, old.model_version, number, new_table) RETURNING id INTO made;
    EXECUTE format('CREATE TABLE predictions.%I (LIKE predictions.%I INCLUDING ALL)', new_table, old.table_name);
    RETURN made;
END""",
)

OPEN_WITHOUT_KEY = _HEAD.format(
    signature="open_generation_without_key(like_set bigint, number integer, new_table text) RETURNS bigint",
    body="""\
DECLARE
    made bigint := scorebeat.open_generation(like_set, number, new_table);
    made_in regclass := to_regclass(format('predictions.%I', new_table));
    key text[] := (SELECT unbuilt_key FROM scorebeat.prediction_sets WHERE id = like_set);
    is_like_built boolean := key IS NULL;
    only_index regclass;
    of_constraint name;
BEGIN
    IF is_like_built THEN
        SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) INTO key
            FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            WHERE i.indrelid = made_in AND i.indisprimary;
    END IF;
    SELECT min(i.indexrelid) INTO only_index FROM pg_index i WHERE i.indrelid = made_in HAVING count(*) = 1;
    IF key IS NULL OR (only_index IS NULL AND is_like_built) THEN
        RETURN made;  -- an index of the owner's own is kept up to date by each row, as the key is
    END IF;
    SELECT conname INTO of_constraint FROM pg_constraint WHERE conrelid = made_in AND conindid = only_index;
    IF of_constraint IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', made_in, of_constraint);
    ELSIF only_index IS NOT NULL THEN
        EXECUTE format('DROP INDEX %s', only_index);
    END IF;
    -- a publication of all tables would else refuse that rows are deleted
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL, %s', made_in,
        (SELECT string_agg(format('ALTER COLUMN %I SET NOT NULL', k), ', ') FROM unnest(key) k));
    UPDATE scorebeat.prediction_sets SET unbuilt_key = key WHERE id = made;
    RETURN made;
END""",
)

BUILD_KEY = _HEAD.format(
    signature="build_key(set_id bigint) RETURNS boolean",
    body="""\
DECLARE
    made scorebeat.prediction_sets;
    key_name text := format('scorebeat_key_%s', set_id);
BEGIN
    IF NOT EXISTS (SELECT FROM scorebeat.prediction_sets WHERE id = set_id AND unbuilt_key IS NOT NULL) THEN
        RETURN true;
    END IF;
    -- whoever has the row locked builds the key: a second one gives up at once
    SELECT * INTO made FROM scorebeat.prediction_sets WHERE id = set_id FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF made.unbuilt_key IS NULL THEN
        RETURN true;
    END IF;
    IF to_regclass(format('predictions.%I', key_name)) IS NULL THEN
        IF has_parameter_privilege('wal_compression', 'SET') THEN
            -- compressing the pages of the index takes longer than building it, and saves a tenth of the table's log
            PERFORM set_config('wal_compression', 'off', true);
        END IF;
        EXECUTE format('CREATE UNIQUE INDEX %I ON predictions.%I (%s)', key_name, made.table_name,
            (SELECT string_agg(quote_ident(u.name), ', ' ORDER BY u.n)
            FROM unnest(made.unbuilt_key) WITH ORDINALITY u (name, n)));
    END IF;
    BEGIN
        -- who reads the table, such as a dump of the database, may do so for hours: lock_timeout ends the wait
        EXECUTE format('LOCK TABLE predictions.%I IN ACCESS EXCLUSIVE MODE', made.table_name);
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    EXECUTE format('ALTER TABLE predictions.%I ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I, REPLICA IDENTITY DEFAULT',
        made.table_name, key_name, key_name);
    UPDATE scorebeat.prediction_sets SET unbuilt_key = NULL WHERE id = set_id;
    RETURN true;
END""",
)

COMPLETE_GENERATION = _HEAD.format(
    signature="complete_generation(set_id bigint) RETURNS void",
    body=f"""\
DECLARE
    made scorebeat.prediction_sets;
    old scorebeat.prediction_sets;
    names text;
    theirs text;
    same text;
BEGIN
    IF NOT {_ENDED_WHOLE} THEN
        RAISE EXCEPTION 'no run over prediction set % ended and looked at every row', set_id;
    END IF;
    -- no generation is shown without the index that proves it, whichever program closes its run
    IF scorebeat.build_key(set_id) IS NULL THEN
        RAISE EXCEPTION 'another session builds the key of prediction set %', set_id
            USING ERRCODE = 'lock_not_available';
    END IF;
    UPDATE scorebeat.prediction_sets SET complete_at = now() WHERE id = set_id AND complete_at IS NULL
        RETURNING * INTO made;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT s.* INTO old FROM scorebeat.prediction_sets s WHERE s.job = made.job AND s.model = made.model
        AND s.model_version = made.model_version AND s.id <> set_id AND s.complete_at IS NOT NULL
        AND s.dropped_at IS NULL AND s.history_table IS NOT NULL;
    IF NOT FOUND OR old.generation > made.generation THEN
        RETURN;
    END IF;
    -- the history of the version goes on; what readers saw until now goes there, with no time between or twice
    IF EXISTS (SELECT FROM scorebeat.jobs j WHERE j.name = made.job AND j.spec ->> 'keep_history' = 'true') THEN
        SELECT string_agg(quote_ident(a.attname), ', '), string_agg('o.' || quote_ident(a.attname), ', ')
            INTO names, theirs FROM pg_attribute a
            WHERE a.attrelid = to_regclass(format('predictions.%I', old.table_name))
            AND a.attnum > 0 AND NOT a.attisdropped;
        SELECT string_agg(format('n.%1$I = o.%1$I', a.attname), ' AND ') INTO same
            FROM (SELECT x.* FROM pg_index x WHERE x.indrelid = to_regclass(format('predictions.%I', old.table_name))
                AND x.indisunique AND x.indisvalid ORDER BY x.indisprimary DESC LIMIT 1) i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey);
        EXECUTE format('INSERT INTO predictions.%I (%s, replaced_at) SELECT %s, coalesce(n.scored_at, now())'
            ' FROM predictions.%I o LEFT JOIN predictions.%I n ON %s',
            old.history_table, names, theirs, old.table_name, made.table_name, same);
    END IF;
    UPDATE scorebeat.prediction_sets SET history_table = NULL WHERE id = old.id;
    UPDATE scorebeat.prediction_sets SET history_table = old.history_table WHERE id = set_id;
END""",
)

SHOW_GENERATION = _HEAD.format(
    signature="show_generation(set_id bigint) RETURNS void",
    body=f"""\
DECLARE
    wanted scorebeat.prediction_sets;
    given text;
BEGIN
    SELECT s.* INTO wanted FROM scorebeat.prediction_sets s JOIN scorebeat.jobs j ON j.name = s.job
        WHERE s.id = set_id AND s.complete_at IS NOT NULL AND s.dropped_at IS NULL AND {_ENDED_WHOLE}
        AND NOT EXISTS (SELECT FROM scorebeat.prediction_sets n WHERE n.job = s.job AND n.model = s.model
            AND n.model_version = s.model_version AND n.generation > s.generation AND n.complete_at IS NOT NULL
            AND n.dropped_at IS NULL)
        AND (j.spec ->> 'model' = s.model || '/' || s.model_version OR (j.spec ->> 'model' = s.model
            AND EXISTS (SELECT FROM scorebeat.model_versions v WHERE v.name = s.model AND v.version = s.model_version
                AND v.published_at IS NOT NULL AND v.retired_at IS NULL)));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'prediction set % is not complete, or older than one that is, or not of the version that its'
            ' job follows', set_id;
    END IF;
    -- readers do not see the column of `changed_at`
    SELECT string_agg(CASE WHEN t.attname IS NOT NULL THEN quote_ident(t.attname)
            ELSE format('NULL::%s AS %I', format_type(v.atttypid, v.atttypmod), v.attname) END, ', '
            ORDER BY v.attnum, t.attnum)
        INTO given
        FROM (SELECT * FROM pg_attribute WHERE attrelid = to_regclass(format('predictions.%I', wanted.job))
            AND attnum > 0 AND NOT attisdropped) v
        FULL JOIN (SELECT * FROM pg_attribute WHERE attrelid = to_regclass(format('predictions.%I', wanted.table_name))
            AND attnum > 0 AND NOT attisdropped AND attname <> 'scorebeat_changed_at') t ON t.attname = v.attname;
    EXECUTE format('CREATE OR REPLACE VIEW predictions.%I AS SELECT %s FROM predictions.%I WHERE batch_id <'
        ' coalesce((SELECT visible_below FROM scorebeat.prediction_sets WHERE id = %s), 9223372036854775807)',
        wanted.job, given, wanted.table_name, wanted.id);
END""",
)

DROP_GENERATION = _HEAD.format(
    signature="drop_generation(set_id bigint) RETURNS boolean",
    body="""\
DECLARE
    old scorebeat.prediction_sets;
    others bigint;
BEGIN
    SELECT * INTO old FROM scorebeat.prediction_sets WHERE id = set_id AND dropped_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO others FROM scorebeat.prediction_sets s
        WHERE s.job = old.job AND s.model = old.model AND s.model_version = old.model_version
        AND s.dropped_at IS NULL AND s.id <> old.id AND CASE WHEN old.complete_at IS NULL
            THEN s.complete_at IS NOT NULL OR s.generation > old.generation
            ELSE s.complete_at IS NOT NULL AND s.generation > old.generation END;
    IF others < (SELECT greatest(1, coalesce((spec ->> 'keep')::integer, 3)) FROM scorebeat.jobs WHERE name = old.job)
        OR EXISTS (SELECT FROM scorebeat.runs WHERE prediction_set_id = set_id AND state IN ('planning', 'running'))
        OR NOT EXISTS (SELECT FROM scorebeat.prediction_sets s WHERE s.job = old.job AND s.model = old.model
            AND s.model_version = old.model_version AND s.generation > old.generation AND s.dropped_at IS NULL)
    THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS predictions.%I', old.table_name);
    IF old.history_table IS NOT NULL THEN
        EXECUTE format('DROP TABLE IF EXISTS predictions.%I', old.history_table);
    END IF;
    UPDATE scorebeat.prediction_sets SET dropped_at = now() WHERE id = old.id;
    RETURN true;
END""",
)

EMPTY_GENERATION = _HEAD.format(
    signature="empty_generation(set_id bigint) RETURNS void",
    body="""\
DECLARE
    unshown scorebeat.prediction_sets;
BEGIN
    SELECT * INTO unshown FROM scorebeat.prediction_sets s WHERE s.id = set_id AND s.complete_at IS NULL
        AND EXISTS (SELECT FROM scorebeat.runs WHERE prediction_set_id = set_id)
        AND NOT EXISTS (SELECT FROM scorebeat.runs WHERE prediction_set_id = set_id
            AND state IN ('planning', 'running', 'held'));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'prediction set % is shown, or a run over it may still be shown', set_id;
    END IF;
    IF unshown.dropped_at IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('TRUNCATE predictions.%I', unshown.table_name);
END""",
)

HIDE_FROM_NOW = _HEAD.format(
    signature="hide_from_now(set_id bigint) RETURNS void",
    body="""\
BEGIN
    UPDATE scorebeat.prediction_sets SET visible_below = (SELECT coalesce(max(id), 0) + 1 FROM scorebeat.batches)
        WHERE id = set_id AND visible_below IS NULL;
END""",
)

SHOW_AS_IT_COMES = _HEAD.format(
    signature="show_as_it_comes(set_id bigint) RETURNS void",
    body="""\
BEGIN
    UPDATE scorebeat.prediction_sets s SET visible_below = NULL FROM scorebeat.jobs j
        WHERE s.id = set_id AND s.visible_below IS NOT NULL
        AND j.name = s.job AND j.spec ->> 'on_failure' IS DISTINCT FROM 'retry-run';
END""",
)

SHOW_RUN = _HEAD.format(
    signature="show_run(run bigint) RETURNS void",
    body="""\
BEGIN
    UPDATE scorebeat.prediction_sets s SET visible_below = greatest(s.visible_below, (SELECT max(b.id) + 1
        FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE r.prediction_set_id = s.id
        AND (r.id = done.id OR (r.id < done.id AND r.state NOT IN ('planning', 'running')
            AND (r.state <> 'failed' OR r.spec ->> 'on_failure' IS DISTINCT FROM 'retry-run')))))
        FROM scorebeat.runs done WHERE done.id = run AND done.state = 'succeeded' AND s.id = done.prediction_set_id
        AND s.visible_below IS NOT NULL;
END""",
)

UNDO_RUN = _HEAD.format(
    signature="undo_run(run bigint) RETURNS void",
    body="""\
DECLARE
    made_in scorebeat.prediction_sets;
BEGIN
    SELECT s.* INTO made_in FROM scorebeat.prediction_sets s JOIN scorebeat.runs r ON r.prediction_set_id = s.id
        WHERE r.id = run AND r.spec ->> 'on_failure' = 'retry-run';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is not one that is shown whole or not at all', run;
    END IF;
    EXECUTE format('DELETE FROM predictions.%I WHERE batch_id IN (SELECT id FROM scorebeat.batches WHERE run_id = $1)'
        ' AND ($2 OR batch_id >= $3)', made_in.table_name)
        USING run, made_in.complete_at IS NULL, made_in.visible_below;
END""",
)

RENUMBER_BATCHES = _HEAD.format(
    signature="renumber_batches(run bigint) RETURNS void",
    body="""\
DECLARE
    made_in text;
    are_kept boolean;
BEGIN
    SELECT s.table_name INTO made_in FROM scorebeat.prediction_sets s JOIN scorebeat.runs r
        ON r.prediction_set_id = s.id
        WHERE r.id = run AND r.state = 'failed' AND r.spec ->> 'on_failure' = 'retry-run';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM predictions.%I WHERE batch_id IN'
        ' (SELECT id FROM scorebeat.batches WHERE run_id = $1))', made_in) INTO are_kept USING run;
    IF are_kept THEN
        RAISE EXCEPTION 'predictions of run % are stored, so its batches keep their ids', run;
    END IF;
    UPDATE scorebeat.batches SET id = DEFAULT WHERE run_id = run;
END""",
)

ROWS_READ_ONLY = """\
CREATE FUNCTION scorebeat.rows_read_only(query text, row_type anyelement) RETURNS SETOF anyelement
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    is_done boolean := false;
BEGIN
    PERFORM pg_catalog.set_config('transaction_read_only', 'on', true);
    RETURN QUERY EXECUTE query;
    is_done := true;
    RAISE EXCEPTION USING ERRCODE = 'SB001';
EXCEPTION WHEN SQLSTATE 'SB001' THEN
    IF NOT is_done THEN
        RAISE;
    END IF;
END
$$"""
"""The rows of a query that can write nothing, in a transaction that writes: the error ends the part that is read-only,
and rows that a function has returned by then stay. The rows have the type of `row_type`."""

REPLACE_ROWS = _HEAD.format(
    signature="replace_rows(set_id bigint, seen jsonb) RETURNS bigint",
    body="""\
DECLARE
    made_in scorebeat.prediction_sets;
    kept text;
    gone bigint;
BEGIN
    -- only the owner writes jobs, and makes the column for a job with `changed_at`; a run may be forged
    SELECT s.* INTO made_in FROM scorebeat.prediction_sets s JOIN scorebeat.jobs j ON j.name = s.job
        WHERE s.id = set_id AND s.dropped_at IS NULL AND (j.spec ->> 'deleted' = 'follow'
            OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(format('predictions.%I', s.table_name))
                AND attname = 'scorebeat_changed_at' AND NOT attisdropped));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'prediction set % is not one of a job whose predictions are replaced', set_id;
    END IF;
    IF made_in.history_table IS NOT NULL AND EXISTS (SELECT FROM scorebeat.jobs j
        WHERE j.name = made_in.job AND j.spec ->> 'keep_history' = 'true')
    THEN
        SELECT string_agg(quote_ident(attname), ', ') INTO kept FROM pg_attribute
            WHERE attrelid = to_regclass(format('predictions.%I', made_in.table_name))
            AND attnum > 0 AND NOT attisdropped;
    END IF;
    -- the version of a row is named by its place and the transaction that wrote it: no other version has both
    EXECUTE format('WITH gone AS (DELETE FROM predictions.%I p USING (SELECT (e ->> 0)::tid AS place,'
        ' (e ->> 1)::xid AS writer FROM jsonb_array_elements($1) e WHERE (e ->> 0) IS NOT NULL) s'
        ' WHERE p.ctid = s.place AND p.xmin = s.writer RETURNING p.*)', made_in.table_name)
        || CASE WHEN kept IS NULL THEN '' ELSE format(', kept AS (INSERT INTO predictions.%I (%s) SELECT %s FROM gone)',
            made_in.history_table, kept, kept) END
        || ' SELECT count(*) FROM gone' INTO gone USING seen;
    DELETE FROM scorebeat.quarantine z USING jsonb_array_elements(seen) e
        WHERE z.id = (e ->> 2)::bigint AND z.prediction_set_id = set_id;
    RETURN gone;
END""",
)

FUNCTIONS = {
    "open_generation(bigint, integer, text)": OPEN_GENERATION,
    "open_generation_without_key(bigint, integer, text)": OPEN_WITHOUT_KEY,
    "build_key(bigint)": BUILD_KEY,
    "complete_generation(bigint)": COMPLETE_GENERATION,
    "show_generation(bigint)": SHOW_GENERATION,
    "drop_generation(bigint)": DROP_GENERATION,
    "empty_generation(bigint)": EMPTY_GENERATION,
    "hide_from_now(bigint)": HIDE_FROM_NOW,
    "show_as_it_comes(bigint)": SHOW_AS_IT_COMES,
    "show_run(bigint)": SHOW_RUN,
    "undo_run(bigint)": UNDO_RUN,
    "renumber_batches(bigint)": RENUMBER_BATCHES,
    "replace_rows(bigint, jsonb)": REPLACE_ROWS,
}
"""By the name and argument types, as GRANT names a function."""
OF_THE_CALLER = {"rows_read_only(text, anyelement)": ROWS_READ_ONLY}
"""Functions with the rights of their caller."""


def call(connection: Connection, name: str, *arguments: int | str) -> Any:
    """Call a function of the ledger's owner, and return its result."""
    values = {f"a{i}": argument for i, argument in enumerate(arguments)}
    placeholders = ", ".join(f":{key}" for key in values)
    return connection.execute(text(f"SELECT scorebeat.{name}({placeholders})"), values).scalar_one()


def _add(_target: object, connection: Connection, **_: Any) -> None:
    for signature, statement in FUNCTIONS.items():
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION scorebeat.{signature} FROM PUBLIC")
    for statement in OF_THE_CALLER.values():
        connection.exec_driver_sql(statement)


event.listen(metadata, "after_create", _add)
