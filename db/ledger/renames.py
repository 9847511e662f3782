"""Renaming a job or a model: every row of the ledger that has the old name, the tables and the view."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, bindparam, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from scorebeat.core import table_names
from scorebeat.core.errors import UsageError
from scorebeat.core.table_names import PREDICTIONS
from scorebeat.db.connect.sql import ident
from scorebeat.db.predictions import views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import ownership
from scorebeat.db.schema.metadata import metadata
from scorebeat.db.schema.tables import actions, jobs, model_versions, prediction_sets


def rename_job(connection: Connection, old: str, new: str, sets: Sequence[PredictionSet]) -> None:
    """Rename the job, its runs, its tables and its view; `sets` are those whose tables exist.

    Raises UsageError if a table or view of the new name exists, ViewBusy if readers hold the view.
    """
    _copy(connection, jobs, "name", old, new)
    _rename_in_rows(connection, "job", old, new)
    named = bindparam(None, {"name": new}, type_=JSONB)
    for table in (jobs, metadata.tables["scorebeat.runs"]):
        mine = table.c.name == new if table is jobs else table.c.job == new
        connection.execute(update(table).where(mine).values(spec=table.c.spec.op("||")(named)))
    connection.execute(jobs.delete().where(jobs.c.name == old))
    connection.execute(update(actions).where(actions.c.subject == f"job {old}").values(subject=f"job {new}"))
    _rename_tables(connection, [(one, _table(one, new, one.model, one.job)) for one in sets])

    def move() -> None:
        with ownership.as_owner(connection, f"rename the view {PREDICTIONS}.{old}"):
            connection.exec_driver_sql(f"ALTER VIEW IF EXISTS {PREDICTIONS}.{ident(old)} RENAME TO {ident(new)}")

    _require_free(connection, new)
    views.switch_with_retries(connection, old, move)


def rename_model(connection: Connection, old: str, new: str, sets: Sequence[PredictionSet]) -> None:
    """Rename all versions of the model, also in jobs and runs; `sets` as above."""
    _copy(connection, model_versions, "name", old, new)
    _rename_in_rows(connection, "model", old, new)
    for table in (jobs, metadata.tables["scorebeat.runs"]):
        model = table.c.spec["model"].astext
        pinned = func.starts_with(model, f"{old}/")
        moved = func.jsonb_build_object("model", literal(new) + func.substr(model, len(old) + 1))
        connection.execute(update(table).where((model == old) | pinned).values(spec=table.c.spec.op("||")(moved)))
    connection.execute(model_versions.delete().where(model_versions.c.name == old))
    connection.execute(
        update(actions)
        .where(func.starts_with(actions.c.subject, f"model {old}/"))
        .values(subject=literal(f"model {new}") + func.substr(actions.c.subject, len(f"model {old}") + 1))
    )
    _rename_tables(connection, [(one, _table(one, one.job, new, one.job)) for one in sets])


def _copy(connection: Connection, table: Table, key: str, old: str, new: str) -> None:
    """Copy the rows under the new name, for the rows that refer to them."""
    columns = list(table.c)
    values = [literal(new) if column.name == key else column for column in columns]
    connection.execute(insert(table).from_select([c.name for c in columns], select(*values).where(table.c[key] == old)))


def _rename_in_rows(connection: Connection, column: str, old: str, new: str) -> None:
    for table in metadata.sorted_tables:
        if column in table.c:
            connection.execute(update(table).where(table.c[column] == old).values({column: new}))


def _table(one: PredictionSet, job: str, model: str, old_job: str) -> str:
    """The name of the set's table with other names in it; with the generation if the old name has it."""
    plain = table_names.prediction_table(old_job, one.model, one.model_version)
    generation = None if one.table_name == plain else one.generation
    return table_names.prediction_table(job, model, one.model_version, generation)


def _rename_tables(connection: Connection, moves: Sequence[tuple[PredictionSet, str]]) -> None:
    for one, name in moves:
        _require_free(connection, name)

        def move(one: PredictionSet = one, name: str = name) -> None:
            with ownership.as_owner(connection, f"rename {one.table}"):
                connection.exec_driver_sql(f"ALTER TABLE {one.table} RENAME TO {ident(name)}")
                if one.history is not None:
                    history = ident(table_names.history_table(name))
                    connection.exec_driver_sql(f"ALTER TABLE {one.history} RENAME TO {history}")

        views.switch_with_retries(connection, one.job, move)
        history_table = table_names.history_table(name) if one.history_table is not None else None
        connection.execute(
            update(prediction_sets)
            .where(prediction_sets.c.id == one.id)
            .values(table_name=name, history_table=history_table)
        )


def _require_free(connection: Connection, name: str) -> None:
    query = text("SELECT to_regclass(:name) IS NOT NULL")
    if connection.execute(query, {"name": f"{PREDICTIONS}.{ident(name)}"}).scalar_one():
        raise UsageError(f"{PREDICTIONS}.{name} is there already; nothing was renamed. Choose another name")
