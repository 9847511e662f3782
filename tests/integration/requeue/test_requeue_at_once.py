"""Two people requeue at the same time, in Flower or by the API: each row is requeued once, and each gets a response."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from scorebeat.api.app import make
from scorebeat.db.ledger.failures import failure_groups
from tests.support.api_fixtures import BEARER, TOKEN, served
from tests.support.fixtures import wait_for
from tests.support.flower_fixtures import NUMBERS, a_run, s
from tests.support.flower_program import Flower, message_of, start_flower
from tests.support.system import System

__all__ = ["s"]

Requeue = Callable[..., tuple[int, str]]
"""`requeue(run, batch="17")`: the status, and the response's message."""
PAIRS = [("ann", "ben"), ("api", "api"), ("ann", "api")]
KEYS = [["1"], ["2"], ["3"], ["4"], ["5"]]


@pytest.fixture(scope="module")
def ways(s: System) -> Iterator[dict[str, Requeue]]:
    """Ways to request a requeue: two people at Flower's pages, by their names, and a program with the token."""
    flower = start_flower(s, login="ann:secret,ben:hidden")
    settings = s.settings.model_copy(update={"api_token": SecretStr(TOKEN)})

    def clicked(login: str) -> Requeue:
        person = Flower(flower.url, login)

        def requeue(run: int, **part: str) -> tuple[int, str]:
            response = person.post(f"/runs/{run}/requeue", **part)
            return response.status_code, message_of(response)

        return requeue

    with served(make(settings)) as url, httpx.Client(base_url=url, headers=BEARER, timeout=30) as client:

        def posted(run: int, **part: str) -> tuple[int, str]:
            response = client.post(f"/runs/{run}/requeue", json=part)
            return response.status_code, response.text

        yield {"ann": clicked("ann:secret"), "ben": clicked("ben:hidden"), "api": posted}


@pytest.fixture
def run(s: System) -> int:
    """A run with two dead batches and five rows in quarantine, three of them for one error."""
    made = a_run(s, "partial", f"at_once_{next(NUMBERS)}", "dead", "dead", "committed")
    s.execute(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
        " SELECT r.prediction_set_id, b.id, key, 'ValueError', CASE WHEN ordinality < 4 THEN 'bad' ELSE 'bad too' END"
        " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id,"
        " jsonb_array_elements(CAST(:keys AS jsonb)) WITH ORDINALITY AS each (key, ordinality)"
        " WHERE r.id = :run AND b.state = 'committed'",
        run=made,
        keys=json.dumps(KEYS),
    )
    s.execute("UPDATE scorebeat.batches SET rows_failed = 5 WHERE run_id = :run AND state = 'committed'", run=made)
    return made


def at_once(s: System, run: int, *requests: Callable[[], tuple[int, str]]) -> list[tuple[int, str]]:
    """Let all of them come as far as the run, which is locked until all wait for it; returns their responses."""
    with s.engine.connect() as holder, ThreadPoolExecutor(len(requests)) as people:
        holder.execute(text("SELECT 1 FROM scorebeat.runs WHERE id = :run FOR UPDATE"), {"run": run})
        responses = [people.submit(request) for request in requests]
        try:
            wait_for(lambda: s.query(WAITING) == [(len(requests),)])
        finally:
            holder.rollback()
        return [response.result() for response in responses]


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def put_back(s: System, run: int) -> list[Any]:
    """The keys in batches that a requeue made, in order."""
    statement = "SELECT keys FROM scorebeat.batches WHERE run_id = :run AND keys IS NOT NULL AND state = 'pending'"
    return sorted(key for (keys,) in s.query(statement, run=run) for key in keys)


def quarantined(s: System, run: int) -> list[Any]:
    statement = (
        "SELECT z.key FROM scorebeat.quarantine z JOIN scorebeat.batches b ON b.id = z.batch_id WHERE b.run_id = :run"
    )
    return sorted(key for (key,) in s.query(statement, run=run))


def recorded(s: System, run: int) -> list[tuple[str, int]]:
    statement = "SELECT by, (details ->> 'batches')::int FROM scorebeat.actions WHERE subject = :run ORDER BY 2, 1"
    return [(by, batches) for by, batches in s.query(statement, run=f"run {run}")]


def group(s: System, run: int, error: str) -> str:
    with s.engine.connect() as connection:
        (found,) = (one.id for one in failure_groups.page(connection, run) if one.error == error)
    return found


def reports(response: str, run: int, batches: int) -> bool:
    """Whether it reports that so many batches were put back; 0: that nothing was changed."""
    many = f"{batches} batch{'es' * (batches != 1)} of run {run} put back."
    words = many if batches else f"Nothing of that is left to put back in run {run}"
    return words in response or json.dumps({"run": run, "batches": batches}, separators=(",", ":")) == response


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_run_that_two_requeue_at_once_is_requeued_once_and_both_are_informed(
    s: System, ways: dict[str, Requeue], run: int, one: str, other: str
) -> None:
    responses = at_once(s, run, lambda: ways[one](run), lambda: ways[other](run))

    assert [status for status, _ in responses] == [200, 200]
    assert sorted(reports(response, run, 3) for _, response in responses) == [False, True]
    assert sorted(reports(response, run, 0) for _, response in responses) == [False, True]
    assert (put_back(s, run), quarantined(s, run)) == (KEYS, [])
    assert sorted(state for state, *_ in s.batches(run)) == ["committed", "pending", "pending", "pending"]
    assert sorted(by for by, _ in recorded(s, run)) == sorted([one, other])
    assert [batches for _, batches in recorded(s, run)] == [0, 3]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_group_that_two_requeue_at_once_is_put_back_once_and_the_others_stay(
    s: System, ways: dict[str, Requeue], run: int, one: str, other: str
) -> None:
    bad = group(s, run, "ValueError: bad")

    responses = at_once(s, run, lambda: ways[one](run, group=bad), lambda: ways[other](run, group=bad))

    assert [status for status, _ in responses] == [200, 200]
    assert sorted(reports(response, run, 1) for _, response in responses) == [False, True]
    assert sorted(reports(response, run, 0) for _, response in responses) == [False, True]
    assert (put_back(s, run), quarantined(s, run)) == (KEYS[:3], KEYS[3:])
    assert sorted(state for state, *_ in s.batches(run)) == ["committed", "dead", "dead", "pending"]
    assert sorted(by for by, _ in recorded(s, run)) == sorted([one, other])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_groups_that_two_requeue_at_once_are_both_put_back(
    s: System, ways: dict[str, Requeue], run: int, one: str, other: str
) -> None:
    bad, too = group(s, run, "ValueError: bad"), group(s, run, "ValueError: bad too")

    responses = at_once(s, run, lambda: ways[one](run, group=bad), lambda: ways[other](run, group=too))

    assert all(status == 200 and reports(response, run, 1) for status, response in responses)
    assert (put_back(s, run), quarantined(s, run)) == (KEYS, [])
    assert sorted(recorded(s, run)) == sorted([(one, 1), (other, 1)])
