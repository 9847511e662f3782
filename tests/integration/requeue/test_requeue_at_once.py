"""Two people requeue at the same moment, in Flower or by the API: each row is put back once, and each has an answer."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from scorebeat.api.app import make
from scorebeat.db.ledger import failure_groups
from tests.support.api_fixtures import BEARER, TOKEN, served
from tests.support.fixtures import wait_for
from tests.support.flower_fixtures import NUMBERS, a_run, s
from tests.support.flower_program import Flower, said, start_flower
from tests.support.system import System

__all__ = ["s"]

Ask = Callable[..., tuple[int, str]]
"""`ask(run, batch="17")`: the status, and the answer in words."""
PAIRS = [("ann", "ben"), ("api", "api"), ("ann", "api")]
KEYS = [["1"], ["2"], ["3"], ["4"], ["5"]]


@pytest.fixture(scope="module")
def asks(s: System) -> Iterator[dict[str, Ask]]:
    """Ways to ask for a requeue: two people at Flower's pages, by their names, and a program with the token."""
    flower = start_flower(s, login="ann:secret,ben:hidden")
    settings = s.settings.model_copy(update={"api_token": SecretStr(TOKEN)})

    def clicked(login: str) -> Ask:
        person = Flower(flower.url, login)

        def ask(run: int, **part: str) -> tuple[int, str]:
            answer = person.post(f"/runs/{run}/requeue", **part)
            return answer.status_code, said(answer)

        return ask

    with served(make(settings)) as url, httpx.Client(base_url=url, headers=BEARER, timeout=30) as client:

        def asked(run: int, **part: str) -> tuple[int, str]:
            answer = client.post(f"/runs/{run}/requeue", json=part)
            return answer.status_code, answer.text

        yield {"ann": clicked("ann:secret"), "ben": clicked("ben:hidden"), "api": asked}


@pytest.fixture
def run(s: System) -> int:
    """A run with two dead batches and five rows in quarantine, three of them for one error."""
    made = a_run(s, "partial", f"at_once_{next(NUMBERS)}", "dead", "dead", "committed")
    s.tell(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
        " SELECT r.prediction_set_id, b.id, key, 'ValueError', CASE WHEN ordinality < 4 THEN 'bad' ELSE 'bad too' END"
        " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id,"
        " jsonb_array_elements(CAST(:keys AS jsonb)) WITH ORDINALITY AS each (key, ordinality)"
        " WHERE r.id = :run AND b.state = 'committed'",
        run=made,
        keys=json.dumps(KEYS),
    )
    s.tell("UPDATE scorebeat.batches SET rows_failed = 5 WHERE run_id = :run AND state = 'committed'", run=made)
    return made


def at_once(s: System, run: int, *asking: Callable[[], tuple[int, str]]) -> list[tuple[int, str]]:
    """Let all of them come as far as the run, which is held until they stand there; what they are answered."""
    with s.engine.connect() as holder, ThreadPoolExecutor(len(asking)) as people:
        holder.execute(text("SELECT 1 FROM scorebeat.runs WHERE id = :run FOR UPDATE"), {"run": run})
        answers = [people.submit(ask) for ask in asking]
        try:
            wait_for(lambda: s.ask(WAITING) == [(len(asking),)])
        finally:
            holder.rollback()
        return [answer.result() for answer in answers]


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def put_back(s: System, run: int) -> list[Any]:
    """The keys in batches that a requeue made, in order."""
    asked = "SELECT keys FROM scorebeat.batches WHERE run_id = :run AND keys IS NOT NULL AND state = 'pending'"
    return sorted(key for (keys,) in s.ask(asked, run=run) for key in keys)


def aside(s: System, run: int) -> list[Any]:
    asked = (
        "SELECT z.key FROM scorebeat.quarantine z JOIN scorebeat.batches b ON b.id = z.batch_id WHERE b.run_id = :run"
    )
    return sorted(key for (key,) in s.ask(asked, run=run))


def recorded(s: System, run: int) -> list[tuple[str, int]]:
    asked = "SELECT by, (details ->> 'batches')::int FROM scorebeat.actions WHERE subject = :run ORDER BY 2, 1"
    return [(by, batches) for by, batches in s.ask(asked, run=f"run {run}")]


def group(s: System, run: int, error: str) -> str:
    with s.engine.connect() as connection:
        (found,) = (one.id for one in failure_groups.page(connection, run) if one.error == error)
    return found


def tells(answer: str, run: int, batches: int) -> bool:
    """It says plainly that so many batches were put back; 0: that nothing was changed."""
    many = f"{batches} batch{'es' * (batches != 1)} of run {run} put back."
    words = many if batches else f"Nothing of that is left to put back in run {run}"
    return words in answer or json.dumps({"run": run, "batches": batches}, separators=(",", ":")) == answer


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_run_that_two_requeue_at_once_is_requeued_once_and_both_are_informed(
    s: System, asks: dict[str, Ask], run: int, one: str, other: str
) -> None:
    answers = at_once(s, run, lambda: asks[one](run), lambda: asks[other](run))

    assert [status for status, _ in answers] == [200, 200]
    assert sorted(tells(answer, run, 3) for _, answer in answers) == [False, True]
    assert sorted(tells(answer, run, 0) for _, answer in answers) == [False, True]
    assert (put_back(s, run), aside(s, run)) == (KEYS, [])
    assert sorted(state for state, *_ in s.batches(run)) == ["committed", "pending", "pending", "pending"]
    assert sorted(by for by, _ in recorded(s, run)) == sorted([one, other])
    assert [batches for _, batches in recorded(s, run)] == [0, 3]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_group_that_two_requeue_at_once_is_put_back_once_and_the_others_stay(
    s: System, asks: dict[str, Ask], run: int, one: str, other: str
) -> None:
    bad = group(s, run, "ValueError: bad")

    answers = at_once(s, run, lambda: asks[one](run, group=bad), lambda: asks[other](run, group=bad))

    assert [status for status, _ in answers] == [200, 200]
    assert sorted(tells(answer, run, 1) for _, answer in answers) == [False, True]
    assert sorted(tells(answer, run, 0) for _, answer in answers) == [False, True]
    assert (put_back(s, run), aside(s, run)) == (KEYS[:3], KEYS[3:])
    assert sorted(state for state, *_ in s.batches(run)) == ["committed", "dead", "dead", "pending"]
    assert sorted(by for by, _ in recorded(s, run)) == sorted([one, other])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_groups_that_two_requeue_at_once_are_both_put_back(
    s: System, asks: dict[str, Ask], run: int, one: str, other: str
) -> None:
    bad, too = group(s, run, "ValueError: bad"), group(s, run, "ValueError: bad too")

    answers = at_once(s, run, lambda: asks[one](run, group=bad), lambda: asks[other](run, group=too))

    assert all(status == 200 and tells(answer, run, 1) for status, answer in answers)
    assert (put_back(s, run), aside(s, run)) == (KEYS, [])
    assert sorted(recorded(s, run)) == sorted([(one, 1), (other, 1)])
