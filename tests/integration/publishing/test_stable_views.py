"""The views that dbt and dashboards read, `scorebeat.run_status` and `predictions.*`, keep their promised columns."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from scorebeat.producer.context import Producer
from tests.docs.pages import REPOSITORY
from tests.support.cli_fixtures import ROWS, Cli, score_all

PROMISED = {
    "id": "bigint",
    "job": "text",
    "model": "text",
    "model_version": "integer",
    "state": "text",
    "rows_planned": "bigint",
    "rows_scored": "bigint",
    "rows_failed": "bigint",
    "created_at": "timestamp with time zone",
    "created_by": "text",
    "due_at": "timestamp with time zone",
    "deadline_at": "timestamp with time zone",
    "planned_at": "timestamp with time zone",
    "finished_at": "timestamp with time zone",
    "reason": "text",
    "queue": "text",
    "batches": "bigint",
    "batches_open": "bigint",
    "batches_dead": "bigint",
}


def columns(connection: Connection, schema: str, view: str) -> dict[str, str]:
    statement = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = :schema"
        " AND table_name = :view ORDER BY ordinal_position"
    )
    found = connection.execute(text(statement), {"schema": schema, "view": view})
    return {row.column_name: row.data_type for row in found}


@pytest.fixture
def reader(engine: Engine) -> Iterator[Connection]:
    """A role with the grants of the page, and no other."""
    page = (REPOSITORY / "docs/how-to/read-from-dbt-and-bi.md").read_text("utf-8")
    grants = re.findall(r"^GRANT .*;$", page, re.MULTILINE)
    assert len(grants) >= 2
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE bi")
        for grant in grants:
            connection.exec_driver_sql(grant)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE bi")
        yield connection
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY bi")
        connection.exec_driver_sql("DROP ROLE bi")


def test_run_status_has_the_promised_columns_and_types(engine: Engine) -> None:
    with engine.connect() as connection:
        assert columns(connection, "scorebeat", "run_status") == PROMISED


def test_run_status_equals_runs_json(scorebeat: Cli, job: str, producer: Producer, engine: Engine) -> None:
    scorebeat("enqueue", job)
    score_all(producer, 1)
    scorebeat("enqueue", job)

    promised = json.loads(scorebeat("runs", "--json", "--all").stdout)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT * FROM scorebeat.run_status ORDER BY id DESC"))
        rows = [dict(row._mapping) for row in found]

    assert len(rows) == 2
    same = [{name: one[name] for name in PROMISED} for one in promised]  # the command also has what is forecast
    assert [{name: _json(value) for name, value in row.items()} for row in rows] == same


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def test_the_columns_are_in_the_reference_page() -> None:
    page = (REPOSITORY / "docs/reference/tables.md").read_text("utf-8")
    section = page.split("### `run_status`")[1].split("\n#")[0]

    assert re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))) == list(PROMISED)


def test_a_reader_sees_runs_and_predictions_and_changes_nothing(
    scorebeat: Cli, job: str, producer: Producer, reader: Connection
) -> None:
    scorebeat("enqueue", job)
    score_all(producer, 1)

    assert reader.execute(text("SELECT rows_scored FROM scorebeat.run_status")).scalar_one() == ROWS
    assert columns(reader, "predictions", job) == {
        "id": "bigint",
        "total": "double precision",
        "batch_id": "bigint",
        "scored_at": "timestamp with time zone",
    }
    assert reader.execute(text(f"SELECT count(*) FROM predictions.{job}")).scalar_one() == ROWS
    for statement in (
        f"DELETE FROM predictions.{job}",
        "SELECT * FROM scorebeat.batches",
        "DELETE FROM scorebeat.runs",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), reader.begin_nested():
            reader.execute(text(statement))
