"""The tab's note on an open run whose work nobody would do: the command line's, as long as that is so."""

import re
from html import unescape

import pytest

from scorebeat.db.processes import workers
from scorebeat.producer.control.notices import unserved
from tests.support.flower_fixtures import a_run, flower, s
from tests.support.flower_program import Flower
from tests.support.system import System

__all__ = ["flower", "s"]

CONTROL = (
    "no control worker, so runs are neither planned nor settled: start `scorebeat up` or `scorebeat worker --control`"
)
NIGHTLY = "no worker listens on queue 'nightly': start `scorebeat worker --device cpu --queue nightly`"
NOTE = re.compile(r'<div class="alert [^"]*" id="note-\d+">(.*?)</div>', re.DOTALL)


def waiting(s: System, state: str, name: str) -> int:
    """A run whose batches go into the queue `nightly`."""
    run = a_run(s, state, name)
    s.execute("UPDATE scorebeat.runs SET spec = jsonb_set(spec, '{queue}', '\"nightly\"') WHERE id = :run", run=run)
    return run


def serve(s: System, *queues: str) -> None:
    with s.engine.begin() as connection:
        workers.seen(connection, "all@here", list(queues), "cpu", 1)


def notes(flower: Flower, path: str) -> list[str]:
    """The notes above the table, their commands in backticks."""
    found = NOTE.findall(flower.get(path).text)
    return [unescape(re.sub("</?code>", "`", note)).strip() for note in found]


@pytest.mark.slow
def test_flower_notes_an_unserved_run_as_the_command_line_does_until_it_is_served(s: System, flower: Flower) -> None:
    run = waiting(s, "running", "unserved")
    paths = ("/runs", f"/runs/{run}")

    alone = [notes(flower, path) for path in paths]
    serve(s, "control", "plan", "cpu")
    other = [notes(flower, path) for path in paths]
    serve(s, "control", "plan", "nightly")
    served = [notes(flower, path) for path in paths]
    s.execute("UPDATE scorebeat.workers SET seen_at = now() - interval '1 hour'")
    gone = [notes(flower, path) for path in paths]
    s.execute(
        "UPDATE scorebeat.runs SET state = 'cancelled', finished_at = now(), reason = 'enough' WHERE id = :run", run=run
    )

    assert alone == gone == [[CONTROL, NIGHTLY]] * 2
    assert other == [[NIGHTLY]] * 2
    assert served == [[], []]
    assert [notes(flower, path) for path in paths] == [[], []]
    with s.engine.connect() as connection:
        assert unserved.of_queues(connection, {"nightly"}) == [CONTROL, NIGHTLY]


def test_a_control_worker_that_does_not_plan_is_reported(s: System, flower: Flower) -> None:
    run = waiting(s, "planning", "unplanned")

    serve(s, "control", "nightly")

    assert notes(flower, f"/runs/{run}") == [
        "no control worker, so nobody serves the queue 'plan': start `scorebeat up` or `scorebeat worker --control`"
    ]


def test_a_run_that_is_over_waits_for_nobody(s: System, flower: Flower) -> None:
    over = [waiting(s, state, f"over_{state}") for state in ("succeeded", "partial", "failed", "cancelled")]

    assert [notes(flower, f"/runs/{run}") for run in over] == [[]] * 4
    assert notes(flower, "/runs?state=partial") == []
