"""A ledger of the first release in the middle of its work, from plain SQL: what wrote it is not here any more."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import sqlparse
from alembic import command
from sqlalchemy import Engine, text

from scorebeat.db.schema import migrate
from scorebeat.db.schema.migrations.releases import RELEASED
from tests.support.ledger_fixtures import Ledger

SPEC = json.dumps(
    {"name": "flowers_job", "query": "SELECT id, a, b FROM items", "key": ["id"], "model": "flowers", "batch_rows": 10}
    | {"queue": "cpu", "error_threshold": 0.5, "on_failure": "retry-rows", "rescore": "never", "keep": 3}
)
EVERY = json.dumps(json.loads(SPEC) | {"name": "every_job", "rescore": "every-run"})
TABLES = ("flowers_job__flowers_v1", "every_job__flowers_v1_g1", "every_job__flowers_v1_g2")
STATEMENTS = Path(__file__).with_suffix(".sql")

Contents = dict[str, tuple[list[str], list[tuple[Any, ...]]]]
"""By table: its columns, and its rows in an order of their own."""


def fill(ledger: Ledger) -> None:
    """Bring an empty database to the first release's schema and fill it."""
    artifact, engine = ledger.trained.artifact, ledger.engine
    with engine.begin() as connection:
        migrate.make_schemas(connection)
        command.upgrade(migrate.config(connection), RELEASED["0.1"])
        values = {"digest": artifact.digest, "signature": json.dumps(artifact.signature.to_json())}
        values |= {"spec": SPEC, "every": EVERY}
        for statement in sqlparse.split(STATEMENTS.read_text("utf-8")):
            bound = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), bound) if bound else connection.exec_driver_sql(statement)
    for number in (1, 2):
        copytree(artifact.folder, Path(ledger.settings.artifacts) / "flowers" / str(number))
    scored = [number for number in range(1, 11) if number != 3]
    for number, (a, b) in zip(
        scored, ledger.sql("SELECT a, b FROM items WHERE id <= 10 AND id <> 3 ORDER BY id"), strict=True
    ):
        outputs = dict(zip(("label", "p0", "p1", "p2"), ledger.trained.of([(a, b)])[0], strict=True))
        ledger.sql(
            f"INSERT INTO predictions.{TABLES[0]} (id, label, p0, p1, p2, batch_id)"
            f" VALUES ({number}, :label, :p0, :p1, :p2, 1)",
            **outputs,
        )


def contents(engine: Engine, like: Contents | None = None) -> Contents:
    """The rows of both schemas; with `like` only the columns that it has."""
    statement = (
        "SELECT format('%I.%I', table_schema, table_name), array_agg(quote_ident(column_name)"
        " ORDER BY ordinal_position) FROM information_schema.columns"
        " WHERE table_schema IN ('scorebeat', 'predictions') AND table_name <> 'alembic_version' GROUP BY 1"
    )
    with engine.connect() as connection:
        found = {name: list(columns) for name, columns in connection.exec_driver_sql(statement)}
        wanted = found if like is None else {name: columns for name, (columns, _) in like.items()}
        return {
            name: (
                columns,
                sorted((tuple(row) for row in connection.exec_driver_sql(_rows(name, columns))), key=repr),
            )
            for name, columns in wanted.items()
        }


def _rows(table: str, columns: list[str]) -> str:
    return f"SELECT {', '.join(columns)} FROM {table}"
