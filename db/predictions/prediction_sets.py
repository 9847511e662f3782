"""Prediction sets: a table for the predictions of one job and one model version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from scorebeat.core import table_names
from scorebeat.core.errors import NotPermitted, SignatureError
from scorebeat.core.jobs.job import Job
from scorebeat.core.table_names import CHANGED_AT, PREDICTIONS
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import ident, subquery
from scorebeat.db.schema import functions, ownership
from scorebeat.db.schema.tables import prediction_sets as sets
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.types import column_type

RESERVED = ("batch_id", "scored_at", CHANGED_AT)


@dataclass(frozen=True)
class PredictionSet:
    """A row of the ledger; `table` is quoted and has its schema."""

    id: int
    job: str
    model: str
    model_version: int
    generation: int
    table_name: str
    complete_at: datetime | None
    history_table: str | None = None
    """Name of the table of its replaced predictions."""
    unbuilt_key: tuple[str, ...] | None = None
    """Columns of its primary key, while that is not built: `generation_keys`."""

    @property
    def table(self) -> str:
        return f"{PREDICTIONS}.{ident(self.table_name)}"

    @property
    def history(self) -> str | None:
        """As `table`."""
        return f"{PREDICTIONS}.{ident(self.history_table)}" if self.history_table is not None else None


def get(connection: Connection, set_id: int) -> PredictionSet:
    return of_row(connection.execute(select(*COLUMNS).where(sets.c.id == set_id)).one())


def find(
    connection: Connection, job: str, model: str, version: int, generation: int | None = None
) -> PredictionSet | None:
    """The set of this job, model version and generation; by default the newest generation."""
    wanted = select(*COLUMNS).where(
        sets.c.job == job, sets.c.model == model, sets.c.model_version == version, sets.c.dropped_at.is_(None)
    )
    if generation is not None:
        wanted = wanted.where(sets.c.generation == generation)
    row = connection.execute(wanted.order_by(sets.c.generation.desc()).limit(1)).one_or_none()
    return of_row(row) if row is not None else None


def of_table(connection: Connection, table_name: str) -> PredictionSet | None:
    """The set whose table has this name."""
    row = connection.execute(select(*COLUMNS).where(sets.c.table_name == table_name)).one_or_none()
    return of_row(row) if row is not None else None


def shown(connection: Connection, job: Job, version: int) -> PredictionSet | None:
    """The set that the view shows: the newest generation that a run completed."""
    wanted = select(*COLUMNS).where(
        sets.c.job == job.name,
        sets.c.model == job.model_name,
        sets.c.model_version == version,
        sets.c.dropped_at.is_(None),
        sets.c.complete_at.is_not(None),
    )
    row = connection.execute(wanted.order_by(sets.c.generation.desc()).limit(1)).one_or_none()
    return of_row(row) if row is not None else None


def shown_of_each_version(connection: Connection, job: str) -> list[PredictionSet]:
    """Of each model version that the job has a table of, the newest generation that a run completed."""
    wanted = select(*COLUMNS).where(sets.c.job == job, sets.c.dropped_at.is_(None), sets.c.complete_at.is_not(None))
    newest = wanted.ext(distinct_on(sets.c.model, sets.c.model_version))
    ordered = newest.order_by(sets.c.model, sets.c.model_version, sets.c.generation.desc())
    return [of_row(row) for row in connection.execute(ordered)]


def ensure(connection: Connection, source: Source, job: Job, version: int, outputs: pa.Schema) -> PredictionSet:
    """The set that readers see of this version, made with its table if there is none yet.

    It is complete from the start: its view shows what is scored so far. A job that scores every row in
    every run gets an empty generation 0, so that the view exists before its first run ends. `stored_keys` checks
    whether the key is still the same.
    """
    found = shown(connection, job, version)
    if found is None:
        generation = 0 if job.rescore == "every-run" else 1
        found = _create(connection, source, job, version, generation, outputs, has_key=True)
        mark_complete(connection, found.id)
    return found


def new_generation(connection: Connection, shown: PredictionSet, *, has_key: bool) -> PredictionSet:
    """An empty set beside the newest, with a table like the one of `shown`, made by the ledger's owner.

    It is shown when a run over it succeeds. Without `has_key` its primary key is built then: `generation_keys`. A table
    with further indexes has its key all the same.
    """
    newest = find(connection, shown.job, shown.model, shown.model_version) or shown
    number = newest.generation + 1
    name = table_names.prediction_table(shown.job, shown.model, shown.model_version, number)
    opens = "open_generation" if has_key else "open_generation_without_key"
    return get(connection, int(functions.call(connection, opens, shown.id, number, name)))


def beside(
    connection: Connection, source: Source, job: Job, version: int, outputs: pa.Schema, *, has_key: bool
) -> PredictionSet:
    """An empty set beside those of the version, for a run that scores every row again, whatever `rescore` is.

    Raises NotPermitted unless our role owns the ledger. It is shown when a run over it succeeds. `has_key` as above.
    """
    ownership.require_owner(connection, f"score every row of job {job.name} again")
    newest = find(connection, job.name, job.model_name, version)
    number = newest.generation + 1 if newest is not None else 1
    every_run = job.model_copy(update={"rescore": "every-run"})
    return _create(connection, source, every_run, version, number, outputs, has_key=has_key)


def hides(connection: Connection, set_id: int) -> bool:
    """Whether readers see its batches only up to a number: what comes is hidden until a run is shown."""
    return bool(connection.execute(select(sets.c.visible_below.is_not(None)).where(sets.c.id == set_id)).scalar_one())


def mark_complete(connection: Connection, set_id: int) -> None:
    connection.execute(
        update(sets).where(sets.c.id == set_id, sets.c.complete_at.is_(None)).values(complete_at=func.now())
    )


def of_version(connection: Connection, model: str, version: int) -> list[PredictionSet]:
    """The sets of all jobs for this version, all generations that were not dropped."""
    wanted = select(*COLUMNS).where(sets.c.model == model, sets.c.model_version == version, sets.c.dropped_at.is_(None))
    return [of_row(row) for row in connection.execute(wanted.order_by(sets.c.id))]


def count(connection: Connection, found: Sequence[PredictionSet]) -> int:
    """Number of predictions in these sets."""
    counts = (connection.exec_driver_sql(f"SELECT count(*) FROM {one.table}").scalar_one() for one in found)
    return sum(int(rows) for rows in counts)


def _create(
    connection: Connection,
    source: Source,
    job: Job,
    version: int,
    generation: int,
    outputs: pa.Schema,
    *,
    has_key: bool,
) -> PredictionSet:
    name = table_names.prediction_table(
        job.name, job.model_name, version, generation if job.rescore == "every-run" else None
    )
    if not ownership.is_owner(connection):
        raise NotPermitted(
            f"jobs.{job.name}: there is no table yet for predictions of {job.model_name}/{version}, and only the "
            f"ledger's owner, {ownership.owner(connection)}, can make it: `scorebeat apply` under it does so for the "
            f"version that the job follows, `scorebeat enqueue {job.name} --model {job.model_name}/{version}` for any"
        )
    made = connection.execute(
        insert(sets)
        .values(
            job=job.name,
            model=job.model_name,
            model_version=version,
            generation=generation,
            table_name=name,
            unbuilt_key=None if has_key else [key.name for key in source.keys],
        )
        .on_conflict_do_nothing()
        .returning(sets.c.id)
    ).scalar_one_or_none()
    found = find(connection, job.name, job.model_name, version, generation)
    if found is None:
        raise SignatureError(f"jobs.{job.name}: the table {PREDICTIONS}.{name} belongs to another prediction set")
    if made is not None:
        with ownership.as_owner(connection, f"make {found.table}"):
            _create_table(connection, source, found, outputs)
    return found


def _create_table(connection: Connection, source: Source, made: PredictionSet, outputs: pa.Schema) -> None:
    """Make the table. CREATE TABLE AS keeps the keys' exact types and collations."""
    keys = [ident(k.name) for k in source.keys]
    reserved = dict.fromkeys(RESERVED, "of a column that every prediction table has")
    reserved |= {k.name: f"of the job's key, too: write SELECT {ident(k.name)} AS another_name" for k in source.keys}
    parts = []
    for output in outputs:
        sql_type = column_type(output.type)
        if sql_type is None or output.name in reserved:
            why = (
                f"has type {output.type}, which no column can store"
                if sql_type is None
                else f"is the name {reserved[output.name]}, or add the model with other names by --outputs"
            )
            raise SignatureError(
                f"jobs.{made.job}: output {output.name!r} of {made.model}/{made.model_version} {why}. No table was "
                "made and no job was changed"
            )
        parts.append(f"ADD COLUMN {ident(output.name)} {sql_type}")
    user_sql.create_table(connection, made.table, f"SELECT {', '.join(keys)} FROM {subquery(source.query)}")
    parts += [
        "ADD COLUMN batch_id bigint NOT NULL",
        "ADD COLUMN scored_at timestamptz NOT NULL DEFAULT now()",
    ]
    if made.unbuilt_key is None:
        parts.append(f"ADD PRIMARY KEY ({', '.join(keys)})")
    else:  # a publication of all tables would else refuse that rows are deleted
        parts += [*(f"ALTER COLUMN {key} SET NOT NULL" for key in keys), "REPLICA IDENTITY FULL"]
    connection.exec_driver_sql(f"ALTER TABLE {made.table} {', '.join(parts)}")


def of_row(row: Row[*tuple[Any, ...]]) -> PredictionSet:
    """The set of a row with `COLUMNS`."""
    values = row._mapping
    key = values["unbuilt_key"]
    return PredictionSet(**{**values, "unbuilt_key": tuple(key) if key is not None else None})


def key_numbers(found: str) -> str:
    """SQL: the numbers of the key's columns in a table, in the key's order; `found` is SQL for a row of the sets."""
    table = f"to_regclass(format('{PREDICTIONS}.%I', {found}.table_name))"
    return (
        "coalesce((SELECT array_agg(a.attnum ORDER BY k.n)"
        f" FROM unnest({found}.unbuilt_key) WITH ORDINALITY k (name, n)"
        f" JOIN pg_attribute a ON a.attrelid = {table} AND a.attname = k.name),"
        f" (SELECT indkey::int2[] FROM pg_index WHERE indrelid = {table} AND indisprimary))"
    )


COLUMNS = (
    sets.c.id,
    sets.c.job,
    sets.c.model,
    sets.c.model_version,
    sets.c.generation,
    sets.c.table_name,
    sets.c.complete_at,
    sets.c.history_table,
    sets.c.unbuilt_key,
)
