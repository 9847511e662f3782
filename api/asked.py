"""A run that a request asks for, checked before it is opened."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from scorebeat.api import keys
from scorebeat.api.schemas import NewRun
from scorebeat.api.service import BY
from scorebeat.core.errors import NotAllowed, UsageError
from scorebeat.core.jobs import Job
from scorebeat.core.settings import PREFIX
from scorebeat.core.times import parse_time
from scorebeat.db import filters, jobs, locks, planning, source, versions
from scorebeat.db.engine import reachable
from scorebeat.db.runs import Selection
from scorebeat.db.source import Source
from scorebeat.db.sql import Key
from scorebeat.producer.context import Producer
from scorebeat.producer.enqueue import Request


def request(p: Producer, asked: NewRun) -> Request:
    """What `producer.enqueue` takes. Raises UsageError or UnknownName; nothing was changed."""
    if asked.where is not None and not p.settings.api_where:
        raise NotAllowed(
            "`where` is SQL, which reads whatever the server's role may read: it is taken over HTTP only where "
            f"{PREFIX}API_WHERE=true is set for the server. Name the rows by `keys`, or say "
            "`scorebeat enqueue --where` there; nothing was enqueued"
        )
    wanted = tuple(keys.of_body(key) for key in asked.keys) if asked.keys is not None else None
    with reachable(p.url), planning.reading(p.engine) as reader:
        locks.wait_at_most(reader, locks.FOR_A_PERSON)
        job = jobs.get(reader, asked.job).job
        version = _version(asked.model, job) if asked.model is not None else None
        if version is not None:
            versions.get(reader, job.model_name, version)
        if asked.where is not None or wanted is not None:
            found = source.describe(reader, p.url, job)
            if asked.where is not None:
                _require_filter(reader, p, found, asked.where)
            if wanted is not None:
                _require_widths(found, wanted)
                _require_keys(filters.first_bad_key(reader, found, wanted), wanted)
    selection = Selection(asked.limit, asked.where, wanted)
    due_at = _time(asked.due_at) if asked.due_at is not None else None
    return Request(asked.job, BY, version, selection, asked.run_key, due_at, asked.parameters or {})


def _time(text: str) -> datetime:
    try:
        return parse_time(text, ZoneInfo("UTC"))
    except ValueError as error:
        raise UsageError(f"due_at {error}. Nothing was enqueued") from None


def _version(text: str, job: Job) -> int:
    name, slash, number = text.rpartition("/")
    if not number.isascii() or not number.isdecimal() or len(number) > 9 or (slash and not name):
        raise UsageError(f"model {text!r} is not a version; expected one such as {job.model_name}/4, or 4")
    if slash and name != job.model_name:
        raise UsageError(f"model {text!r} is another model: job {job.name!r} uses {job.model_name!r}")
    return int(number)


def _require_filter(reader: Connection, p: Producer, found: Source, where: str) -> None:
    try:
        filters.require_filter(reader, p.url, found, where)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("--")) from None  # as the command line names it


def _require_widths(found: Source, wanted: tuple[Key, ...]) -> None:
    names = [column.name for column in found.keys]
    for place, key in enumerate(wanted):
        if len(key) != len(names):
            raise UsageError(f"keys.{place} has {len(key)} columns; expected {len(names)} ({', '.join(names)})")


def _require_keys(bad: tuple[int, str] | None, wanted: tuple[Key, ...]) -> None:
    if bad is not None:
        raise UsageError(f"keys.{bad[0]} {list(wanted[bad[0]])} is not a key: {bad[1]}. Nothing was enqueued.")
