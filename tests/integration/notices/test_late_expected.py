"""A run that will be late is reported once, while there is time, with what would help; one of unknown end is not."""

import json
import logging
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

import scorebeat as scorebeat_api
from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.db.closing import run_totals
from scorebeat.db.processes import workers
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.ops.cli import progress
from scorebeat.producer.control import control_round
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.notices.webhooks import Post
from scorebeat.producer.control.ticks.late_expected import note_late_expected
from tests.support.api_fixtures import Opener, opened
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_run
from tests.support.receiver import logged_events
from tests.support.scrape import of, samples

__all__ = ["ledger", "opened", "scorebeat", "trained"]

HOOK = "https://hooks.example.org/x"
BATCHES = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, rows_scored, attempt, attempts_left,"
    " first_key, last_key, claimed_by, claimed_pid, claimed_at, finished_at) SELECT :run, n, 'cpu',"
    " CASE WHEN n <= :done THEN 'committed' ELSE 'pending' END, 10, CASE WHEN n <= :done THEN 10 ELSE 0 END, 1, 5,"
    " '[\"1\"]', '[\"10\"]', 'w1', n % 2, CASE WHEN n <= :done THEN now() - (:done - n + 2) * interval '0.5 s' END,"
    " CASE WHEN n <= :done THEN now() - (:done - n) * interval '0.5 s' END FROM generate_series(1, :batches) n"
)
"""Two processes took a second for each batch, without a pause until now."""


def open_run(ledger: Ledger, job: str = "nightly", done: int = 40, left: int = 60, **columns: Any) -> int:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, job=job)
        connection.execute(text(BATCHES), {"run": run_id, "done": done, "batches": done + left})
        spec = a_job(name=job).model_copy(update={"notify": HOOK}).model_dump_json()
        connection.execute(text("UPDATE scorebeat.jobs SET spec = CAST(:spec AS jsonb) WHERE name = :job"),
                           {"spec": spec, "job": job})  # fmt: skip
        workers.seen(connection, "w1", ["cpu"], "cpu", 2)
    for name, value in columns.items():
        ledger.sql(f"UPDATE scorebeat.runs SET {name} = {value} WHERE id = {run_id}")
    return run_id


def forecast(ledger: Ledger, run_id: int) -> Forecast:
    with ledger.engine.connect() as connection:
        return forecasts.of_run(forecasts.evidence(connection), run_id)


def seconds_left(ledger: Ledger, run_id: int) -> float:
    found = forecast(ledger, run_id)
    assert found.likely is not None, found.unknown
    left: timedelta = found.likely - ledger.sql("SELECT clock_timestamp()")[0]
    return left.total_seconds()


def kinds(ledger: Ledger) -> list[Any]:
    return ledger.sql("SELECT coalesce(kind, event) FROM scorebeat.notices ORDER BY id")


