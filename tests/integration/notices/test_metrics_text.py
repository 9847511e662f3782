"""The text of a full ledger passes Prometheus' lint, is cheap, and has what dashboard, alerts and page name."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # publishes no types
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Engine, text

from scorebeat.core.prices.price_list import Price, PriceList
from scorebeat.db.closing import run_totals
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import jobs
from scorebeat.db.processes import workers
from scorebeat.db.records import price_list
from scorebeat.db.reports import metrics as numbers
from scorebeat.producer import metrics
from tests.support.fixtures import REPOSITORY
from tests.support.ledger_fixtures import shared_engine
from tests.support.ledger_rows import add_run
from tests.support.scrape import Samples, of, samples, types

__all__ = ["shared_engine"]

GRAFANA = sorted((REPOSITORY / "deploy/grafana").glob("*.json"))
ALERTS = REPOSITORY / "deploy/prometheus/alerts.yml"
NAME = re.compile(r"\bscorebeat_\w+")
FINISHED, OPEN_BATCHES = 1_000, 10_000
FEW = 6
PROFILES = (
    "INSERT INTO scorebeat.run_profiles (run_id, job, profile, rows, compared_at, findings)"
    """ SELECT id, job, '', 1000, now(), '[{"psi": 0.1, "reasons": []}, {"psi": 0.3, "reasons": ["PSI 0.30"]}]'"""
)
"""SQL: of two inputs one drifted; a FROM follows."""
FAILED = (
    'UPDATE scorebeat.jobs SET spec = spec || \'{"gate": {"drift": "hold"}}\';'
    "UPDATE scorebeat.runs SET spec = (SELECT spec FROM scorebeat.jobs WHERE name = job);"
    "INSERT INTO scorebeat.run_profiles (run_id, job, profile, rows, compared_at, why_not, failure)"
    " SELECT id, job, '', 0, now(), "
)
"""SQL: of a job with a gate nothing was compared; why, whether that is a failure, and a FROM follow."""


@pytest.fixture
def full(long_used: Engine) -> Engine:
    """The same ledger, whose workers are alive."""
    with long_used.begin() as connection:
        connection.exec_driver_sql("UPDATE scorebeat.workers SET seen_at = clock_timestamp()")
        connection.exec_driver_sql("UPDATE scorebeat.actions SET at = clock_timestamp()")
    return long_used


@pytest.fixture(scope="module")
def long_used(shared_engine: Engine) -> Iterator[Engine]:
    """1,000 finished runs of 30 batches, and 10 open ones with 1,000 batches each; odd names among the labels."""
    with shared_engine.begin() as connection:
        for number in range(10):
            run_id = add_run(connection, job=f"job_{number}")
            _many(connection, [run_id], OPEN_BATCHES // 10, "CASE WHEN n % 3 = 0 THEN 'pending' ELSE 'committed' END")
            _add_ended(connection, f"job_{number}", FINISHED // 10)
        connection.execute(text('UPDATE scorebeat.jobs SET spec = spec || \'{"deadline": "1h"}\''))
        connection.execute(text('UPDATE scorebeat.jobs SET spec = spec || \'{"schedule": "every 1 day"}\''))
        connection.execute(text('UPDATE scorebeat.jobs SET spec = spec || \'{"truth": "SELECT 1"}\''))
        connection.execute(text('UPDATE scorebeat.jobs SET spec = spec || \'{"gate": {"drift": "hold"}}\''))
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now()"))
        connection.exec_driver_sql(f"{PROFILES} FROM scorebeat.runs WHERE state = 'succeeded'")
        connection.exec_driver_sql(_QUALITY)
        connection.exec_driver_sql(_READING)
        connection.exec_driver_sql(_CANARIES)
        connection.exec_driver_sql(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at, attempts)"
            " SELECT max(id), 'finished', now(), 1 FROM scorebeat.runs"
        )
        connection.execute(text('UPDATE scorebeat.jobs SET spec = spec || \'{"canary": {"every": "1d"}}\''))
        jobs.pause(connection, "job_1", "test", 'a "reason"\nof two lines')
        for _ in range(2):
            workers.seen(connection, "odd", ["cpu", 'new\nline "quoted" \\ slash'], "cpu", 1)
        connection.exec_driver_sql(_CANNOT_LOAD)
        price = Price("cores", "core_hour", 0.04, date(2020, 1, 1))
        price_list.replace(connection, PriceList("EUR", (price,)))
        while run_totals.note(connection).ends:
            pass
    with shared_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    made = make_engine(shared_engine.url.render_as_string(hide_password=False))
    yield made
    made.dispose()


_QUALITY = (
    "INSERT INTO scorebeat.quality SELECT job, model, model_version, date_trunc('week', now())::date - 7 * n, 1, 0, 0,"
    " 1, 1, '{\"accuracy\": 0.5}' FROM scorebeat.prediction_sets, generate_series(0, 2) n"
)
_CANARIES = (
    "INSERT INTO scorebeat.canaries (job, queue, expires_at, finished_at, reported_at, failure)"
    " SELECT name, 'cpu', now(), now(), now(), 'a column is gone' FROM scorebeat.jobs"
)
_CANNOT_LOAD = (
    "INSERT INTO scorebeat.actions (by, action, subject, details) VALUES ('odd', 'model.cannot_load', 'worker odd',"
    """ '{"model": "iris/1", "reason": "row 1 gives 1, not 2", "is_refused": true}')"""
)
_READING = (
    "INSERT INTO scorebeat.truth_readings (job, begun_at, next_at, failure)"
    " SELECT name, now(), now(), 'x' FROM scorebeat.jobs"
)


def _many(connection: Connection, run_ids: list[int], count: int, state: str) -> None:
    connection.execute(
        text(
            "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, rows_scored, attempt,"
            " attempts_left, first_key, last_key, finished_at, claimed_at, claimed_by, device_seconds, cpu_seconds)"
            " SELECT r, n, 'cpu', s, 10,"
            " CASE s WHEN 'committed' THEN 10 ELSE 0 END, 1, 5, '[\"1\"]', '[\"10\"]',"
            " CASE s WHEN 'committed' THEN now() END, CASE s WHEN 'committed' THEN now() - interval '1 s' END,"
            " CASE s WHEN 'committed' THEN 'odd' END, CASE s WHEN 'committed' THEN 0.1 END, 0.05"
            " FROM unnest(CAST(:runs AS bigint[])) AS r,"
            f" LATERAL (SELECT n, {state} AS s FROM generate_series(1, :count) AS n) AS made"
        ),
        {"runs": run_ids, "count": count},
    )


def _add_ended(connection: Connection, job: str, count: int) -> None:
    added = connection.execute(
        text(
            "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by,"
            " created_at, finished_at) SELECT job, model, model_version, prediction_set_id, 'succeeded', spec, 'test',"
            " now() - interval '1 hour', now() FROM scorebeat.runs, generate_series(1, :count)"
            " WHERE job = :job AND state = 'running' RETURNING id"
        ),
        {"job": job, "count": count},
    )
    _many(connection, list(added.scalars()), 30, "'committed'")


def _names(engine: Engine) -> set[str]:
    return {name for name, _ in samples(engine)}


def test_the_text_passes_the_lint_of_prometheus(full: Engine) -> None:
    output = metrics.exposition(full).decode()
    families = list(text_string_to_metric_families(output))
    lines = [line for line in output.splitlines() if not line.startswith("#")]

    assert len(families) == len({f.name for f in families})
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type in ("gauge", "counter"), family.name
        assert re.fullmatch(r"scorebeat_[a-z]+(_[a-z]+)*", family.name)
        assert not re.search(r"_(milliseconds|minutes|hours|kilobytes|count|sum|bucket)$", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample
    series = [(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples]
    assert len(series) == len(set(series)) == len(lines)
    assert set(re.findall(r"^# HELP (\S+) \S", output, re.MULTILINE)) == set(types(output))


def test_odd_values_of_labels_come_back_as_they_were(full: Engine) -> None:
    assert of(samples(full), "workers", queue='new\nline "quoted" \\ slash') == 1


def test_a_scrape_of_a_full_ledger_costs_no_more_than_a_few_looks_at_all_batches(full: Engine) -> None:
    metrics.exposition(full)  # connects
    scrapes, looks = [], []
    for _ in range(7):
        scrapes.append(_seconds(lambda: metrics.exposition(full)))
        looks.append(_seconds(lambda: _all_batches(full)))

    found = samples(full)
    assert sum(of(found, "rows_scored_total", job=f"job_{n}") for n in range(10)) == (
        FINISHED * 30 * 10 + 10 * (OPEN_BATCHES // 10 - OPEN_BATCHES // 30) * 10
    )
    assert min(scrapes) < FEW * min(looks), (scrapes, looks)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _all_batches(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(text("SELECT count(DISTINCT state || finished_at) FROM scorebeat.batches")).scalar_one()
        )


def test_no_scrape_reads_the_batches_of_runs_that_were_counted(full: Engine) -> None:
    statement = (
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
        " WHERE schemaname = 'scorebeat' AND relname = 'batches'"
    )
    with full.connect() as connection:
        before = connection.execute(text(statement)).scalar_one()
        numbers.read(connection)
        rows = connection.execute(text(statement)).scalar_one() - before

    # six looks at the open runs, of which forecasts need three, and one at the newest ended run of each job
    assert OPEN_BATCHES <= rows <= 6 * OPEN_BATCHES + 10 * 30


def test_every_metric_of_the_dashboard_and_the_alerts_is_in_the_text(full: Engine) -> None:
    known = _names(full)

    assert GRAFANA
    for path in (*GRAFANA, ALERTS):
        named = set(NAME.findall(_expressions(path)))
        assert named
        assert named <= known, (path, named - known)


def test_the_panels_of_the_dashboard_stand_apart_and_each_draws_something() -> None:
    (path,) = GRAFANA
    panels = json.loads(path.read_text("utf-8"))["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
    for panel in panels:
        assert panel["type"] == "row" or [t["refId"] for t in panel["targets"]] == list("ABCD")[: len(panel["targets"])]


def test_the_expressions_of_dashboard_and_alerts_are_whole() -> None:
    """What a parser would notice first: brackets, quotes and durations."""
    for path in (*GRAFANA, ALERTS):
        for expression in _expressions(path).splitlines():
            bare = re.sub(r'"[^"]*"', "", expression)
            assert '"' not in bare, expression
            for opening, closing in ("()", "[]", "{}"):
                assert bare.count(opening) == bare.count(closing), expression
            assert all(re.fullmatch(r"\d+[smhd]", window) for window in re.findall(r"\[([^]]*)\]", bare)), expression


def _expressions(path: Path) -> str:
    if path == ALERTS:
        return "\n".join(rule["expr"] for rule in _rules())
    board = json.loads(path.read_text("utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return "\n".join([*expressions, *(v["query"] for v in board["templating"]["list"] if v["type"] == "query")])


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def test_the_alerts_are_those_that_the_page_names() -> None:
    rules = _rules()
    page = (REPOSITORY / "docs/how-to/alert-on-lateness.md").read_text("utf-8")

    assert [rule["alert"] for rule in rules] == re.findall(r"^\| `(Scorebeat\w+)` \|", page, re.MULTILINE)
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[smh]", rule["for"])


RUN_LATE = re.compile(r"scorebeat_(?P<gauge>\w+) < 0 or increase\(scorebeat_(?P<counter>\w+)\[(?P<window>\d+h)\]\) > 0")


def fires(before: Samples, after: Samples, job: str) -> bool:
    """The rule for late runs, evaluated over two scrapes within its window."""
    (rule,) = [rule for rule in _rules() if rule["alert"] == "ScorebeatRunLate"]
    parts = RUN_LATE.fullmatch(rule["expr"])
    assert parts is not None, rule["expr"]
    remaining = after.get((f"scorebeat_{parts['gauge']}", (("job", job),)))
    grown = of(after, parts["counter"], job=job) - of(before, parts["counter"], job=job)
    return (remaining is not None and remaining < 0) or grown > 0


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("state", "deadline", "is_late"),
    [
        ("succeeded", "now() - interval '1 s'", True),
        ("cancelled", "now() - interval '1 s'", True),
        ("succeeded", "now() + interval '1 h'", False),
        ("succeeded", "NULL", False),
        ("running", "now() - interval '1 s'", True),
        ("running", "now() + interval '1 h'", False),
    ],
)
def test_the_alert_for_late_runs_fires_for_one_that_ended_between_two_scrapes(
    engine: Engine, state: str, deadline: str, is_late: bool
) -> None:
    with engine.begin() as connection:
        add_run(connection, "partial", "nightly")
        run_totals.note(connection)
    before = samples(engine)
    with engine.begin() as connection:
        run_id = add_run(connection, state, "nightly")
        connection.execute(text(f"UPDATE scorebeat.runs SET deadline_at = {deadline} WHERE id = :id"), {"id": run_id})

    assert fires(before, samples(engine), "nightly") == is_late
    with engine.begin() as connection:
        run_totals.note(connection)
    assert fires(before, samples(engine), "nightly") == is_late


ONE_NUMBER = re.compile(r"scorebeat_(?P<name>\w+) (?P<sign>>|==) (?P<limit>\d)")
INCREASE = re.compile(r"increase\(scorebeat_(?P<name>\w+)(\{(?P<label>\w+)=\"(?P<value>\w+)\"\})?\[1h\]\) > 0")


def alarms(before: Samples, after: Samples, job: str) -> set[str]:
    """Rules of one metric that fire for the job, evaluated over two scrapes within their window."""
    found = set()
    for rule in _rules():
        grown, number = INCREASE.fullmatch(rule["expr"]), ONE_NUMBER.fullmatch(rule["expr"])
        if grown:
            labels = {"job": job} | ({grown["label"]: grown["value"]} if grown["label"] else {})
            fired = of(after, grown["name"], **labels) > of(before, grown["name"], **labels)
        elif number and number["name"] != "workers":
            value = after.get((f"scorebeat_{number['name']}", (("job", job),)), 0)
            fired = value > int(number["limit"]) if number["sign"] == ">" else value == int(number["limit"])
        else:
            continue
        found |= {rule["alert"]} if fired else set()
    return found


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("what", "alert"),
    [
        ("SELECT 1", None),
        ("UPDATE scorebeat.runs SET state = 'failed', reason = 'oh', finished_at = now()", "ScorebeatRunFailed"),
        ("UPDATE scorebeat.jobs SET applied_at = now() - interval '3 days'", "ScorebeatResultsOverdue"),
        ("INSERT INTO scorebeat.counters VALUES ('ticks_missed', 'nightly', 1)", "ScorebeatTickMissed"),
        ("INSERT INTO scorebeat.counters VALUES ('ticks_skipped_busy', 'nightly', 1)", "ScorebeatTickSkipped"),
        ("UPDATE scorebeat.jobs SET paused_at = now(), paused_by = 'ann'", "ScorebeatJobPaused"),
        ("UPDATE scorebeat.runs SET state = 'held', reason = 'oh', finished_at = now()", "ScorebeatRunHeld"),
        (f"{PROFILES} FROM scorebeat.runs", "ScorebeatDrift"),
        (_READING, "ScorebeatQualityFailed"),
        (_CANARIES, "ScorebeatCanaryFailed"),
        (f"{FAILED} 'x', 'x' FROM scorebeat.runs", "ScorebeatProfileFailed"),
        (f"{FAILED} 'too few', NULL FROM scorebeat.runs", "ScorebeatGateNotCompared"),
    ],
)
def test_each_rule_fires_for_what_it_is_for_and_for_nothing_else(engine: Engine, what: str, alert: str | None) -> None:
    with engine.begin() as connection:
        add_run(connection, "running", "nightly")
        connection.execute(
            text(
                'UPDATE scorebeat.jobs SET spec = spec || \'{"schedule": "every 1 day", "truth": "SELECT 1",'
                ' "canary": {"every": "1d"}}\''
            )
        )
    before = samples(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(what)
        run_totals.note(connection)

    assert alarms(before, samples(engine), "nightly") == ({alert} if alert else set())


def test_every_metric_is_in_its_reference_page(full: Engine) -> None:
    page = (REPOSITORY / "docs/reference/metrics.md").read_text("utf-8")

    listed = set(re.findall(r"^\| `(scorebeat_\w+)`", page, re.MULTILINE))
    assert listed == _names(full)
