"""`cost`, `prices`, `show`, the HTTP API and the metrics show the same seconds and money."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from scorebeat.db.closing import run_totals
from scorebeat.producer.context import Producer
from scorebeat.producer.requests import change_job
from tests.support.api_fixtures import Opener, opened
from tests.support.cli_fixtures import Cli, refused, score_all
from tests.support.ledger_rows import add_batch, add_run
from tests.support.scrape import of, samples

__all__ = ["opened"]

PRICES = """
currency = "EUR"

[prices.cores]
core_hour = 3600.0
since = 2020-01-01
"""
"""A second of a core costs 1 EUR."""
MONTH = f"{datetime.now(UTC):%Y-%m}"


USED = (
    "INSERT INTO scorebeat.run_usage (run_id, outcome, device, job, day, queue, attempts, device_seconds, cpu_seconds,"
    " rows) SELECT id, outcome, 'cpu', job, (created_at AT TIME ZONE 'UTC')::date, queue, attempts, seconds, cpu, rows"
    " FROM scorebeat.runs, (VALUES ('lost', 'cpu', 2, 30, 0, 50), ('planned', 'plan', 1, 2, 1, 0))"
    " AS u (outcome, queue, attempts, seconds, cpu, rows) WHERE id = :run"
)
JOB, ROWS = "flowers_job", 100


@pytest.fixture
def run(engine: Engine) -> int:
    """A run that was scored, after two of its claims had expired; its end is not noted yet."""
    with engine.begin() as connection:
        run_id = add_run(connection, "succeeded")
        add_batch(connection, run_id, "committed", rows_scored=60, attempt=3, device_seconds=8, cpu_seconds=4)
        add_batch(connection, run_id, "committed", rows_scored=40, attempt=1, device_seconds=3, cpu_seconds=5, number=2)
        connection.execute(text(USED), {"run": run_id})
    return run_id


def costs(scorebeat: Cli, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scorebeat("cost", "--json", *words).stdout)
    return found


def store(scorebeat: Cli, tmp_path: Path, prices: str) -> None:
    (tmp_path / "prices.toml").write_text(prices)
    assert scorebeat("prices", "--apply").exit_code == 0


def test_without_prices_seconds_are_shown_with_the_way_to_prices(scorebeat: Cli, run: int) -> None:
    result, shown = scorebeat("cost"), scorebeat("show", str(run)).output
    (month,) = costs(scorebeat)["months"]

    assert "Write prices.toml and store it with `scorebeat prices --apply`" in result.stderr
    assert f"{JOB}: attempts whose process or worker died, or was cut off" in result.stdout
    assert (month["job"], month["month"], month["runs"], month["rows"]) == (JOB, MONTH, 1, ROWS)
    assert (month["cost"], month["currency"], month["cost_a_million_rows"]) == (None, None, None)
    assert (month["device_seconds"], month["cpu_seconds"], month["planning_seconds"]) == (43, 10, 2)
    assert month["wasted_seconds"] == 30
    assert "30.0 s in attempts whose process or worker died" in shown
    assert "cost" not in shown.split("state")[0]


def test_prices_make_the_same_cost_in_the_command_the_run_the_api_and_the_metrics(
    scorebeat: Cli, run: int, tmp_path: Path, engine: Engine, opened: Opener
) -> None:
    store(scorebeat, tmp_path, PRICES)
    (month,) = costs(scorebeat, JOB, "--month", MONTH)["months"]

    assert month["cost"] == pytest.approx(43)
    assert month["cost_a_million_rows"] == pytest.approx(month["cost"] / ROWS * 1e6)
    assert month["wasted_cost"] == pytest.approx(30)
    (lost,) = month["waste"]
    assert (lost["kind"], lost["attempts"], lost["rows"], lost["cost"]) == ("lost", 2, 50, pytest.approx(30))
    of_run = json.loads(scorebeat("show", str(run), "--json").stdout)
    assert {name: of_run[name] for name in month.keys() & of_run.keys() - {"job"}} == {
        name: month[name] for name in month.keys() & of_run.keys() - {"job"}
    }
    assert f"EUR, {month['cost_a_million_rows']:,.2f} a million rows" in scorebeat("show", str(run)).output
    client = opened()
    assert client.get(f"/runs/{run}").json()["cost"]["cost"] == month["cost"]
    assert client.get("/costs", params={"job": JOB, "month": MONTH}).json() == {"months": [month], "idle": []}
    found = samples(engine)
    assert of(found, "cost_total", job=JOB, currency="EUR") == month["cost"]
    assert of(found, "device_seconds_total", job=JOB, device="cpu") == month["device_seconds"]
    assert of(found, "wasted_seconds_total", job=JOB, reason="lost") == 30
    assert of(found, "wasted_seconds_total", job=JOB, reason="repeated") == 0


def test_a_month_costs_what_its_runs_cost_and_a_later_job_inherits_nothing(
    scorebeat: Cli, run: int, tmp_path: Path, engine: Engine, producer: Producer
) -> None:
    store(scorebeat, tmp_path, PRICES)
    with engine.begin() as connection:
        another = add_run(connection, "succeeded")
        # its threads used more than a core, and those of the other run less
        add_batch(connection, another, "committed", rows_scored=10, attempt=1, device_seconds=2, cpu_seconds=9)
    (month,) = costs(scorebeat, JOB)["months"]
    of_runs = [json.loads(scorebeat("show", str(one), "--json").stdout)["cost"] for one in (run, another)]
    assert month["cost"] == pytest.approx(sum(of_runs)) == pytest.approx(43 + 9)

    change_job.drop(producer, JOB, "ann")
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.jobs SET removed_at = NULL"))  # as a new job of the name does
    (apart,) = costs(scorebeat)["months"]
    assert apart["job"] == f"{JOB} (dropped {datetime.now(UTC):%Y-%m-%d})"
    assert (apart["runs"], apart["cost"]) == (2, month["cost"])
    assert costs(scorebeat, JOB)["months"] == []
    assert of(samples(engine), "device_seconds_total", job=JOB, device="cpu") == 0


@pytest.mark.usefixtures("run")
def test_a_month_without_runs_is_empty_and_a_wrong_one_is_refused(scorebeat: Cli, opened: Opener) -> None:
    assert costs(scorebeat, "--month", "2020-01")["months"] == []
    assert "no run began then" in scorebeat("cost", "--month", "2020-01").stdout
    refused(scorebeat("cost", "--month", "July"), "'July' is not a month; expected a year and a month, such as 2026-07")
    refused(scorebeat("cost", "flower_job"), "there is no job 'flower_job'", JOB)
    client: httpx.Client = opened()
    assert client.get("/costs", params={"month": "2026-13"}).status_code == 422
    assert client.get("/costs", params={"job": "flower_job"}).status_code == 404


@pytest.mark.usefixtures("run")
def test_a_price_that_would_change_the_past_is_refused_unless_it_is_rewritten(
    scorebeat: Cli, tmp_path: Path, engine: Engine
) -> None:
    store(scorebeat, tmp_path, PRICES)
    before = costs(scorebeat)
    path = tmp_path / "prices.toml"
    path.write_text(PRICES.replace("3600.0", "7200.0"))

    refused(
        scorebeat("prices", "--apply"),
        "would change what was reported of 1 day from ",
        "such as flowers_job on queue cpu, cpu, on ",
        "3600 EUR ([prices.cores]) before, 7200 EUR ([prices.cores]) now. Nothing was stored",
    )
    assert "has other prices; `scorebeat prices --apply` stores them" in scorebeat("prices").stderr
    path.write_text(PRICES.replace("EUR", "USD"))
    refused(scorebeat("prices", "--apply"), "3600 USD")
    path.write_text(PRICES.replace("2020", "2120"))
    refused(scorebeat("prices", "--apply"), "no price now")
    assert costs(scorebeat) == before

    path.write_text(PRICES + "[prices.gpus]\ngpu_hour = 3\nsince = 2020-01-01\n")  # nothing was used there
    assert scorebeat("prices", "--apply").exit_code == 0
    assert costs(scorebeat)["months"] == before["months"]
    path.write_text(PRICES.replace("3600.0", "7200.0"))
    assert "what runs of 1 day of the past cost was changed" in scorebeat("prices", "--apply", "--rewrite").stderr
    assert costs(scorebeat)["months"][0]["cost"] == pytest.approx(2 * before["months"][0]["cost"])
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT details -> 'rewritten_days' FROM scorebeat.actions WHERE action = 'prices.applied' ORDER BY id"
            )
        )
        assert [days > 0 for days in found.scalars()] == [False, False, True]


@pytest.mark.usefixtures("run")
def test_a_new_price_counts_for_runs_from_its_day_on(scorebeat: Cli, tmp_path: Path, engine: Engine) -> None:
    newer = PRICES.replace("[prices.cores]", "[prices.newer]\ncore_hour = 7200.0\nsince = 2026-01-01\n\n[prices.cores]")
    store(scorebeat, tmp_path, newer)
    now = costs(scorebeat)["months"][0]["cost"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.runs SET created_at = '2025-12-31 23:59:59+00'"))
        connection.execute(text("UPDATE scorebeat.run_usage SET day = '2025-12-31'"))

    (month,) = costs(scorebeat)["months"]

    assert (month["month"], month["cost"]) == ("2025-12", pytest.approx(now / 2))


@pytest.mark.usefixtures("run")
def test_use_without_a_price_is_named_and_left_out(scorebeat: Cli, tmp_path: Path) -> None:
    store(scorebeat, tmp_path, PRICES + 'queue = "plan"\n')

    result = scorebeat("cost")

    assert f"note: job {JOB}, {MONTH}: without a price, and left out: cpu on queue cpu" in result.stderr
    (month,) = costs(scorebeat)["months"]
    assert month["cost"] == pytest.approx(2)
    assert month["unpriced"] == ["cpu on queue cpu"]


def test_a_file_with_mistakes_stores_nothing(scorebeat: Cli, tmp_path: Path) -> None:
    refused(scorebeat("prices", "--apply"), "prices.toml: no such file; write one with currency")
    (tmp_path / "prices.toml").write_text('currency = "EUR"\n[prices.a]\ncore_hour = "1"\nsince = 2026-01-01\n')
    refused(scorebeat("prices", "--apply"), "1 mistake", "line 3, prices.a.core_hour: is '1'; expected a number")
    refused(scorebeat("prices", "--rewrite"), "--rewrite goes with --apply")
    (tmp_path / "prices.toml").unlink()
    assert json.loads(scorebeat("prices", "--json").stdout) == {"currency": None, "prices": []}
    assert "there are no prices" in scorebeat("prices").stdout


def test_runs_of_a_version_that_measured_no_time_are_counted_apart(scorebeat: Cli, run: int, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.batches SET device_seconds = NULL, cpu_seconds = NULL"))
        connection.execute(text("DELETE FROM scorebeat.run_usage"))
        run_totals.note(connection)

    (month,) = costs(scorebeat)["months"]

    assert (month["runs"], month["unmeasured_runs"], month["device_seconds"]) == (1, 1, 0)
    assert f"job {JOB}, {MONTH}: 1 runs of an older version measured no time" in scorebeat("cost").stderr
    assert "device time" not in scorebeat("show", str(run)).output


TIMED = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, rows_scored, first_key, last_key,"
    " attempt, attempts_left, claimed_by, claimed_pid, device, claimed_at, finished_at, fetch_seconds, predict_seconds,"
    " commit_seconds) SELECT 1, n + 10, 'cpu', 'committed', rows, rows, '[\"1\"]', '[\"1\"]', 1, 4, 'w', 1, 'cpu',"
    " now() - interval '0.1 s' - interval '0.001 s' * (1 + mod(n, 3) * 0.01) * rows, now(), 0.05, 0, 0"
    " FROM generate_series(1, 40) n, LATERAL (SELECT CASE WHEN mod(n, 2) = 0 THEN 400 ELSE 100 END AS rows) s"
)
"""Batches that took 0.1 s, and 1 ms a row."""


@pytest.mark.wide
def test_plan_and_check_recommend_what_cost_does(scorebeat: Cli, job: str, producer: Producer, engine: Engine) -> None:
    scorebeat("enqueue", job)
    score_all(producer, 1)
    with engine.begin() as connection:
        connection.execute(text(TIMED))

    advice = costs(scorebeat, job)["advice"]

    assert advice["batch_rows"] > 40
    (line,) = (one for one in advice["recommended"] if one.startswith("batch_rows"))
    assert f"recommended: {line}" in scorebeat("cost", job).stdout
    assert f"recommended: {line}; `scorebeat cost {job}` shows the measurements" in scorebeat("plan", job).stderr
    assert f"recommended: {line}" in scorebeat("check", job).stdout
    assert any(one.startswith("a batch costs ") for one in advice["measured"])
