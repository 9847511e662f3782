"""A candidate version is scored beside the published one, whose runs it never holds up."""

from datetime import timedelta
from typing import Any

import pytest
import redis

from scorebeat.core.states import Rank
from scorebeat.db.ledger import batches, outbox
from scorebeat.db.processes import workers
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.plan import plan
from scorebeat.producer.dispatch import dispatch
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.integration.planning.test_dispatch import batch_of, queued, valkey
from tests.support.fixtures import Programs, wait_for
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

pytestmark = pytest.mark.wide

__all__ = ["ledger", "trained", "valkey"]

PROCESSES = 4
BACKLOG = 2_000


@pytest.fixture
def candidate(ledger: Ledger) -> Ledger:
    """A candidate's run of 2,000 batches, before a worker of four processes."""
    ledger.sql(FILL.format(first=1, last=BACKLOG))
    with ledger.engine.begin() as connection:
        workers.seen(connection, "w1", ["cpu"], "cpu", PROCESSES)
    ledger.new_version(2)
    ledger.planned(a_job(batch_rows=1), version=2)
    return ledger


def nightly(ledger: Ledger, **options: Any) -> list[int]:
    """Batches of a run of the published version over other rows, planned; of a tick by default."""
    job = a_job(name="nightly", query=f"SELECT id, a, b FROM items WHERE id <= {BACKLOG} AND id % 100 = 0")
    ledger.apply(job)
    now = ledger.sql("SELECT now()")[0]
    run_id = enqueue(ledger.producer, Request("nightly", "beat", **({"due_at": now} | options))).run_id
    plan(ledger.producer, run_id)
    return ledger.batch_ids(run_id)


def out(ledger: Ledger) -> int:
    return int(ledger.sql("SELECT count(*) FROM scorebeat.batches WHERE sent_at IS NOT NULL")[0])


def claim(ledger: Ledger, batch_id: int) -> bool:
    with ledger.engine.begin() as connection:
        return batches.claim(connection, batch_id, "w1", timedelta(minutes=1)) is not None


@pytest.mark.parametrize("options", [{}, {"due_at": None, "run_key": "airflow 2026-07-01"}], ids=["tick", "run key"])
def test_a_scheduled_run_waits_for_few_batches_of_a_candidate(
    candidate: Ledger, valkey: redis.Redis, options: dict[str, Any]
) -> None:
    before = out(candidate)
    wanted = nightly(candidate, **options)

    claimed: list[int] = []
    while not set(wanted) <= set(claimed):
        claimed += [batch for m in queued(valkey)[len(claimed) :] if claim(candidate, batch := batch_of(m))]
        dispatch(candidate.producer, "cpu")

    assert before == outbox.A_PROCESS[0] * PROCESSES
    first = claimed.index(wanted[0])
    assert first <= before
    assert claimed[first : first + len(wanted)] == wanted


def test_a_scheduled_run_is_sent_before_a_run_by_hand_and_that_before_a_candidate(candidate: Ledger) -> None:
    with candidate.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE scorebeat.batches SET sent_at = NULL")
    by_hand = nightly(candidate, due_at=None)
    job = a_job(name="tick", query="SELECT id, a, b FROM items WHERE id <= 10")
    candidate.apply(job)
    made = enqueue(candidate.producer, Request("tick", "beat", due_at=candidate.sql("SELECT now()")[0])).run_id
    plan(candidate.producer, made)
    candidate.sql("UPDATE scorebeat.batches SET sent_at = NULL")

    with candidate.engine.begin() as connection:
        back = outbox.stand_back(connection, "cpu")
        sent = [outbox.mark_sent(connection, "cpu", window, back) for window in (2, 5)]

    assert sent[0] == [*candidate.batch_ids(made), by_hand[0]]
    assert sent[1][0] == by_hand[1]
    assert len(sent[1]) == 3
    assert candidate.sql("SELECT rank FROM scorebeat.runs ORDER BY id") == [
        Rank.CANDIDATE,
        Rank.BY_HAND,
        Rank.SCHEDULED,
    ]


def test_a_candidates_backlog_is_topped_up_as_it_is_claimed(candidate: Ledger, valkey: redis.Redis) -> None:
    for message in queued(valkey)[:5]:
        assert claim(candidate, batch_of(message))

    assert dispatch(candidate.producer, "cpu") == 5
    assert out(candidate) == outbox.A_PROCESS[0] * PROCESSES


def test_a_candidate_of_quick_batches_may_have_as_many_out_as_take_a_few_seconds(candidate: Ledger) -> None:
    candidate.sql(
        "UPDATE scorebeat.batches SET state = 'committed', sent_at = NULL, finished_at = now(), fetch_seconds = 0.01,"
        " predict_seconds = 0.08, commit_seconds = 0.01 WHERE number <= 3"
    )

    dispatch(candidate.producer, "cpu")

    assert out(candidate) == PROCESSES * outbox.AHEAD / timedelta(seconds=0.1)


def test_a_run_by_hand_has_the_whole_window_unless_a_schedule_shares_its_queue(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=100))
    ledger.planned(a_job(batch_rows=1))
    alone = out(ledger)
    ledger.sql("UPDATE scorebeat.batches SET sent_at = NULL")
    scheduled = a_job(name="nightly").model_copy(update={"schedule": "0 3 * * *"})
    ledger.apply(scheduled)

    dispatch(ledger.producer, "cpu")

    assert alone == 100
    assert out(ledger) == outbox.A_PROCESS[0]


def test_a_published_version_is_never_a_candidate(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=10))
    ledger.new_version(2)

    for options in ({"version": 1}, {"version": 2}):
        ledger.planned(a_job(name=f"job_{options['version']}"), **options)
    ledger.planned(a_job(name="pinned", model=f"{MODEL}/2"))

    assert ledger.sql("SELECT rank FROM scorebeat.runs ORDER BY id") == [Rank.BY_HAND, Rank.CANDIDATE, Rank.BY_HAND]


def test_a_real_worker_scores_the_nightly_run_long_before_the_candidate_is_done(
    ledger: Ledger, programs: Programs
) -> None:
    ledger.sql(FILL.format(first=1, last=3 * BACKLOG))
    ledger.new_version(2)
    slow = ledger.planned(a_job(batch_rows=3), version=2)
    programs.worker("cpu")
    left = "SELECT count(*) FROM scorebeat.batches WHERE run_id = :run AND state IN ('pending', 'claimed')"
    wait_for(lambda: run_once(ledger.producer) and ledger.sql(left, run=slow)[0] < 0.9 * BACKLOG)

    wanted = nightly(ledger)
    run_id = ledger.sql("SELECT max(id) FROM scorebeat.runs")[0]
    wait_for(lambda: run_once(ledger.producer) and ledger.run(run_id).state == "succeeded")

    assert len(wanted) == 2
    waited = ledger.sql(
        "SELECT count(*) FROM scorebeat.batches c, scorebeat.batches n WHERE c.run_id = :slow AND n.run_id = :run"
        " AND n.number = 1 AND c.claimed_at BETWEEN (SELECT created_at FROM scorebeat.runs WHERE id = :run)"
        " AND n.claimed_at",
        slow=slow,
        run=run_id,
    )[0]
    assert waited <= 2 * outbox.A_PROCESS[-1]  # those out when it was enqueued, and those of one more round
    ledger.producer.app.control.purge()
