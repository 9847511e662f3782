"""No row of the ledger can contradict itself, whoever writes it."""

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import add_batch, add_run

__all__ = ["connection", "shared_engine"]

IMPOSSIBLE_BATCHES = {
    "state": {"state": "'waiting'", "finished_at": "now()"},
    "claimed": {"state": "'claimed'"},
    "claimed ": {"claim_expires_at": "now()"},
    "finished": {"state": "'committed'"},
    "finished ": {"finished_at": "now()"},
    "finished  ": {"state": "'cancelled'"},
    "sent": {"sent_at": "now()", "state": "'claimed'", "claim_expires_at": "now()"},
    "dead": {"state": "'dead'", "finished_at": "now()"},
    "attempts": {"attempts_left": "-1"},
    "care": {"care": "3"},
    "care ": {"probe_key": "'[\"7\"]'", "care": "1"},
    "attempts ": {"attempt": "-1"},
    "rows": {"rows_planned": "-1"},
    "rows ": {"rows_scored": "-1"},
    "rows  ": {"rows_failed": "-1"},
}
IMPOSSIBLE_RUNS = {
    "state": {"state": "'waiting'", "finished_at": "now()"},
    "lease": {"state": "'planning'"},
    "lease ": {"plan_expires_at": "now()"},
    "finished": {"state": "'succeeded'"},
    "finished ": {"finished_at": "now()"},
    "reason": {"state": "'failed'", "finished_at": "now()"},
    "noted": {"noted_at": "now()"},
}
IMPOSSIBLE_OTHERS = {
    "jobs_paused": "UPDATE scorebeat.jobs SET paused_at = now()",
    "model_versions_version": "UPDATE scorebeat.model_versions SET version = 0 WHERE name = 'spare'",
    "model_versions_retired": "UPDATE scorebeat.model_versions SET retired_at = now() WHERE name = 'spare'",
    "model_versions_dropped": "UPDATE scorebeat.model_versions SET dropped_at = now() WHERE published_at IS NOT NULL"
    " AND retired_at IS NULL",
    "device_limits_rows": "INSERT INTO scorebeat.device_limits VALUES ('m', 1, 'cpu', 0)",
    "installation_one": "INSERT INTO scorebeat.installation (is_only, broker_prefix) VALUES (false, 'another:')",
    "prices_unit": "INSERT INTO scorebeat.prices (position, name, unit, price, currency, since, queue, device)"
    " VALUES (1, 'a', 'day', 1, 'EUR', now(), '*', '*')",
    "prices_price": "INSERT INTO scorebeat.prices (position, name, unit, price, currency, since, queue, device)"
    " VALUES (1, 'a', 'core_hour', -1, 'EUR', now(), '*', '*')",
    "run_usage_outcome": "INSERT INTO scorebeat.run_usage (run_id, outcome, device, job, day, queue, attempts,"
    " device_seconds, cpu_seconds, rows) VALUES (1, 'nothing', 'cpu', 'a', now(), 'cpu', 1, 1, 1, 1)",
    "notices_event": "INSERT INTO scorebeat.notices (run_id, event, happened_at)"
    " SELECT id, 'begun', now() FROM scorebeat.runs",
    "notices_end": "INSERT INTO scorebeat.notices (run_id, event, happened_at, delivered_at, given_up_at)"
    " SELECT id, 'late', now(), now(), now() FROM scorebeat.runs",
}


@pytest.mark.parametrize("which", IMPOSSIBLE_BATCHES)
def test_a_batch_that_contradicts_itself_is_refused(connection: Connection, which: str) -> None:
    batch_id = add_batch(connection, add_run(connection))
    wrong = ", ".join(f"{column} = {value}" for column, value in IMPOSSIBLE_BATCHES[which].items())

    with pytest.raises(IntegrityError, match=f"batches_{which.strip()}_check"):
        connection.exec_driver_sql(f"UPDATE scorebeat.batches SET {wrong} WHERE id = {batch_id}")


@pytest.mark.parametrize("which", IMPOSSIBLE_RUNS)
def test_a_run_that_contradicts_itself_is_refused(connection: Connection, which: str) -> None:
    run_id = add_run(connection)
    wrong = ", ".join(f"{column} = {value}" for column, value in IMPOSSIBLE_RUNS[which].items())

    with pytest.raises(IntegrityError, match=f"runs_{which.strip()}_check"):
        connection.exec_driver_sql(f"UPDATE scorebeat.runs SET {wrong} WHERE id = {run_id}")


@pytest.mark.parametrize("which", IMPOSSIBLE_OTHERS)
def test_every_other_row_that_contradicts_itself_is_refused(connection: Connection, which: str) -> None:
    add_run(connection)
    connection.exec_driver_sql(
        "INSERT INTO scorebeat.model_versions (name, version, format, digest, signature, added_by)"
        " VALUES ('spare', 1, 'skops', 'd', '{}', 'ann')"
    )

    with pytest.raises(IntegrityError, match=f"{which}_check"):
        connection.exec_driver_sql(IMPOSSIBLE_OTHERS[which])


def test_every_check_of_the_ledger_is_tried_here(connection: Connection) -> None:
    found = connection.exec_driver_sql(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'scorebeat'::regnamespace"
    )

    tried = {f"batches_{name.strip()}_check" for name in IMPOSSIBLE_BATCHES}
    tried |= {f"runs_{name.strip()}_check" for name in IMPOSSIBLE_RUNS} | {f"{n}_check" for n in IMPOSSIBLE_OTHERS}
    assert {row[0] for row in found} == tried


def test_a_second_open_run_of_a_job_and_version_is_refused(connection: Connection) -> None:
    add_run(connection, "planning")

    with pytest.raises(IntegrityError, match="runs_one_open"):
        add_run(connection, "running")


def test_two_versions_of_a_model_are_never_published_together(connection: Connection) -> None:
    add_run(connection)

    with pytest.raises(IntegrityError, match="model_versions_one_published"):
        connection.exec_driver_sql(
            "INSERT INTO scorebeat.model_versions (name, version, format, digest, signature, added_by, published_at)"
            " VALUES ('flowers', 2, 'skops', 'd', '{}', 'ann', now())"
        )
