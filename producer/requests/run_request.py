"""Checks a requested run against the ledger and the query before it is opened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from scorebeat.core.errors import UsageError
from scorebeat.core.identifiers import version_of
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.schedule import find_zone
from scorebeat.core.text.timestamps import parse_time
from scorebeat.db.connect import locks
from scorebeat.db.connect.engine import reachable
from scorebeat.db.connect.sql import Key
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.source import filters, source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.source import Source
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class Labels:
    """The names of the options in messages."""

    prefix: str = ""
    """Prefix of each name: `--` on a command line."""
    key: Callable[[int], str] = "keys.{}".format
    """The name of a key, by its position."""


PLAIN_LABELS = Labels()


def checked_version(
    p: Producer,
    name: str,
    model: str | None,
    where: str | None,
    keys: Sequence[Key] | None,
    labels: Labels = PLAIN_LABELS,
) -> int | None:
    """The number of the requested version, or None. Checks that the filter and the keys fit the job's query.

    Raises UnknownName, or UsageError, which names what is wrong; nothing was changed.
    """
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        locks.wait_at_most(reader, locks.FOR_A_PERSON)
        job = jobs.get(reader, name).job
        version = None if model is None else version_number(model, job, labels)
        if version is not None:
            model_versions.get(reader, job.model_name, version)
        if where is not None or keys is not None:
            found = source.describe(reader, p.url, job)
            if where is not None:
                filters.require_filter(reader, p.url, found, where, f"{labels.prefix}where")
            if keys is not None:
                _require_keys(reader, found, keys, labels)
    return version


def version_number(text: str, job: Job, labels: Labels = PLAIN_LABELS) -> int:
    """The number in `iris/4` or `4`. Raises UsageError."""
    model = f"{labels.prefix}model {text!r}"
    try:
        name, number = version_of(text if "/" in text else f"{job.model_name}/{text}")
    except UsageError:
        raise UsageError(f"{model} is not a version; expected one such as {job.model_name}/4, or 4") from None
    if name != job.model_name:
        raise UsageError(
            f"{model} is another model: job {job.name!r} uses {job.model_name!r}. Change `model` in the jobs file"
        )
    return number


def time_of_job(p: Producer, job: str, name: str, text: str) -> datetime:
    """Parse a time; without an offset it is in the time zone of the job's schedule. Raises UsageError."""
    with reachable(p.url), p.engine.connect() as connection:
        zone = find_zone(jobs.get(connection, job).job.timezone)
    try:
        return parse_time(text, zone)
    except ValueError as error:
        raise UsageError(f"{name} {error}. Nothing was enqueued") from None


def _require_keys(reader: Connection, found: Source, keys: Sequence[Key], labels: Labels) -> None:
    names = [column.name for column in found.keys]
    for position, key in enumerate(keys):
        if len(key) != len(names):
            expected = f"{len(names)} ({', '.join(names)})"
            raise UsageError(
                f"{labels.key(position)} has {len(key)} columns; expected {expected}. Nothing was enqueued"
            )
        if any("\0" in text for text in key):
            raise UsageError(f"{labels.key(position)} holds a NUL character. Nothing was enqueued")
    bad = filters.first_bad_key(reader, found, keys)
    if bad is not None:
        position, reason = bad
        raise UsageError(f"{labels.key(position)} {list(keys[position])} is not a key: {reason}. Nothing was enqueued")
