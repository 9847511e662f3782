"""The user's tables change while a run is on, or between two: never a value of another type, and no job is stuck."""

import pytest

from scorebeat.core.errors import SignatureError, UsageError
from scorebeat.core.states import RunState
from scorebeat.db.ledger import jobs
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.apply import check as check_job
from tests.contract.typed_rows import TypedRows, rows

pytestmark = pytest.mark.wide(slow=10, quick=60)

__all__ = ["rows"]

TWICE = """
    class Twice:
        inputs = {"x": "float64"}
        outputs = {"y": "float64"}
        def __init__(self, files, device):
            pass
        def predict(self, rows):
            return {"y": [None if x is None else 2 * x for x in rows.column(0).to_pylist()]}
"""


@pytest.fixture(scope="module")
def twice(rows: TypedRows) -> str:
    rows.add("twice", TWICE, "Twice")
    return "twice"


def table(rows: TypedRows, name: str, x: str = "n", count: int = 40, key: str = "n") -> None:
    rows.sql(f"CREATE TABLE {name} AS SELECT {key} AS id, ({x}) AS x FROM generate_series(1, {count}) AS n")
    rows.sql(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
    rows.sql(f"ANALYZE {name}")


CHANGES = {
    "float8 to money": ("n::float8", "ALTER x TYPE money USING x::numeric::money", "money"),
    "numeric to money": ("n::numeric", "ALTER x TYPE money USING x::money", "money"),
    "float8 to text": ("n::float8", "ALTER x TYPE text", "string cannot become double"),
    "a column that is dropped": ("n::float8", "DROP x", "x"),
    "a column with another name": ("n::float8", "RENAME x TO z", "x"),
}


@pytest.mark.slow(quick=5)
@pytest.mark.parametrize("change", CHANGES)
def test_a_column_that_changes_in_mid_run_leads_to_no_wrong_prediction(
    rows: TypedRows, twice: str, change: str
) -> None:
    x, alter, reason = CHANGES[change]
    name = "mid_" + change.replace(" ", "_")
    table(rows, name, x)
    job = rows.job(name, twice, batch_rows=10)
    run_id = rows.planned(job)
    first, *others = rows.batches(run_id)
    rows.score(run_id, [first])

    rows.sql(f"ALTER TABLE {name} {alter}")
    rows.score(run_id, others)

    assert rows.sql(f"SELECT id, y FROM predictions.{name} ORDER BY id") == [(n, 2.0 * n) for n in range(1, 11)]
    assert rows.run(run_id).state is RunState.PARTIAL
    assert len(rows.errors(run_id)) == 3
    assert all(reason in error for error in rows.errors(run_id)), rows.errors(run_id)


def test_a_number_that_becomes_an_array_feeds_the_only_input_where_it_fits(rows: TypedRows, twice: str) -> None:
    table(rows, "to_array", "n::float8", 20)
    job = rows.job("to_array", twice, batch_rows=10)
    run_id = rows.planned(job)

    rows.sql("ALTER TABLE to_array ALTER x TYPE float8[] USING CASE WHEN id = 3 THEN ARRAY[x, x] ELSE ARRAY[x] END")
    rows.score(run_id)

    assert rows.quarantined(job).keys() == {"3"}
    assert rows.sql("SELECT id, y FROM predictions.to_array ORDER BY id") == [
        (n, 2.0 * n) for n in range(1, 21) if n != 3
    ]


LEGITIMATE = {
    "int4 to int8": ("n::int4", "ALTER x TYPE int8"),
    "float4 to float8": ("n::float4", "ALTER x TYPE float8"),
    "float8 to numeric": ("n::float8", "ALTER x TYPE numeric"),
    "numeric to float8": ("n::numeric", "ALTER x TYPE float8"),
}


@pytest.mark.parametrize("change", LEGITIMATE)
def test_a_change_that_the_model_takes_is_followed_by_the_next_attempt(
    rows: TypedRows, twice: str, change: str
) -> None:
    x, alter = LEGITIMATE[change]
    name = "fit_" + change.replace(" ", "_")
    table(rows, name, x)
    job = rows.job(name, twice, batch_rows=10)
    run_id = rows.planned(job)
    first, *others = rows.batches(run_id)
    rows.score(run_id, [first])

    rows.sql(f"ALTER TABLE {name} {alter}")
    rows.score(run_id, others)

    assert rows.run(run_id).state is RunState.SUCCEEDED
    assert rows.sql(f"SELECT id, y FROM predictions.{name} ORDER BY id") == [(n, 2.0 * n) for n in range(1, 41)]
    assert rows.sql(f"SELECT attempt FROM scorebeat.batches WHERE run_id = {run_id} ORDER BY number") == [1, 2, 1, 1]


def test_an_enum_that_is_made_anew_with_other_labels_is_read_anew(rows: TypedRows) -> None:
    rows.sql("CREATE TYPE size AS ENUM ('s', 'm')")
    table(rows, "sized", "'m'::size", 20)
    job = rows.job("sized", rows.echo("string"), batch_rows=10)
    run_id = rows.planned(job)
    first, second = rows.batches(run_id)
    rows.score(run_id, [first])

    rows.sql("ALTER TYPE size RENAME TO old_size")
    rows.sql("CREATE TYPE size AS ENUM ('l', 'xl')")
    rows.sql("ALTER TABLE sized ALTER x TYPE size USING 'xl'")
    rows.score(run_id, [second])

    assert [rows.seen(job)[n] for n in (1, 20)] == ["'m'", "'xl'"]
    assert rows.sql(f"SELECT attempt FROM scorebeat.batches WHERE id = {second}") == [2]


WIDER = {
    "int2 to int4": ("n::int2", "int4", "100000"),
    "int4 to int8": ("n::int4", "int8", "5000000000"),
    "int2 to int8": ("n::int2", "int8", "-5000000000"),
    "varchar(3) to varchar(9)": ("n::varchar(3)", "varchar(9)", "'abcdefghi'"),
    "varchar(3) to text": ("n::varchar(3)", "text", "'a long text'"),
    "varchar(3) to varchar": ("n::varchar(3)", "varchar", "'a long text'"),
    "char(3) to char(9)": ("n::char(3)", "char(9)", "'abcdefghi'"),
    "numeric(5,0) to numeric(9,2)": ("n::numeric(5,0)", "numeric(9,2)", "1234567.25"),
}


@pytest.mark.parametrize("rescore", ["never", "every-run"])
@pytest.mark.parametrize("change", WIDER)
def test_a_key_that_becomes_wider_is_followed_by_the_next_run(
    rows: TypedRows, twice: str, change: str, rescore: str
) -> None:
    key, kind, new = WIDER[change]
    name = "".join(c if c.isalnum() else "_" for c in f"wide_{change}_{rescore}").replace("__", "_").rstrip("_")[:40]
    table(rows, name, "n::float8", 20, key)
    job = rows.job(name, twice, rescore=rescore)
    assert rows.scored(job).state is RunState.SUCCEEDED
    rows.sql(f"COMMENT ON VIEW predictions.{name} IS 'for all'")
    rows.sql(f"GRANT SELECT ON predictions.{name} TO PUBLIC")

    rows.sql(f"ALTER TABLE {name} ALTER id TYPE {kind}")
    rows.sql(f"INSERT INTO {name} VALUES ({new}, 21)")
    run = rows.scored(job)

    assert run.state is RunState.SUCCEEDED
    assert rows.sql(f"SELECT count(*), sum(y) FROM {name} JOIN predictions.{name} USING (id)") == [(21, 2.0 * 231)]
    assert rows.sql(f"SELECT obj_description('predictions.{name}'::regclass)") == ["for all"]
    assert rows.sql(f"SELECT has_table_privilege('public', 'predictions.{name}', 'SELECT')") == [True]


def test_a_key_that_becomes_narrower_again_is_stored_in_the_wider_table(rows: TypedRows, twice: str) -> None:
    table(rows, "narrower", "n::float8", 5, "n::int8")
    job = rows.job("narrower", twice)
    rows.scored(job)

    rows.sql("ALTER TABLE narrower ALTER id TYPE int2")
    rows.sql("INSERT INTO narrower VALUES (6, 6)")

    assert rows.scored(job).state is RunState.SUCCEEDED
    assert rows.sql("SELECT id, y FROM predictions.narrower ORDER BY id") == [(n, 2.0 * n) for n in range(1, 7)]


def test_a_key_that_becomes_wider_stops_the_run_and_the_next_scores_the_rest(rows: TypedRows, twice: str) -> None:
    table(rows, "mid_key", "n::float8")
    job = rows.job("mid_key", twice, batch_rows=10)
    run_id = rows.planned(job)
    first, *others = rows.batches(run_id)
    rows.score(run_id, [first])

    rows.sql("ALTER TABLE mid_key ALTER id TYPE int8")
    rows.sql("INSERT INTO mid_key VALUES (5000000000, 41)")
    rows.score(run_id, others)

    assert rows.run(run_id).state is RunState.PARTIAL
    assert all("wider than" in error and "next run" in error for error in rows.errors(run_id))
    assert rows.scored(job).state is RunState.SUCCEEDED
    assert rows.sql("SELECT y FROM mid_key LEFT JOIN predictions.mid_key USING (id) ORDER BY id") == [
        2.0 * n for n in range(1, 42)
    ]


def test_rows_in_quarantine_keep_their_keys_when_those_become_wider(rows: TypedRows, twice: str) -> None:
    table(rows, "quarantined_key", "CASE n WHEN 3 THEN NULL ELSE n END::float8", 5)
    job = rows.job("quarantined_key", twice, null_inputs="quarantine")
    rows.scored(job)
    rows.sql("ALTER TABLE quarantined_key ALTER id TYPE int8")

    run = rows.scored(job)

    assert rows.quarantined(job).keys() == {"3"}
    assert rows.batches(run.id) == []


def test_another_key_is_refused_and_apply_goes_on_with_other_jobs(rows: TypedRows, twice: str) -> None:
    table(rows, "other_key", "n::float8", 5)
    job = rows.job("other_key", twice)
    rows.scored(job)
    table(rows, "beside", "n::float8", 5)
    rows.sql("ALTER TABLE other_key ALTER id TYPE text")

    with pytest.raises(SignatureError, match=r"key is \(id text\) now, .* under \(id integer\)"):
        rows.planned(job)
    beside = job.model_copy(update={"name": "beside", "query": "SELECT * FROM beside"})
    applied = apply(rows.producer, [job, beside], "test")

    assert applied.added == ["beside"]
    assert any("other_key" in note and "id text" in note for note in applied.notes)
    with pytest.raises(SignatureError):
        check(rows, "other_key")


def test_a_job_that_is_wrong_itself_is_still_refused_with_all_others(rows: TypedRows, twice: str) -> None:
    table(rows, "refused_alone", "n::float8", 5)
    job = rows.job("refused_alone", twice)
    changed = job.model_copy(update={"query": "SELECT id, x AS z FROM refused_alone"})

    with pytest.raises(UsageError, match="Nothing was applied"):
        apply(rows.producer, [changed], "test")


def check(rows: TypedRows, name: str) -> None:
    """As `scorebeat check` looks at a job."""
    with rows.producer.engine.connect() as connection:
        check_job(connection, rows.producer.url, jobs.get(connection, name).job)
