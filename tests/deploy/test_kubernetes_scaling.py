"""The queries by which KEDA scales workers, as they are in the YAML, on a real ledger."""

import re
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from scorebeat.db.ledger import batches
from tests.deploy.manifests import PAGE, named, shape
from tests.docs.pages import Page
from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import add_batch, add_run

__all__ = ["connection", "shared_engine"]

ROLE = "scorebeat_scaler"


def wanted(ledger: Connection, queue: str = "cpu") -> Any:
    """The result of KEDA's query for the workers of the queue."""
    scaled = named(shape("overlays/keda"), "ScaledObject", f"worker-{queue}")
    return ledger.exec_driver_sql(scaled["spec"]["triggers"][0]["metadata"]["query"]).scalar_one()


def test_an_idle_ledger_wants_no_worker(connection: Connection) -> None:
    run = add_run(connection, "succeeded")
    for number, state in enumerate(["committed", "dead", "cancelled"], 1):
        add_batch(connection, run, state, number=number)

    assert (wanted(connection, "cpu"), wanted(connection, "gpu")) == (0, 0)


def test_waiting_and_claimed_batches_count_each_for_its_own_queue(connection: Connection) -> None:
    run = add_run(connection)
    waiting = ["pending", "pending", "claimed", "committed", "dead", "cancelled"]
    for number, state in enumerate(waiting, 1):
        add_batch(connection, run, state, number=number)
    for number, state in enumerate(["claimed", "committed"], 7):
        add_batch(connection, run, state, number=number, queue="gpu")
    other = add_run(connection, job="other_job")
    add_batch(connection, other, "pending", queue="nightly")

    assert (wanted(connection, "cpu"), wanted(connection, "gpu")) == (3, 1)


def test_a_worker_that_has_the_last_batch_is_wanted_to_its_commit(connection: Connection) -> None:
    last = add_batch(connection, add_run(connection), "claimed")
    assert wanted(connection) == 1

    connection.exec_driver_sql(
        "UPDATE scorebeat.batches SET state = 'committed', claim_expires_at = NULL, finished_at = now()"
        f" WHERE id = {last}"
    )

    assert wanted(connection) == 0


def test_a_canary_on_its_way_wants_a_worker_of_its_queue(connection: Connection) -> None:
    add_run(connection, "succeeded", "rare")
    connection.exec_driver_sql(
        "INSERT INTO scorebeat.canaries (job, queue, expires_at, finished_at, reported_at)"
        " VALUES ('rare', 'cpu', now(), NULL, NULL), ('rare', 'cpu', now(), now(), NULL)"
    )

    assert (wanted(connection, "cpu"), wanted(connection, "gpu")) == (1, 0)


def test_a_retry_that_waits_for_its_time_keeps_a_worker(connection: Connection) -> None:
    run = add_run(connection)
    add_batch(connection, run, next_attempt_at="2999-01-01")
    add_batch(connection, run, number=2, sent_at="now")

    assert wanted(connection) == 2


def test_an_expired_claim_counts_until_and_after_it_is_rescued(connection: Connection) -> None:
    add_batch(connection, add_run(connection), "claimed", claim_expires_at="2000-01-01")
    assert wanted(connection) == 1

    assert len(batches.rescue(connection)) == 1

    assert wanted(connection) == 1


def test_a_cancelled_run_wants_nobody(connection: Connection) -> None:
    run, goes_on = add_run(connection), add_run(connection, job="other_job")
    add_batch(connection, run)
    add_batch(connection, run, "claimed", number=2)
    add_batch(connection, goes_on)

    batches.cancel(connection, run)

    assert wanted(connection) == 1


def test_the_page_describes_how_soon_and_how_many_workers_come_and_go() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    cpu, gpu = (named(shape("overlays/keda"), "ScaledObject", f"worker-{queue}")["spec"] for queue in ("cpu", "gpu"))

    for one in (cpu, gpu):
        assert f"has KEDA ask the ledger every {one['pollingInterval']} seconds" in text
        assert f"a worker for each {one['triggers'][0]['metadata']['targetQueryValue']} batches" in text
        assert f" {one['cooldownPeriod']} seconds after the last batch was committed" in text
    assert f"at most {cpu['maxReplicaCount']} (on GPUs {gpu['maxReplicaCount']})" in text


def test_the_role_of_the_page_may_count_batches_and_nothing_else(connection: Connection) -> None:
    add_batch(connection, add_run(connection))
    (sql,) = (block.text for block in Page.read(PAGE).blocks if block.language == "sql" and ROLE in block.text)
    connection.exec_driver_sql(sql)
    connection.exec_driver_sql(f"SET LOCAL ROLE {ROLE}")
    bounds = connection.exec_driver_sql("SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = current_user")

    assert tuple(bounds.one()) == (10, ["statement_timeout=5s"])
    assert wanted(connection) == 1
    for refused in (
        "SELECT error FROM scorebeat.batches",
        "SELECT 1 FROM scorebeat.runs",
        "DELETE FROM scorebeat.batches",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), connection.begin_nested():
            connection.exec_driver_sql(refused)


def test_counting_reads_open_batches_only_however_many_are_done(shared_engine: Engine) -> None:
    with shared_engine.connect() as ledger:
        run = add_run(ledger)
        ledger.exec_driver_sql(
            "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, attempts_left, first_key,"
            f" last_key, finished_at) SELECT {run}, n, 'cpu', 'committed', 10, 5, '[\"1\"]', '[\"10\"]', now()"
            " FROM generate_series(1, 50000) AS n"
        )
        add_batch(ledger, run, number=50_001)
        ledger.exec_driver_sql("ANALYZE scorebeat.batches")
        query = named(shape("overlays/keda"), "ScaledObject", "worker-cpu")["spec"]["triggers"][0]["metadata"]["query"]
        plan = "\n".join(ledger.exec_driver_sql(f"EXPLAIN {query}").scalars())

    assert "Seq Scan" not in plan, plan
    assert re.search("batches_(open|pending)", plan), plan
