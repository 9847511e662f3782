"""One stored prediction by its key, in one statement, because it must be fast."""

from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, UnknownName
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.sql import Key, KeyColumn, as_text, literal, row, subquery, texts, value
from scorebeat.db.reports import results
from scorebeat.db.reports.results import Shape
from scorebeat.db.source import source
from scorebeat.db.source.values.parameter_values import of_no_run

TRIES = 3
"""A publication while one key is read is rare, and twice in a row hardly happens."""


class KeyState(StrEnum):
    PREDICTED = "predicted"
    PENDING = "pending"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Found:
    """The state of a key, with its prediction or the reason of its quarantine."""

    job: str
    state: KeyState
    prediction: str | None = None
    """The row of the view `predictions.<job>` as JSON, written by PostgreSQL."""
    reason: str | None = None
    """Why the row was quarantined."""


@dataclass
class Lookup:
    """Caches the shape of each job; the statement itself shows if it is out of date. For several threads."""

    engine: Engine
    _shapes: dict[str | None, Shape] = field(default_factory=dict)

    def find(self, job: str | None, key: Key) -> Found:
        """What is stored under the key of this job, or of the only job.

        Raises UnknownName for a key that the job's query does not return, UsageError for texts that are no key, and
        the errors of `results.shape`.
        """
        with self.engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            shown, prediction = self._read(connection, job, key)
        if prediction is not None:
            return Found(shown.job.name, KeyState.PREDICTED, prediction)
        return _without_prediction(self.engine, shown, key)

    def _read(self, connection: Connection, job: str | None, key: Key) -> tuple[Shape, str | None]:
        for _ in range(TRIES):
            shown = self._shapes.get(job) or results.shape(connection, job)
            if not shown.columns:
                return shown, None
            found = _read_prediction(connection, job, shown, key)
            if found is not None:
                self._shapes[job] = shown
                return shown, found[0]
            self._shapes.pop(job, None)
        raise ScorebeatError(f"what is published changed {TRIES} times while a key was read; ask again")


def _read_prediction(connection: Connection, job: str | None, shown: Shape, key: Key) -> tuple[str | None] | None:
    """A tuple of the prediction, or of None if there is none; None without a tuple if the shape is out of date."""
    is_complete = len(key) == len(shown.keys)
    where = f"{row(shown.keys, 'p')} = {value(shown.keys, key)}" if is_complete else "false"
    statement = f"SELECT {results.stamp(job)}, (SELECT row_to_json(p)::text FROM {shown.view} AS p WHERE {where})"
    try:
        now, prediction = connection.exec_driver_sql(statement).one()
    except DBAPIError as error:
        if not error.connection_invalidated:
            now = connection.exec_driver_sql(f"SELECT {results.stamp(job)}").scalar_one()
            if now != shown.stamp:
                return None
        if database_errors.is_about_values(error):
            raise results.not_a_key(shown.keys, key, error) from None
        raise
    if now != shown.stamp:
        return None
    results.require_width(shown.keys, key)
    return (prediction,)


def _without_prediction(engine: Engine, shown: Shape, key: Key) -> Found:
    """The state of a key without a prediction: a slower search in the source and the quarantine."""
    with results.reading(engine) as connection:
        queried = source.read_columns(connection, shown.job, of_no_run(connection))
        results.require_key(connection, queried.keys, key)
        there = results.query_rows(
            connection,
            shown,
            f"SELECT {texts(queried.keys, 'q')} FROM {subquery(queried.query)}"
            f" WHERE {row(queried.keys, 'q')} = {value(queried.keys, key)} LIMIT 1",
        )
        reason = _quarantine_reason(connection, shown, queried.keys, there[0] if there else key)
        if reason is not None:
            return Found(shown.job.name, KeyState.QUARANTINED, reason=reason)
    if not there:
        raise UnknownName(
            f"job {shown.job.name!r} has no row with the key {', '.join(key)!r}, and no prediction of one"
        )
    return Found(shown.job.name, KeyState.PENDING)


def _quarantine_reason(connection: Connection, shown: Shape, keys: tuple[KeyColumn, ...], key: Key) -> str | None:
    target = results.published_set(connection, shown.job)
    if target is None:
        return None
    # the text that the key has in the query: a key may have several texts if 1 equals 1.00, or A equals a
    parts = ", ".join(as_text(f"{literal(part)}::{k.type}", k.type) for k, part in zip(keys, key, strict=True))
    found: str | None = connection.exec_driver_sql(
        "SELECT z.error_type || ': ' || z.error FROM scorebeat.quarantine AS z"
        f" WHERE z.prediction_set_id = {target.id:d} AND md5(z.key::text) = md5(jsonb_build_array({parts})::text)"
    ).scalar_one_or_none()
    return found
