"""A generation is filled without its primary key, which is built once, before the generation is shown."""

from collections.abc import Callable
from importlib import import_module

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
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
OPEN_WITHOUT_KEY = """\
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
END"""
BUILD_KEY = """\
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
END"""
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
END"""
_NEW = {
    "open_generation_without_key(bigint, integer, text)": (
        "open_generation_without_key(like_set bigint, number integer, new_table text) RETURNS bigint",
        OPEN_WITHOUT_KEY,
    ),
    "build_key(bigint)": ("build_key(set_id bigint) RETURNS boolean", BUILD_KEY),
}


def upgrade() -> None:
    _columns(op.add_column)
    for name, (signature, body) in _NEW.items():
        _run(_HEAD.format("", signature=signature, body=body))
        _run(f"REVOKE ALL ON FUNCTION scorebeat.{name} FROM PUBLIC")
    _run(
        _HEAD.format(
            " OR REPLACE", signature="complete_generation(set_id bigint) RETURNS void", body=COMPLETE_GENERATION
        )
    )


def downgrade() -> None:
    before = import_module("scorebeat.db.schema.migrations.versions.0016_rows_that_changed").COMPLETE_GENERATION
    _run(_HEAD.format(" OR REPLACE", signature="complete_generation(set_id bigint) RETURNS void", body=before))
    for name in _NEW:
        _run(f"DROP FUNCTION scorebeat.{name}")
    _columns(lambda table, column, schema: op.drop_column(table, column.name, schema=schema))


def _run(statement: str) -> None:
    """Run it as it is: `op.execute` doubles each per cent sign, but is what writes a script."""
    if op.get_context().as_sql:
        op.execute(statement)
    else:
        op.get_bind().exec_driver_sql(statement)


def _columns(change: Callable[..., object]) -> None:
    for table, name, kind, comment in (
        (
            "prediction_sets",
            "unbuilt_key",
            postgresql.ARRAY(sa.Text()),
            "columns of its primary key, while that is not built; NULL: it is",
        ),
        ("runs", "key_error", sa.Text(), "why the primary key of its predictions could not be built the last time"),
        ("runs", "key_retry_at", sa.DateTime(timezone=True), None),
        (
            "workers",
            "fills_without_key",
            sa.Boolean(),
            "its program knows generations without a key; NULL: it is older",
        ),
    ):
        change(table, sa.Column(name, kind, nullable=True, comment=comment), schema="scorebeat")
