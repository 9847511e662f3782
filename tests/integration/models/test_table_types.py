"""A process compares its memory of a prediction table at each commit: the driver itself compares no types."""

import re

import pytest

from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]


def _half_scored(points: Points) -> tuple[int, str, list[int]]:
    """A run, its prediction table, and the batches that are left after the first one was scored."""
    points.sql("CREATE TABLE points (id int PRIMARY KEY, x float8)")
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(1, 60) i")
    points.model({})
    run = points.planned(points.job(batch_rows=20))
    first, *rest = points.pending(run)
    assert score_batch(first, points.runtime) is Outcome.COMMITTED
    points.sql("DROP VIEW predictions.points_job CASCADE")  # PostgreSQL changes no column that a view shows
    (name,) = points.sql("SELECT table_name FROM scorebeat.prediction_sets")
    return run, f'predictions."{name}"', rest


def test_a_key_that_became_wider_between_two_batches_is_written_as_it_is_now(points: Points) -> None:
    run, table, rest = _half_scored(points)
    before = points.sql(f"SELECT id, value FROM {table} ORDER BY id")

    points.sql(f"ALTER TABLE {table} ALTER COLUMN id TYPE bigint")

    assert [score_batch(batch, points.runtime) for batch in rest] == [Outcome.COMMITTED] * 2
    after = points.sql(f"SELECT id, value FROM {table} ORDER BY id")
    assert [key for key, _ in after] == list(range(1, 61))
    assert after[:20] == before
    assert points.sql("SELECT state FROM scorebeat.runs WHERE id = :id", id=run) == ["succeeded"]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    "change",
    [
        "ALTER COLUMN value TYPE bigint USING 1",
        "ALTER COLUMN value TYPE text",
        "DROP COLUMN value, ADD COLUMN value bigint",
    ],
)
def test_a_column_of_another_type_takes_no_bytes_that_were_made_for_the_one_before(points: Points, change: str) -> None:
    _, table, rest = _half_scored(points)

    points.sql(f"ALTER TABLE {table} {change}")
    points.attempt(rest[0])

    assert len(points.errors) == 1
    assert "predictions do not fit" in points.errors[0]
    assert "Nothing was written" in points.errors[0]
    assert points.sql(f"SELECT count(*) FROM {table}") == [20]


CHANGES = {
    "a trigger that leaves rows out": (
        "CREATE FUNCTION left_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER strange BEFORE INSERT ON {0} FOR EACH ROW WHEN (new.id > 25) EXECUTE FUNCTION left_out()",
        "it has the trigger strange",
        "DROP TRIGGER strange ON {0}",
    ),
    "a trigger that changes rows": (
        "CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.value := 0; RETURN new; END $$",
        "CREATE TRIGGER strange BEFORE INSERT OR UPDATE ON {0} FOR EACH ROW EXECUTE FUNCTION changed()",
        "it has the trigger strange",
        "ALTER TABLE {0} DISABLE TRIGGER strange",
    ),
    "a rule": (
        "SELECT 1",
        "CREATE RULE strange AS ON INSERT TO {0} DO INSTEAD NOTHING",
        "it has the rule strange",
        "DROP RULE strange ON {0}",
    ),
    "no primary key": (
        "SELECT 1",
        "ALTER TABLE {0} DROP CONSTRAINT {1}",
        r"its primary key is not \(id\)",
        "ALTER TABLE {0} ADD PRIMARY KEY (id)",
    ),
}


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("what", list(CHANGES))
def test_a_table_that_alters_inserted_rows_fails_the_batch_until_it_is_restored(points: Points, what: str) -> None:
    before, change, reason, back = CHANGES[what]
    run, table, rest = _half_scored(points)
    (key,) = points.sql(f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'p'")
    points.sql(before)
    points.sql(change.format(table, key))

    points.attempt(rest[0])

    assert re.search(rf"^OutputError: {re.escape(table)} is not as it was made: {reason}", points.errors[0])
    assert points.sql(f"SELECT count(*) FROM {table}") == [20]
    assert points.batches(run) == [("committed", 1), ("dead", 1), ("pending", 0)]
    points.sql(back.format(table))
    assert score_batch(rest[1], points.runtime) is Outcome.COMMITTED
    assert points.sql(f"SELECT count(*) FROM {table} WHERE value = 2 * (id + 0.5)") == [40]


def test_a_trigger_that_was_there_at_the_start_fails_the_batch_too(points: Points) -> None:
    _, table, rest = _half_scored(points)
    points.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    points.sql(f"CREATE TRIGGER keep BEFORE DELETE OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    points.sql("CREATE FUNCTION ping() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY scored; RETURN NULL; END $$")
    points.sql(f"CREATE TRIGGER ping AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION ping()")
    points.sql(f"CREATE TRIGGER ping_once BEFORE INSERT ON {table} EXECUTE FUNCTION ping()")
    points.sql(f"CREATE TABLE noted (id int REFERENCES {table})")
    assert score_batch(rest[0], points.runtime) is Outcome.COMMITTED

    points.sql(f"CREATE TRIGGER strange BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    points.runtime = Runtime(points.settings, name="w2")
    points.attempt(rest[1])
    points.runtime.close()

    assert "it has the trigger strange, which may change or leave out what is inserted" in points.errors[0]
    assert points.sql(f"SELECT count(*) FROM {table}") == [40]
