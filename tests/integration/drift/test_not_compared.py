"""A gate that compares lets no run pass in silence: one that failed to be compared is held, others are named."""

import logging
import threading
from typing import Any

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.closing import run_profiles
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import mornings
from scorebeat.drift import comparison
from scorebeat.drift.profile import Profile
from scorebeat.producer.requests.release import release
from tests.integration.drift.test_drift import compared, normal
from tests.support import scrape
from tests.support.fixtures import wait_for
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]

GATED: dict[str, Any] = {"rescore": "every-run", "gate": {"drift": "hold"}}


def broken(*_: object, **__: object) -> Any:
    raise OverflowError("date value out of range")


def gauges(points: Points) -> list[float | None]:
    """What the metrics show of the newest run: whether its profile failed, and whether its gate let it pass so."""
    found = scrape.samples(points.engine)
    return [
        next((value for (name, _), value in found.items() if name == f"scorebeat_{one}"), None)
        for one in ("profile_failed", "gate_not_compared")
    ]


def notes(points: Points) -> list[str]:
    with points.engine.connect() as connection:
        (found,) = mornings.listing(connection)
    return found.notes


def reason(points: Points, run_id: int) -> str | None:
    with points.engine.connect() as connection:
        return status.get(connection, run_id).reason


def events(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of each such event that was logged at WARNING or above."""
    return [vars(one)["scorebeat_fields"] for one in caplog.records if one.message == event]


@pytest.fixture
def compared_once(points: Points) -> Points:
    """A job with a gate, and its reference."""
    normal(points, 2_000)
    points.model({})
    points.scored(points.job(**GATED))
    return points


def test_a_run_whose_profile_failed_is_held_and_released_by_a_person(
    compared_once: Points, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = compared_once
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Profile, "of", broken)
        run_id = points.scored(points.job(**GATED, batch_rows=1_000))
    run = points.run(run_id)
    assert run.state is RunState.HELD
    assert "could not be compared: the profile of 2 batches of 2 failed: date value out of range" in (run.reason or "")
    assert [fields["run"] for fields in events(caplog, "run.not_compared")] == [run_id]
    assert gauges(points) == [1, 0]

    release(points.producer, run_id, "ann")
    assert points.run(run_id).state is RunState.SUCCEEDED
    assert notes(points) == [
        f"run {run_id} was not compared: the profile of 2 batches of 2 failed: date value out of range"
    ]
    points.scored(points.job(**GATED))
    assert (gauges(points), notes(points)) == ([0, 0], [])


def test_a_failed_profile_of_one_batch_holds_the_run_and_the_rest_is_compared(
    compared_once: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = compared_once
    run_id = points.planned(points.job(**GATED, batch_rows=1_000))
    first, _ = points.pending(run_id)
    with monkeypatch.context() as patch:
        patch.setattr(Profile, "of", broken)
        points.attempt(first)
    points.runtime.without_profile.clear()  # another process has the second batch
    assert points.work(run_id) is RunState.HELD
    found = compared(points, run_id)
    assert (found.rows, found.findings is not None) == (1_000, True)


def test_an_error_of_the_comparison_closes_the_run_and_holds_it(
    compared_once: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = compared_once
    breaks: tuple[tuple[object, str, Any], ...] = (
        (comparison, "compare", broken),
        (Profile, "merge", broken),
        (profiles, "store_sql", lambda *_: "SELECT 1"),  # as a worker of an older release
    )
    for where, name, instead in breaks:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, instead)
            assert points.run(points.scored(points.job(**GATED))).state is RunState.HELD, name
    assert points.sql("SELECT failure FROM scorebeat.run_profiles WHERE failure IS NOT NULL ORDER BY run_id") == [
        "the comparison failed: OverflowError: date value out of range",
        "the profile of 1 batch of 1 failed: it could not be merged: date value out of range",
        run_profiles.NOT_LOOKED_AT,
    ]
    assert points.sql("SELECT count(*) FROM scorebeat.batch_profiles") == [0]


def test_a_run_that_is_too_small_or_has_no_reference_passes_and_is_named(
    points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    normal(points, 600)
    points.model({})
    with caplog.at_level(logging.WARNING):
        small = points.scored(points.job(**GATED))
    expected = "there is no reference yet, and the sample of this run has 600 rows, fewer than min_rows = 1,000"
    assert points.run(small).state is RunState.SUCCEEDED
    assert [fields["reason"] for fields in events(caplog, "run.not_compared")] == [expected]
    assert reason(points, small) == f"it was not compared: {expected}"
    assert (gauges(points), notes(points)) == ([0, 1], [f"run {small} was not compared: {expected}"])

    normal(points, 2_000)
    first = points.scored(points.job(**GATED))
    assert (reason(points, first), gauges(points), notes(points)) == (None, [0, 0], [])  # it is the reference

    normal(points, 600, seed=0.4)
    again = points.scored(points.job(**GATED))
    assert "the next run is compared together with this one" in (reason(points, again) or "")
    assert gauges(points) == [0, 1]
    assert points.run(points.scored(points.job(**GATED, drift=True))).state is RunState.SUCCEEDED
    assert gauges(points) == [0, 0]  # 1,200 rows of both

    points.job(rescore="every-run", drift=False)
    assert (gauges(points), notes(points)) == ([None, None], [])


def test_a_run_is_closed_with_the_profiles_that_another_process_merges_now(compared_once: Points) -> None:
    points = compared_once
    run_id = points.planned(points.job(rescore="every-run", batch_rows=500))
    first, second, *others = points.pending(run_id)
    points.attempt(first)
    with points.engine.begin() as connection:
        assert profiles.merge_meanwhile(connection, run_id)
    points.attempt(second)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with points.engine.begin() as other:
        assert profiles.merge_meanwhile(other, run_id)  # and is not committed yet
        closing = threading.Thread(target=lambda: [*map(points.attempt, others)])
        closing.start()
        wait_for(lambda: points.sql(waits)[0])
    closing.join(20)
    assert points.work(run_id) is RunState.SUCCEEDED
    found = compared(points, run_id)
    assert (found.rows, found.why_not) == (2_000, None)
