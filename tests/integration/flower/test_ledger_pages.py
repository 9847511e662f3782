"""The queries of the pages: a page at a time, in order, with the right counts."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import UnknownName
from scorebeat.core.states import BatchState, RunState
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.failure_groups import Place
from scorebeat.db.reports import status
from scorebeat.db.reports.pages import batch_pages, run_pages
from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import add_batch, add_run

__all__ = ["connection", "shared_engine"]

LONG = "the disk is full, " + "and full, " * 20


def quarantine(connection: Connection, batch: int, key: str, error: str, kind: str = "ValueError") -> None:
    connection.execute(
        text(
            "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
            " SELECT r.prediction_set_id, b.id, jsonb_build_array(CAST(:key AS text)), :kind, :error,"
            " 'trace of ' || :key"
            " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE b.id = :batch"
        ),
        {"batch": batch, "key": key, "error": error, "kind": kind},
    )


def ids(lines: list[status.RunLine]) -> list[int]:
    return [line.id for line in lines]


def test_runs_come_newest_first_and_each_once_page_by_page(connection: Connection) -> None:
    made = [add_run(connection, "succeeded") for _ in range(5)]

    first = run_pages.runs(connection, limit=2)
    second = run_pages.runs(connection, limit=2, before=first[-1].id)
    third = run_pages.runs(connection, limit=2, before=second[-1].id)

    assert ids(first) + ids(second) + ids(third) == made[::-1]


def test_runs_are_chosen_by_job_and_by_state(connection: Connection) -> None:
    one = add_run(connection, "failed", "one")
    other = add_run(connection, "running", "other")
    done = add_run(connection, "succeeded", "one")

    assert ids(run_pages.runs(connection, job="one")) == [done, one]
    assert ids(run_pages.runs(connection, states=(RunState.RUNNING, RunState.FAILED))) == [other, one]
    assert ids(run_pages.runs(connection, job="one", states=(RunState.FAILED,))) == [one]
    assert run_pages.runs(connection, job="nobody's") == []


def test_ticks_that_found_nothing_may_be_left_out(connection: Connection) -> None:
    idle = add_run(connection, "succeeded")
    connection.execute(text("UPDATE scorebeat.runs SET due_at = now(), created_by = 'beat'"))
    by_hand = add_run(connection, "succeeded")

    assert ids(run_pages.runs(connection, with_idle=False)) == [by_hand]
    assert ids(run_pages.runs(connection)) == [by_hand, idle]


FAILED_BEFORE = (
    "INSERT INTO scorebeat.runs (job, model, model_version, spec, created_by, due_at, state, finished_at, reason)"
    " SELECT job, model, model_version, spec, created_by, due_at, 'failed', now(), 'oh' FROM scorebeat.runs"
    " WHERE id = :run"
)
SHOWN = {
    "it ended after its deadline": ("deadline_at = finished_at - interval '1 s'", None),
    "it was reported as late": (
        "deadline_at = NULL",
        "INSERT INTO scorebeat.notices (run_id, event, happened_at) VALUES (:run, 'late', now())",
    ),
    "it made up for a run that failed": (
        "deadline_at = finished_at + interval '1 h'",
        FAILED_BEFORE,
    ),
}


@pytest.mark.parametrize("case", SHOWN)
def test_a_tick_that_found_nothing_is_shown_where_a_person_must_know_of_it(connection: Connection, case: str) -> None:
    change, more = SHOWN[case]
    run = add_run(connection, "succeeded")
    connection.execute(
        text(f"UPDATE scorebeat.runs SET due_at = now(), created_by = 'beat', finished_at = now(), {change}")
    )
    if more is not None:
        connection.execute(text(more), {"run": run})

    assert run in ids(run_pages.runs(connection, with_idle=False))
    assert run in ids(status.newest(connection, 20, with_idle=False))


@pytest.mark.parametrize(("state", "shown"), [("failed", "failed run"), ("partial", "partial run")])
def test_a_run_that_failed_or_left_rows_out_as_a_whole_is_among_the_failures(
    connection: Connection, state: str, shown: str
) -> None:
    run = add_run(connection, state)
    add_batch(connection, run, "cancelled")
    connection.execute(text("UPDATE scorebeat.runs SET reason = 'key 21 is given twice'"))

    ((kind, of, error),) = [(row["kind"], row["run"], row["error"]) for row in status.failures(connection)]

    assert (kind, of, error) == (shown, run, "key 21 is given twice")


def test_the_pace_is_of_the_last_minute(connection: Connection) -> None:
    run = add_run(connection)
    connection.execute(text("UPDATE scorebeat.runs SET created_at = now() - interval '1 hour'"))
    add_batch(connection, run, "committed", number=1, rows_planned=9000, rows_scored=9000, finished_at="yesterday")
    add_batch(connection, run, "committed", number=2, rows_planned=600, rows_scored=590, rows_failed=10)
    add_batch(connection, run, number=3, rows_planned=300)

    assert run_pages.pace(connection, status.get(connection, run)) == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("state", ["running", "planning", "failed"])
def test_a_run_in_which_nothing_moves_has_no_pace(connection: Connection, state: str) -> None:
    run = add_run(connection, state)
    add_batch(connection, run, "pending" if state == "running" else "cancelled")

    assert run_pages.pace(connection, status.get(connection, run)) == 0.0


def test_throughput_spreads_every_committed_row_over_the_runs_time(connection: Connection) -> None:
    run = add_run(connection, "succeeded")
    connection.execute(
        text("UPDATE scorebeat.runs SET created_at = now() - interval '100 seconds', finished_at = now()")
    )
    for number, ago in enumerate((100, 95, 50, 1, 0), 1):
        at = connection.execute(text(f"SELECT now() - interval '{ago} seconds'")).scalar_one()
        add_batch(connection, run, "committed", number=number, rows_scored=90, rows_failed=10, finished_at=at)

    found = run_pages.throughput(connection, run, points=10)

    assert [round(point.rows_a_second * 10) for point in found] == [200, 0, 0, 0, 0, 100, 0, 0, 0, 200]
    assert [b.at - a.at for a, b in pairwise(found)] == [timedelta(seconds=10)] * 9


def test_batches_come_by_number_page_by_page_and_by_state(connection: Connection) -> None:
    run, other = add_run(connection), add_run(connection, "succeeded", "other")
    for number in range(1, 6):
        add_batch(connection, run, "dead" if number % 2 else "committed", number=number)
    add_batch(connection, other, "dead")

    first = run_pages.batches(connection, run, limit=3)
    rest = run_pages.batches(connection, run, after=first[-1]["number"], limit=3)
    dead = run_pages.batches(connection, run, states=(BatchState.DEAD,))

    assert [batch["number"] for batch in first + rest] == [1, 2, 3, 4, 5]
    assert [batch["number"] for batch in dead] == [1, 3, 5]


def test_the_slowest_batches_come_with_worker_device_attempt_and_time(connection: Connection) -> None:
    run = add_run(connection)
    connection.execute(
        text("INSERT INTO scorebeat.workers (name, queues, device) VALUES ('gpu@a/1', '[\"gpu\"]', 'cuda:0')")
    )
    for number, seconds in enumerate((3, 9, 5), 1):
        at = connection.execute(text(f"SELECT now() - interval '{seconds} seconds'")).scalar_one()
        add_batch(connection, run, "committed", number=number, claimed_at=at, claimed_by="gpu@a/1", attempt=number)
    add_batch(connection, run, number=4)

    found = run_pages.slowest(connection, run, limit=2)

    shown = [(b["number"], round(b["seconds"]), b["claimed_by"], b["device"], b["attempt"]) for b in found]
    assert shown == [(2, 9, "gpu@a/1", "cuda:0", 2), (3, 5, "gpu@a/1", "cuda:0", 3)]


def test_failed_batches_are_dead_or_waiting_again_or_have_quarantined_rows(connection: Connection) -> None:
    run = add_run(connection)
    add_batch(connection, run, "committed", number=1)
    add_batch(connection, run, "committed", number=2, rows_failed=3)
    add_batch(connection, run, number=3, error="OSError: away")
    add_batch(connection, run, "dead", number=4)
    add_batch(connection, run, "committed", number=5, error="OSError: once")

    found = run_pages.failed(connection, run)

    assert found[0]["number"] == 4
    assert {batch["number"] for batch in found} == {2, 3, 4}


def test_failures_are_grouped_by_their_error_with_an_example_and_its_traceback(connection: Connection) -> None:
    run = add_run(connection)
    batch = add_batch(connection, run, "committed", rows_failed=3)
    dead = [add_batch(connection, run, "dead", number=n, error=f"{LONG}{n}", rows_planned=7) for n in (2, 3)]
    for key, error in (("a", "bad value"), ("b", "bad value"), ("c", "bad value"), ("d", "other")):
        quarantine(connection, batch, key, error)

    rows, batches, single = failure_groups.page(connection, run)

    assert (rows.kind, rows.error, rows.count, rows.rows) == ("quarantined rows", "ValueError: bad value", 3, 3)
    assert (rows.example, rows.traceback) == ("key a", "trace of a")
    assert (batches.kind, batches.count, batches.rows) == ("dead batches", 2, 14)
    assert (batches.error, batches.example) == (f"{LONG}2", f"batch {dead[0]}")
    assert batches.traceback is None
    assert (single.count, single.example) == (1, "key d")
    assert failure_groups.page(connection, run, after=batches.place) == [single]


def test_pages_of_groups_give_each_group_once_whatever_is_put_back_between_them(connection: Connection) -> None:
    run = add_run(connection)
    with_failures = add_batch(connection, run, "committed", rows_failed=9)
    for number in range(2, 5):
        add_batch(connection, run, "dead", number=number, error=f"Died: {number}")
    for number in range(6):
        quarantine(connection, with_failures, f"k{number}", f"bad value {number % 4}")

    whole = [group.match for group in failure_groups.page(connection, run)]
    walked: list[str] = []
    position: Place | None = None
    while (found := failure_groups.page(connection, run, limit=2, after=position)) and len(walked) < 10:
        walked += [group.match for group in found]
        assert Place.of(str(found[-1].place)) == found[-1].place
        position = found[-1].place
        connection.execute(text("DELETE FROM scorebeat.quarantine WHERE error = 'bad value 0'"))

    assert walked == whole
    assert len(set(whole)) == 7


@pytest.mark.parametrize("written", ["", "20", "1-9", "1-x9", "-1-r9", "1-r9 ", "1-r", f"1-r{10**18}", "\u0661-r9"])
def test_a_text_that_is_no_position_of_a_group_is_refused(written: str) -> None:
    assert Place.of(written) is None


def test_the_match_of_a_group_is_in_the_error_of_each_of_its_members(connection: Connection) -> None:
    run = add_run(connection)
    errors = [f"{LONG}{n}" for n in (1, 2)]
    for number, error in enumerate(errors, 1):
        quarantine(connection, add_batch(connection, run, "committed", number=number), str(number), error, "OSError")

    (group,) = failure_groups.page(connection, run)

    assert group.count == 2
    assert all(group.match in f"OSError: {error}" for error in errors)


def test_quarantined_rows_come_page_by_page_of_a_run_or_of_a_batch(connection: Connection) -> None:
    run, other = add_run(connection), add_run(connection, "succeeded", "other")
    one, two = (add_batch(connection, run, "committed", number=n) for n in (1, 2))
    quarantine(connection, two, "d", "bad")
    for key in "abc":
        quarantine(connection, one, key, "bad")
    quarantine(connection, add_batch(connection, other, "committed"), "e", "bad")

    def keys(**options: Any) -> list[str]:
        return [row["key"][0] for row in batch_pages.quarantined_rows(connection, run, **options)]

    first = batch_pages.quarantined_rows(connection, run, limit=3)
    assert [row["key"] for row in first] == [["a"], ["b"], ["c"]]
    assert keys(after=(first[-1]["number"], first[-1]["id"])) == ["d"]
    assert keys(batch_id=two) == ["d"]


def test_a_batch_page_shows_run_job_and_keys_and_an_unknown_batch_is_named(connection: Connection) -> None:
    run = add_run(connection, job="prices")
    batch = add_batch(connection, run, "dead", rows_planned=50_000, first_key='["1", "x"]')

    found = batch_pages.batch(connection, batch)

    assert (found["run_id"], found["job"], found["first_key"], found["state"]) == (run, "prices", ["1", "x"], "dead")
    assert batch_pages.labels(connection, [batch, batch + 1]) == {
        batch: f"batch {batch} of run {run}, job prices, 50,000 rows"
    }
    with pytest.raises(UnknownName, match=f"no batch {batch + 1}"):
        batch_pages.batch(connection, batch + 1)


def test_a_page_cannot_write(shared_engine: Engine) -> None:
    with run_pages.reading(shared_engine) as reader, pytest.raises(DBAPIError, match="read-only"):
        add_run(reader)
