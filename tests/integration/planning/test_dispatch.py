"""Messages only wake: a bounded number is out, after the commit, and what is lost is sent again."""

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import Engine

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import batches, outbox
from scorebeat.producer import dispatch as dispatching
from scorebeat.producer.context import Producer
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.dispatch import dispatch, dispatch_all
from tests.support.fixtures import wait_for
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_batch, add_run

__all__ = ["ledger", "trained"]

LONG_AGO = "UPDATE scorebeat.batches SET sent_at = now() - interval '1 hour' WHERE sent_at IS NOT NULL"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
OUT = "SELECT count(*) FROM scorebeat.batches WHERE sent_at IS NOT NULL"


@pytest.fixture
def valkey(broker: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=urlsplit(broker).path)


def queued(valkey: redis.Redis, queue: str = "cpu") -> list[bytes]:
    """The messages that wait, oldest first."""
    keys: Any = valkey.keys(f"scorebeat:*:{queue}")
    found: Any = [message for key in keys for message in valkey.lrange(key, 0, -1)]
    return list(reversed(found))


def batch_of(message: bytes) -> Any:
    return json.loads(base64.b64decode(json.loads(message)["body"]))[0][0]


def pending(engine: Engine, number: int, queue: str = "cpu", job: str = "flowers_job") -> list[int]:
    with engine.begin() as connection:
        run_id = add_run(connection, job=job)
        return [add_batch(connection, run_id, number=n + 1, queue=queue) for n in range(number)]


def execute(engine: Engine, statement: str) -> Any:
    with engine.begin() as connection:
        result = connection.exec_driver_sql(statement)
        return result.scalar() if result.returns_rows else result.rowcount


def with_window(producer: Producer, window: int) -> Producer:
    return Producer(producer.settings.model_copy(update={"window": window}), "test")


def test_no_more_messages_are_out_than_the_window_holds(
    engine: Engine, producer: Producer, valkey: redis.Redis
) -> None:
    ids, p = pending(engine, 10), with_window(producer, 4)

    first, again = dispatch(p, "cpu"), dispatch(p, "cpu")

    assert (first, again) == (4, 0)
    assert [batch_of(m) for m in queued(valkey)] == ids[:4]
    p.close()


def test_the_window_is_topped_up_as_batches_are_claimed(engine: Engine, producer: Producer) -> None:
    ids, p = pending(engine, 10), with_window(producer, 4)
    dispatch(p, "cpu")
    with engine.begin() as connection:
        for batch_id in ids[:3]:
            batches.claim(connection, batch_id, "w1", timedelta(minutes=1))

    assert dispatch(p, "cpu") == 3
    assert execute(engine, OUT) == 4
    p.close()


def test_each_queue_has_a_window_of_its_own(engine: Engine, producer: Producer, valkey: redis.Redis) -> None:
    pending(engine, 3, "cpu")
    pending(engine, 3, "gpu", job="other_job")
    p = with_window(producer, 2)

    assert dispatch_all(p) == 4
    assert (len(queued(valkey, "cpu")), len(queued(valkey, "gpu"))) == (2, 2)
    p.close()


def test_a_message_holds_one_batch_id_and_no_code(engine: Engine, producer: Producer, valkey: redis.Redis) -> None:
    ids = pending(engine, 1)

    dispatch(producer, "cpu")

    message = json.loads(queued(valkey)[0])
    arguments, named, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, named) == (ids, {})
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == "scorebeat.score"


