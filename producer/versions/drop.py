"""Drops a version: its predictions, tables and files go; its number and its runs stay in the ledger."""

from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import ScorebeatError, UsageError
from scorebeat.core.events import emit
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions, runs
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.predictions import prediction_sets, set_drops
from scorebeat.db.source.selection import planning_cursor
from scorebeat.models.store import store
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class Dropped:
    """What is dropped, or would be."""

    version: Version
    tables: list[str]
    predictions: int
    note: str | None = None
    """Why the files are still in the store."""


def look(p: Producer, name: str, version: int) -> Dropped:
    """What `drop` would drop. Raises UnknownName, or UsageError if the version may not be dropped."""
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        found = model_versions.get(reader, name, version)
        _require_unused(reader, found)
        sets = prediction_sets.of_version(reader, name, version)
        return Dropped(found, [prediction_set.table for prediction_set in sets], prediction_sets.count(reader, sets))


def drop(p: Producer, name: str, version: int, by: str) -> Dropped:
    """Drop the version's predictions, tables and quarantine in one transaction, then its files.

    Raises UnknownName; UsageError if it is published, pinned or being scored, or if other objects depend on its tables.
    Then nothing was dropped.
    """
    with reachable(p.url), p.engine.begin() as connection:
        found = model_versions.lock(connection, name, version)
        for row in jobs.listing(connection):
            if row.job.model_name == name:
                jobs.get(connection, row.job.name, lock=True)  # nobody opens a run meanwhile
        _require_unused(connection, found)
        sets = prediction_sets.of_version(connection, name, version)
        tables = [prediction_set.table for prediction_set in sets]
        gone = Dropped(found, tables, prediction_sets.count(connection, sets))
        set_drops.drop_all(connection, sets)
        model_versions.drop(connection, found, by, tables=gone.tables, predictions=gone.predictions)
    emit("model.dropped", model=str(found), predictions=gone.predictions, by=by)
    return Dropped(found, gone.tables, gone.predictions, remove_files(p, found))


def remove_files(p: Producer, gone: Version) -> str | None:
    """Remove the files of a version that the ledger has no more. Returns why they are still in the store, or None."""
    artifacts, cache = p.settings.artifacts, p.settings.cache
    try:
        store.remove(artifacts, gone.name, gone.version, gone.digest, cache=cache)
    except ScorebeatError as error:
        return f"the files of {gone} are still in the store, and nobody uses them: {error}"
    return None


def _require_unused(connection: Connection, version: Version) -> None:
    if version.published:
        raise UsageError(
            f"model {version} is published; publish another version first, or drop the whole model with `scorebeat "
            f"models drop {version.name}`. Nothing was dropped."
        )
    pins = [row.job.name for row in jobs.listing(connection) if row.job.model == str(version)]
    if pins:
        raise UsageError(f"model {version} is pinned by {', '.join(pins)} in jobs.toml. Nothing was dropped.")
    runs.require_none_held(connection, model=version.name)
    scoring = runs.open_of_version(connection, version.name, version.version)
    if scoring:
        which = ", ".join(map(str, scoring))
        raise UsageError(
            f"model {version} is being scored by run {which}: wait for it, or stop it with "
            f"`scorebeat cancel {scoring[0]}`. Nothing was dropped."
        )
