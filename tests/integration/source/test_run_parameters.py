"""`:due_at`, `:run_id` and declared parameters: typed values that no setting changes, the same for a whole run."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import JobsFile
from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.ticks.tick import tick
from scorebeat.producer.requests import requeue
from scorebeat.producer.requests.apply import NO_OPTIONS, apply, difference
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import publish
from scorebeat.producer.versions.comparison import compare
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support.cli_fixtures import Cli, refused, scorebeat
from tests.support.shop import PLAIN, Shop

pytestmark = pytest.mark.wide

__all__ = ["scorebeat"]

DUE = datetime(2026, 7, 1, 2, 30, 0, 123456, tzinfo=UTC)
HOSTILE = r"it's \'; COMMIT; DROP TABLE precious; -- C:\temp\new E'\\' $$ :least"
VALUES: dict[str, Any] = {
    "words": HOSTILE,
    "least": -5,
    "most": 2**40,
    "share": 0.1,
    "huge": 1e300,
    "never": float("inf"),
    "on": True,
    "day": date(2026, 2, 1),
    "local": datetime(2026, 2, 1, 3, 4, 5, 678),
    "at": datetime.fromisoformat("2026-02-01T03:04:05.000678+05:30"),
}
TYPES = {
    "words": "text",
    "least": "integer",
    "most": "bigint",
    "share": "double precision",
    "huge": "double precision",
    "never": "double precision",
    "on": "boolean",
    "day": "date",
    "local": "timestamp without time zone",
    "at": "timestamp with time zone",
}
SETTINGS = {
    "as they are": (),
    "backslashes escape": ("standard_conforming_strings = off", "escape_string_warning = off"),
    "days first": ("datestyle = 'SQL, DMY'", "timezone = 'America/New_York'"),
    "types of the same names": ("search_path = mine, public", "intervalstyle = 'sql_standard'"),
}


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Shop:
    made = Shop(settings)
    made.add_model(tmp_path)
    made.sql(
        "CREATE TABLE items (id int PRIMARY KEY, day date, x float8 DEFAULT 1)",
        "INSERT INTO items SELECT n, date '2026-06-28' + n % 4 FROM generate_series(1, 40) n",
        "CREATE TABLE precious (id int)",
        "CREATE SCHEMA mine",
        "CREATE DOMAIN mine.date AS text",
    )
    return made


def a_job(query: str, **more: Any) -> Job:
    return Job.model_validate({"name": "echoed", "query": query, "key": "id", "model": "echo", **more})


def score(shop: Shop, p: Producer, runtime: Runtime, run_id: int) -> None:
    plan(p, run_id)
    for (batch,) in shop.sql(f"SELECT id FROM scorebeat.batches WHERE run_id = {run_id} ORDER BY number"):
        score_batch(batch, runtime)
    assert shop.sql(f"SELECT state, reason FROM scorebeat.runs WHERE id = {run_id}") == [("succeeded", None)]


def labels(shop: Shop) -> dict[int, str]:
    return dict(shop.sql("SELECT id, label FROM predictions.echoed"))


def bound_by_the_driver(shop: Shop, select: str) -> list[Any]:
    """The oracle: psycopg2's own parameters, with types by casts, in a session whose settings are PostgreSQL's own."""
    url = make_url(shop.url).set(query=shop._host()).render_as_string(hide_password=False)
    opened = psycopg2.connect(url, client_encoding="UTF8", options=PLAIN)
    with opened, opened.cursor() as cursor:
        cursor.execute(select, VALUES)
        found = list(cursor.fetchall())
    opened.close()
    return found


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize("settings_of", SETTINGS)
def test_each_parameter_has_its_type_and_value_whatever_the_settings(shop: Shop, settings_of: str) -> None:
    shop.alter(*SETTINGS[settings_of])
    shown = {name: name for name in VALUES} | {"at": "extract(epoch FROM at)", "local": "to_json(local)"}
    rows = " UNION ALL ".join(
        f"SELECT {n}, pg_typeof(%s)::pg_catalog.text || ' ' || {shown[name].replace(name, '%s')}::pg_catalog.text"
        for n, name in enumerate(VALUES)
    )
    ours = rows.replace("%s", "{}").format(*(f":{name}" for name in VALUES for _ in range(2)))
    days = f"to_char(:day, 'YYYY-MM-DD') FROM ({ours}) AS q (id, word)"

    with shop.at_work() as (p, runtime):
        apply(p, [a_job(f"SELECT id, 1.0::float8 AS x, word, {days}", parameters=VALUES, batch_rows=3)], "test")
        score(shop, p, runtime, enqueue(p, Request("echoed", "test")).run_id)

    typed = rows.replace("%s", "{}").format(*(f"(%({n})s)::{TYPES[n]}" for n in VALUES for _ in range(2)))
    expected = dict(bound_by_the_driver(shop, typed.replace("pg_catalog.text", "text")))
    del expected[list(VALUES).index("day")]  # a date as text follows DateStyle; `days` compares it
    assert {key: label for key, label in labels(shop).items() if key in expected} == expected
    assert shop.sql("SELECT count(*) FROM precious") == [(0,)]


@pytest.mark.parametrize("settings_of", SETTINGS)
def test_a_run_has_one_due_time_and_number_for_all_its_rows(shop: Shop, settings_of: str) -> None:
    shop.alter(*SETTINGS[settings_of])
    query = (
        "SELECT id, extract(epoch FROM :due_at)::float8 AS x, :run_id || ' ' || pg_typeof(:due_at) AS word"
        " FROM items WHERE day < (:due_at AT TIME ZONE 'UTC')::pg_catalog.date"
    )
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query, batch_rows=7)], "test")
        run_id = enqueue(p, Request("echoed", "test", due_at=DUE)).run_id
        score(shop, p, runtime, run_id)

    assert set(labels(shop).values()) == {f"{run_id} timestamp with time zone"}
    assert shop.sql("SELECT DISTINCT y FROM predictions.echoed") == [(DUE.timestamp(),)]
    assert set(labels(shop)) == {n for n in range(1, 41) if n % 4 < 3}
    assert shop.sql("SELECT due_at FROM scorebeat.runs") == [(DUE,)]


def test_a_run_by_hand_is_due_when_it_is_enqueued_and_a_tick_when_it_was_due(shop: Shop) -> None:
    query = (
        "SELECT id, extract(epoch FROM :due_at)::float8 AS x, :run_id::text AS word FROM items WHERE id <= :run_id * 5"
    )
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query, schedule="0 2 * * *")], "test")
        score(shop, p, runtime, enqueue(p, Request("echoed", "test")).run_id)
        shop.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days'")
        by_tick = tick(p, "echoed")
        assert by_tick is not None
        score(shop, p, runtime, by_tick)

    times = shop.sql("SELECT coalesce(due_at, created_at), due_at IS NULL, deadline_at FROM scorebeat.runs ORDER BY id")
    assert [is_by_hand for _, is_by_hand, _ in times] == [True, False]
    assert shop.sql("SELECT DISTINCT label, y FROM predictions.echoed ORDER BY label") == [
        ("1", times[0][0].timestamp()),
        ("2", times[1][0].timestamp()),
    ]
    assert (times[1][0].hour, times[1][0].minute) == (2, 0)


def test_a_person_whose_account_has_the_schedulers_name_is_a_person(
    shop: Shop, scorebeat: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "beat")
    with shop.at_work() as (p, _):
        apply(p, [a_job("SELECT id, 1.0::float8 AS x, :due_at::text AS word FROM items", deadline="1h")], "test")
        assert scorebeat("enqueue", "echoed", "--due-at", DUE.isoformat()).exit_code == 0

    ((by, due_at, is_from_now),) = shop.sql("SELECT created_by, due_at, deadline_at > created_at FROM scorebeat.runs")
    assert (by, due_at, is_from_now) == ("user beat", DUE, True)


@pytest.mark.quick
def test_a_job_that_changes_in_the_middle_changes_no_run_that_is_open(shop: Shop) -> None:
    query = "SELECT id, x, :words || :run_id AS word FROM items WHERE id < :least"
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query, parameters={"words": "old", "least": 20}, batch_rows=5)], "test")
        run_id = enqueue(p, Request("echoed", "test")).run_id
        plan(p, run_id)
        first, *rest = shop.sql("SELECT id FROM scorebeat.batches ORDER BY number")
        score_batch(first[0], runtime)
        apply(p, [a_job(query, parameters={"words": "new", "least": 30}, batch_rows=5)], "test")
        runtime.forget_job(run_id)
        dead = "state = 'dead', error = 'x', sent_at = NULL, finished_at = now()"
        shop.sql(f"UPDATE scorebeat.batches SET {dead} WHERE id = {rest[0][0]}")
        for (batch,) in rest[1:]:
            score_batch(batch, runtime)
        assert requeue.requeue(p, run_id, "test") == 1
        score_batch(rest[0][0], Runtime(shop.settings, name="w2"))
        assert labels(shop) == dict.fromkeys(range(1, 20), "old1")
        score(shop, p, runtime, enqueue(p, Request("echoed", "test", parameters={"words": "mine"})).run_id)

    assert {key: label for key, label in labels(shop).items() if key >= 20} == dict.fromkeys(range(20, 30), "mine2")


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown name": (
        "SELECT id, x, 'a' AS word FROM items WHERE day < :due_att",
        {"least": 1},
        r"has :due_att, which is no parameter; known are :due_at, :run_id, :least\. Did you mean 'due_at'",
    ),
    "a declared one that is not used": (
        "SELECT id, x, ':least' AS word FROM items",
        {"least": 1, "most": 2},
        "the query does not use :least, :most; write it into the query, or take it out",
    ),
    "a value of the wrong type": (
        "SELECT id, x, 'a' AS word FROM items WHERE id < :least",
        {"least": date(2026, 1, 1)},
        "operator does not exist: integer < date",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_parameters_that_do_not_fit_the_query_are_refused_by_apply(shop: Shop, what: str) -> None:
    query, parameters, message = WRONG[what]

    with shop.producer() as p, pytest.raises(UsageError, match=message):
        apply(p, [a_job(query, parameters=parameters)], "test")

    assert shop.sql("SELECT count(*) FROM scorebeat.jobs") == [(0,)]


@pytest.mark.parametrize("settings_of", ["as they are", "backslashes escape"])
def test_colons_of_sqls_own_go_on_working(shop: Shop, settings_of: str) -> None:
    shop.alter(*SETTINGS[settings_of])
    escaped = r"'it\'s :x'" if settings_of == "backslashes escape" else r"'a\'"
    query = (
        f"SELECT id, x, concat(':x', $a$:x$a$, {escaped}, (ARRAY[10,20,30,40])[lo:hi]::text, (ARRAY[1,2,3])[:hi],"
        " json_object('k':lo)) AS word /* :x */ FROM items CROSS JOIN (SELECT 2 AS lo, 3 AS hi) AS b -- :x"
    )
    expected = shop.sql(f"SET standard_conforming_strings = {'off' if 'it' in escaped else 'on'}", query)
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query)], "test")
        score(shop, p, runtime, enqueue(p, Request("echoed", "test")).run_id)

    assert labels(shop) == {row[0]: row[2] for row in expected}


def test_a_request_that_would_change_nothing_is_refused_by_enqueue(shop: Shop, scorebeat: Cli) -> None:
    query = "SELECT id, x, 'a' AS word FROM items WHERE id > :least AND day > :day"
    with shop.producer() as p:
        apply(p, [a_job(query, parameters={"least": 1, "day": date(2026, 1, 1)})], "test")

    refused(scorebeat("enqueue", "echoed", "--due-at", "2026-07-01"), "does not use :due_at")
    refused(scorebeat("enqueue", "echoed", "--parameter", "leest=1"), "has no parameter 'leest'. Did you mean 'least'?")
    refused(scorebeat("enqueue", "echoed", "--parameter", "least=one"), "expected a value of type integer, such as 1")
    refused(scorebeat("enqueue", "echoed", "--parameter", "day=1.7.2026"), "expected a value of type date")
    refused(scorebeat("enqueue", "echoed", "--parameter", "least"), "expected NAME=VALUE")
    assert shop.sql("SELECT count(*) FROM scorebeat.runs") == [(0,)]
    assert scorebeat("enqueue", "echoed", "--parameter", "least=7", "--parameter", "day=2026-06-30").exit_code == 0
    ((spec,),) = shop.sql("SELECT spec -> 'parameters' FROM scorebeat.runs")
    assert spec == {"least": {"type": "integer", "text": "7"}, "day": {"type": "date", "text": "2026-06-30"}}


def test_a_time_is_read_in_the_time_zone_of_the_schedule(shop: Shop, scorebeat: Cli) -> None:
    query = "SELECT id, x, 'a' AS word FROM items WHERE day < :due_at::date"
    with shop.producer() as p:
        apply(p, [a_job(query, schedule="0 2 * * *", timezone="Europe/Berlin")], "test")

    refused(scorebeat("enqueue", "echoed", "--due-at", "tomorrow"), "'tomorrow' is no time; expected ISO 8601")
    named = ("enqueue", "echoed", "--run-key", "july")
    assert scorebeat(*named, "--due-at", "2026-07-01T02:00").exit_code == 0
    assert scorebeat(*named, "--due-at", "2026-07-01T00:00Z").exit_code == 0
    refused(scorebeat(*named, "--due-at", "2026-07-02"), "made run 1 for 2026-07-01T00:00:00+00:00")
    assert shop.sql("SELECT due_at FROM scorebeat.runs") == [(datetime(2026, 7, 1, tzinfo=UTC),)]


def test_changed_parameters_are_reported_as_a_changed_query_is(shop: Shop) -> None:
    query = "SELECT id, x, 'a' AS word FROM items WHERE id < :least"
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query, parameters={"least": 20})], "test")
        score(shop, p, runtime, enqueue(p, Request("echoed", "test")).run_id)
        changed = a_job(query, parameters={"least": 30})
        (file,) = _files(changed)
        dry = difference(p, [file], NO_OPTIONS)
        done = apply(p, [changed], "test")

    assert dry.differences == {"echoed": ["parameters.least 20 -> 30"]}
    assert done.of_old_query == ["echoed"]
    assert "19 predictions come from the query that it had before" in done.notes[0]


def _files(job: Job) -> list[Any]:

    return [JobsFile(Path("jobs.toml"), "jobs.toml", (job,))]


def test_predictions_of_other_due_times_are_neither_orphans_nor_left_out(
    shop: Shop, scorebeat: Cli, tmp_path: Path
) -> None:
    query = "SELECT id, x, 'a' AS word FROM items WHERE day = :due_at::date"
    with shop.at_work() as (p, runtime):
        apply(p, [a_job(query, schedule="every day")], "test")
        for day in (28, 29):
            at = datetime(2026, 6, day, tzinfo=UTC)
            score(shop, p, runtime, enqueue(p, Request("echoed", "test", due_at=at)).run_id)
        (tmp_path / "other.echo").write_text("{ }")
        publish.add(p, tmp_path / "other.echo", "echo", "test")
        candidate = enqueue(p, Request("echoed", "test", 2, due_at=datetime(2026, 6, 29, tzinfo=UTC))).run_id
        score(shop, p, runtime, candidate)
        (seen,) = compare(p, "echo", 2)
        ((table,),) = shop.sql("SELECT table_name FROM scorebeat.prediction_sets WHERE model_version = 1")
        shop.sql(f"UPDATE predictions.{table} SET scored_at = now() - interval '1 year'")

    pruned = scorebeat("prune", "--older-than", "90d", "--even-most")

    assert seen.coverage == 0.5
    assert "gives other rows for each run" in pruned.stderr
    assert len(labels(shop)) == 20