def test_a_message_goes_out_only_when_its_mark_is_committed(
    engine: Engine, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending(engine, 3)
    marked: list[int] = []

    def look(_app: Any, _queue: str, due: Sequence[int]) -> int:
        marked.append(execute(engine, OUT))  # another connection sees committed marks only
        return len(due)

    monkeypatch.setattr(dispatching, "send_batches", look)

    dispatch(producer, "cpu")

    assert marked == [3]


def test_a_producer_that_dies_before_it_sends_loses_nothing(
    engine: Engine, producer: Producer, valkey: redis.Redis
) -> None:
    ids = pending(engine, 3)
    with engine.begin() as connection:
        outbox.mark_sent(connection, "cpu", 1000)  # and here it dies

    soon = dispatch_all(producer)
    execute(engine, LONG_AGO)
    later = dispatch_all(producer)

    assert (soon, later) == (0, 3)
    assert [batch_of(m) for m in queued(valkey)] == ids


def test_a_message_that_waits_in_a_long_queue_is_not_sent_again(
    engine: Engine, producer: Producer, valkey: redis.Redis
) -> None:
    pending(engine, 5)
    dispatch(producer, "cpu")
    execute(engine, LONG_AGO)

    assert dispatch_all(producer) == 0
    assert len(queued(valkey)) == 5


def test_a_broker_that_lost_everything_gets_every_message_again(
    engine: Engine, producer: Producer, valkey: redis.Redis
) -> None:
    ids = pending(engine, 5)
    dispatch(producer, "cpu")
    valkey.flushall()
    execute(engine, LONG_AGO)

    assert run_once(producer).dispatched == 5
    assert [batch_of(m) for m in queued(valkey)] == ids


def test_a_batch_that_pauses_is_sent_when_the_pause_is_over(engine: Engine, producer: Producer) -> None:
    pending(engine, 1)
    execute(engine, "UPDATE scorebeat.batches SET next_attempt_at = now() + interval '1 hour'")

    before = dispatch_all(producer)
    execute(engine, "UPDATE scorebeat.batches SET next_attempt_at = now()")

    assert (before, dispatch_all(producer)) == (0, 1)


def test_two_producers_at_once_keep_to_one_window(engine: Engine) -> None:
    ids = pending(engine, 10)

    def mark() -> list[int]:
        with engine.begin() as connection:
            return outbox.mark_sent(connection, "cpu", 4)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            marked = outbox.mark_sent(first, "cpu", 4)
            other = pool.submit(mark)
            wait_for(lambda: execute(engine, WAITING))
        second = other.result(timeout=10)

    assert (marked, second) == (ids[:4], [])


def test_many_producers_at_once_send_each_batch_once(engine: Engine, settings: Settings, valkey: redis.Redis) -> None:
    ids = pending(engine, 60)
    producers = [Producer(settings, f"p{n}") for n in range(4)]

    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(dispatch_all, producers))

    assert sum(sent) == 60
    assert sorted(batch_of(m) for m in queued(valkey)) == ids
    for p in producers:
        p.close()


def test_a_batch_that_is_being_claimed_holds_up_no_producer(engine: Engine, producer: Producer) -> None:
    ids = pending(engine, 3)

    with engine.begin() as claiming:
        batches.claim(claiming, ids[0], "w1", timedelta(minutes=1))
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(dispatch, producer, "cpu").result(timeout=5)

    assert sent == 2


def test_without_a_broker_nothing_is_lost_and_all_is_sent_later(
    ledger: Ledger, settings: Settings, valkey: redis.Redis
) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    nowhere = settings.model_copy(update={"broker_url": "redis+socket:///nowhere/at-all.sock"})
    without = Ledger(Producer(nowhere, "test"), ledger.trained, nowhere)

    run_id = without.planned(a_job())
    assert run_once(without.producer).dispatched == 0
    ledger.sql(LONG_AGO)
    run_once(ledger.producer)

    assert sorted(batch_of(m) for m in queued(valkey)) == ledger.batch_ids(run_id)
    without.producer.close()


def test_a_broker_that_restarts_gets_every_message_by_the_next_ticks(
    engine: Engine, producer: Producer, valkey: redis.Redis
) -> None:
    ids = pending(engine, 5)
    dispatch_all(producer)
    valkey.flushall()
    valkey.client_kill_filter(_type="normal", skipme=True)

    for _ in range(2):
        execute(engine, LONG_AGO)
        dispatch_all(producer)

    assert [batch_of(m) for m in queued(valkey)] == ids
