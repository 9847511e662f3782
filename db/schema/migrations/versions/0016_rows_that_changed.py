"""Rows that changed are scored again: what is stored of a row is replaced, and may go to a table of its own."""

from collections.abc import Callable
from importlib import import_module

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_HEAD = (
    "CREATE{} FUNCTION scorebeat.{signature}\n"
    "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n{body}\n$$"
)
_ENDED_WHOLE = """\
EXISTS (SELECT FROM scorebeat.runs r WHERE r.prediction_set_id = set_id AND r.state IN ('succeeded', 'partial')
        AND r.plan_is_whole AND r.row_limit IS NULL AND r.row_filter IS NULL AND r.row_keys IS NULL
        AND (SELECT coalesce(bool_and(b.state = 'committed'), true)
            AND (coalesce(sum(b.rows_scored), 0) > 0 OR coalesce(sum(b.rows_failed), 0) = 0)
            FROM scorebeat.batches b WHERE b.run_id = r.id))"""
COMPLETE_GENERATION = f"""\
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
            FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            WHERE i.indrelid = to_regclass(format('predictions.%I', old.table_name)) AND i.indisprimary;
        EXECUTE format('INSERT INTO predictions.%I (%s, replaced_at) SELECT %s, coalesce(n.scored_at, now())'
            ' FROM predictions.%I o LEFT JOIN predictions.%I n ON %s',
            old.history_table, names, theirs, old.table_name, made.table_name, same);
    END IF;
    UPDATE scorebeat.prediction_sets SET history_table = NULL WHERE id = old.id;
    UPDATE scorebeat.prediction_sets SET history_table = old.history_table WHERE id = set_id;
END"""
SHOW_GENERATION = f"""\
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
END"""
DROP_GENERATION = """\
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
END"""
REPLACE_ROWS = """\
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
END"""


def upgrade() -> None:
    _columns(op.add_column)
    for signature, body, again in (
        ("complete_generation(set_id bigint) RETURNS void", COMPLETE_GENERATION, " OR REPLACE"),
        ("show_generation(set_id bigint) RETURNS void", SHOW_GENERATION, " OR REPLACE"),
        ("drop_generation(set_id bigint) RETURNS boolean", DROP_GENERATION, " OR REPLACE"),
        ("replace_rows(set_id bigint, seen jsonb) RETURNS bigint", REPLACE_ROWS, ""),
    ):
        _run(_HEAD.format(again, signature=signature, body=body))
    _run("REVOKE ALL ON FUNCTION scorebeat.replace_rows(bigint, jsonb) FROM PUBLIC")


def downgrade() -> None:
    _run("DROP FUNCTION scorebeat.replace_rows(bigint, jsonb)")
    before = import_module("scorebeat.db.schema.migrations.versions.0009_functions_of_the_owner").FUNCTIONS
    for signature, body in before.items():
        if signature.startswith(("complete_generation", "show_generation", "drop_generation")):
            _run(_HEAD.format(" OR REPLACE", signature=signature, body=body))
    _columns(lambda table, column, schema: op.drop_column(table, column.name, schema=schema))


def _run(statement: str) -> None:
    """Run it as it is: `op.execute` doubles each per cent sign, but is what writes a script."""
    if op.get_context().as_sql:
        op.execute(statement)
    else:
        op.get_bind().exec_driver_sql(statement)


def _columns(change: Callable[..., object]) -> None:
    for table, name, kind, comment in (
        ("prediction_sets", "history_table", sa.Text(), "table of replaced predictions; NULL: none"),
        ("prediction_sets", "changed_at", sa.Text(), "column of the query whose values its table stores; NULL: none"),
        ("runs", "followed_at", sa.DateTime(timezone=True), None),
        ("runs", "rows_removed", sa.BigInteger(), "predictions without a source row that were deleted after it"),
        ("batches", "probe_row", postgresql.JSONB(), "what the row of `probe_key` was read with"),
        (
            "quarantine",
            "changed_at",
            sa.Numeric(),
            "the row's value of the job's changed_at column; NULL: none, or not known",
        ),
    ):
        change(table, sa.Column(name, kind, nullable=True, comment=comment), schema="scorebeat")