def test_a_run_that_will_be_late_is_reported_once_and_once_when_that_is_averted(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts: list[Post] = []

    def post(made: list[Post], _: object) -> list[None]:
        posts.extend(made)
        return [None] * len(made)

    monkeypatch.setattr(notify, "post_all", post)
    run_id = open_run(ledger, deadline_at="now() + interval '16 s'")

    with caplog.at_level(logging.INFO, "scorebeat"):
        counts = [note_late_expected(ledger.producer) for _ in range(2)]
        notify.note_ends(ledger.producer)
        notify.notify_once(ledger.producer)
        shown = samples(ledger.engine)
        ledger.sql("UPDATE scorebeat.runs SET deadline_at = now() + interval '1 h'")
        counts += [note_late_expected(ledger.producer) for _ in range(2)]

    assert counts == [1, 0, 0, 0]
    ((warned,), (averted,)) = logged_events(caplog, "late.expected"), logged_events(caplog, "late.averted")
    assert re.fullmatch(r"\d more processes on queue 'cpu' would help, \d instead of 2", warned["reason"])
    assert (warned["run"], averted["run"]) == (run_id, run_id)
    assert [r.levelname for r in caplog.records if r.message.startswith("late.")] == ["WARNING", "INFO"]
    (content,) = [json.loads(post.content) for post in posts]
    assert content["event"] == "late.expected"
    assert "job nightly will be late: run 1, running, 400 rows scored; it is expected to end at" in content["text"]
    assert warned["reason"] in content["notes"]
    assert content["expected_end_at"] is not None
    assert of(shown, "late_expected", job="nightly") == 1
    assert of(shown, "run_expected_end_timestamp_seconds", job="nightly", bound="likely") > 0
    assert of(samples(ledger.engine), "late_expected", job="nightly") == 0


def test_a_run_that_was_expected_to_be_late_and_is_late_sends_both_notices(ledger: Ledger) -> None:
    open_run(ledger, deadline_at="now() + interval '16 s'")
    control_round.run_once(ledger.producer)
    ledger.sql("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 s'")

    control_round.run_once(ledger.producer)

    assert kinds(ledger) == ["late.expected", "late"]


@pytest.mark.parametrize(
    ("deadline", "prepared"),
    [
        ("NULL", "SELECT 1"),
        ("now() + interval '5 min'", "SELECT 1"),
        ("now() - interval '1 s'", "SELECT 1"),
        ("now() + interval '16 s'", "DELETE FROM scorebeat.workers"),
        ("now() + interval '16 s'", "DELETE FROM scorebeat.batches WHERE number BETWEEN 2 AND 40"),
        ("now() + interval '16 s'", "UPDATE scorebeat.jobs SET removed_at = now()"),
    ],
    ids=["nothing promised", "in time", "late already", "no worker", "too early", "removed"],
)
def test_no_run_is_expected_to_be_late_without_a_promise_and_a_firm_forecast(
    ledger: Ledger, deadline: str, prepared: str
) -> None:
    open_run(ledger, deadline_at=deadline)
    ledger.sql(prepared)

    assert note_late_expected(ledger.producer) == 0
    assert kinds(ledger) == []


def test_a_run_that_a_requeue_opened_again_is_not_expected_to_be_late(ledger: Ledger) -> None:
    run_id = open_run(ledger, deadline_at="now() + interval '16 s'")
    ledger.sql(f"INSERT INTO scorebeat.run_sums VALUES ({run_id}, 'nightly', 'partial', 1, 1)")

    assert note_late_expected(ledger.producer) == 0


def test_a_worker_that_is_restarted_makes_no_run_late(ledger: Ledger) -> None:
    run_id = open_run(ledger, deadline_at="now() + interval '40 s'")
    with ledger.engine.begin() as connection:
        workers.seen(connection, "w2", ["cpu"], "cpu", 2)
    ledger.sql("UPDATE scorebeat.workers SET started_at = now() - interval '1 h', processes = 1")
    ledger.sql("UPDATE scorebeat.batches SET claimed_by = 'w2' WHERE number % 2 = 0")
    assert note_late_expected(ledger.producer) == 0
    ledger.sql("DELETE FROM scorebeat.workers WHERE name = 'w2'")
    assert seconds_left(ledger, run_id) > 45
    assert (note_late_expected(ledger.producer), of(samples(ledger.engine), "late_expected", job="nightly")) == (0, 0)

    ledger.sql("UPDATE scorebeat.batches SET finished_at = finished_at - interval '61 s', claimed_at = claimed_at"
               " - interval '61 s' WHERE claimed_by = 'w2' AND state = 'committed'")  # fmt: skip
    assert note_late_expected(ledger.producer) == 1  # it did not come back


def test_results_by_is_a_promise_too(ledger: Ledger) -> None:
    open_run(ledger)
    ledger.sql("UPDATE scorebeat.batches SET rows_planned = 100 WHERE state = 'pending'")  # five minutes of work
    in_two_minutes = ledger.sql("SELECT to_char((now() + interval '2 min') AT TIME ZONE 'UTC', 'HH24:MI')")[0]
    spec = json.dumps({"schedule": "* * * * *", "results_by": in_two_minutes})
    ledger.sql("UPDATE scorebeat.jobs SET spec = spec || CAST(:spec AS jsonb)", spec=spec)

    assert note_late_expected(ledger.producer) == 1


def test_an_address_that_wants_no_expectations_gets_none_and_it_is_still_recorded(ledger: Ledger) -> None:
    run_id = open_run(ledger, deadline_at="now() + interval '16 s'")
    ledger.sql('UPDATE scorebeat.jobs SET spec = spec || \'{"notify_on": ["finished", "late"]}\'')

    assert note_late_expected(ledger.producer) == 1
    assert kinds(ledger) == []
    assert ledger.sql("SELECT subject FROM scorebeat.actions WHERE action = 'late.expected'") == [f"run {run_id}"]


def test_a_run_behind_another_ends_after_it_and_names_it(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    first = open_run(ledger)
    behind = open_run(ledger, "behind", done=0, left=20, deadline_at="now() + interval '35 s'")
    unknown = forecast(ledger, behind)
    with ledger.engine.begin() as connection:
        past = add_run(connection, "succeeded", "behind")
    ledger.sql(f"UPDATE scorebeat.runs SET finished_at = created_at + interval '11 s' WHERE id = {past}")
    ledger.sql(
        "INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts, wait_seconds, span_seconds,"
        f" busy_seconds, processes) VALUES ({past}, 'behind', 'succeeded', 200, 20, 1, 10, 20, 2)"
    )

    assert "no earlier run of job behind scored rows" in str(unknown.unknown)
    assert seconds_left(ledger, first) == pytest.approx(30, rel=0.3)
    assert seconds_left(ledger, behind) == pytest.approx(40, rel=0.3)
    with caplog.at_level(logging.INFO, "scorebeat"):
        assert note_late_expected(ledger.producer) == 1
    (warned,) = logged_events(caplog, "late.expected")
    ahead = f"run {first} of job nightly is ahead on queue 'cpu', with about \\d\\d s to go"
    assert re.search(ahead, warned["reason"])


def test_workers_that_went_away_move_the_end_and_with_the_last_one_it_is_unknown(ledger: Ledger) -> None:
    run_id = open_run(ledger)
    with ledger.engine.begin() as connection:
        workers.seen(connection, "w2", ["cpu"], "cpu", 2)
    ledger.sql("UPDATE scorebeat.batches SET claimed_by = 'w2' WHERE number % 2 = 0")
    ledger.sql("UPDATE scorebeat.workers SET started_at = now() - interval '1 h'")
    both = seconds_left(ledger, run_id)

    ledger.sql("DELETE FROM scorebeat.workers WHERE name = 'w2'")

    assert seconds_left(ledger, run_id) == pytest.approx(2 * both, rel=0.3)
    ledger.sql("DELETE FROM scorebeat.workers")
    assert forecast(ledger, run_id).unknown == "no worker listens on queue 'cpu'"


def test_every_place_shows_the_same_end_of_an_open_run_and_none_of_an_ended_one(
    ledger: Ledger, scorebeat: Cli, opened: Opener
) -> None:
    run_id = open_run(ledger)
    served = opened()

    (listed,) = json.loads(scorebeat("runs", "--json").stdout)
    shown = json.loads(scorebeat("show", str(run_id), "--json").stdout)
    body = served.get(f"/runs/{run_id}").json()
    with scorebeat_api.connect(ledger.settings.database_url) as client:
        followed = client.run(run_id).progress
    with ledger.engine.connect() as connection:
        watched = progress.now(connection, status.get(connection, run_id))

    ends = [datetime.fromisoformat(one["expected_end_at"]) for one in (listed, shown, body)]
    assert followed.left is not None
    assert watched.forecast.likely is not None
    ends += [watched.forecast.likely, watched.at + followed.left]
    assert max(ends) - min(ends) < timedelta(seconds=10)  # of half a minute, which goes on
    assert 0 < body["seconds_left"] < 60
    assert re.search(r"expected end +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(", scorebeat("show", str(run_id)).output)
    ledger.sql("UPDATE scorebeat.batches SET state = 'committed', finished_at = now() WHERE state = 'pending'")
    ledger.sql("UPDATE scorebeat.runs SET state = 'succeeded', finished_at = now()")
    (ended,) = json.loads(scorebeat("runs", "--json").stdout)
    for one in (ended, served.get(f"/runs/{run_id}").json()):
        assert {one[name] for name in one if name.startswith("expected_")} == {None}
        assert one["no_forecast"] is None


def test_an_ended_run_leaves_what_the_next_is_forecast_from(ledger: Ledger) -> None:
    open_run(ledger, done=40, left=0)
    ledger.sql(
        "UPDATE scorebeat.runs SET created_at = now() - interval '25 s', finished_at = now(), state = 'succeeded'"
    )
    with ledger.engine.begin() as connection:
        run_totals.note(connection)

    ((wait, span, busy, processes),) = ledger.sql(
        "SELECT wait_seconds, span_seconds, busy_seconds, processes FROM scorebeat.run_sums"
    )

    assert (wait, span, busy, processes) == (pytest.approx(4.5, abs=1), pytest.approx(20.5), pytest.approx(40), 2)
