"""A caller's arguments: checked, and as the ledger takes them. A wrong one raises UsageError, which names it."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from uuid import UUID

from scorebeat.core.errors import LONGEST_SHOWN, UsageError, shortened
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.job_block import as_new
from scorebeat.core.jobs.jobs_file import LONGEST_OWNER, JobsFile, is_owner
from scorebeat.core.urls import redact
from scorebeat.db.connect.sql import Key
from scorebeat.db.ledger.model_versions import Version

MOST = 2**63 - 1
"""The largest number that a bigint holds."""
_ONE_VALUE = (str, bytes, bytearray, memoryview)
"""Sequences that are one value of a key."""
EXPECTED = {
    "database_url": "a URL, such as 'postgresql://user:password@host:5432/database'",
    "engine": "the name of an engine",
    "error": "a text that the error contains",
    "job": "the name of a job, such as 'iris'",
    "model": "the name of a model or a version of it, such as 'iris' or 'iris/3'",
    "name": "the name of a model, such as 'iris'",
    "owner": "the name of the jobs' owner, such as 'notebook'",
    "reference_query": "a query, such as 'SELECT ...'",
    "run_key": "a text that names the run",
    "sample_job": "the name of a job, such as 'iris'",
    "version": "a version, such as 'iris/4'",
    "where": "an SQL condition, such as 'id > 1000'",
    "why": "the reason, a text",
    "with_version": "a version, such as 'iris/3'",
}
"""What an argument that is a text stands for."""


def wrong_type(name: str, value: object, expected: str) -> UsageError:
    """The error for an argument of a wrong type; it shows no password."""
    shown = shortened(redact(repr(value)), LONGEST_SHOWN)
    return UsageError(f"{name} is {shown}, a {type(value).__name__}; expected {expected}. Nothing was done")


def require_texts(**arguments: object) -> None:
    """Each of these arguments is a text that PostgreSQL can hold."""
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise wrong_type(name, value, EXPECTED[name])
        _require_storable(name, value)


def require_texts_or_none(**arguments: object) -> None:
    require_texts(**{name: value for name, value in arguments.items() if value is not None})


def _require_storable(name: str, text: str) -> None:
    """Raises UsageError for a text with a NUL or with half of a pair of surrogates: PostgreSQL has neither."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        shown = shortened(redact(repr(text)), LONGEST_SHOWN)
        raise UsageError(f"{name} is {shown}, with a character that PostgreSQL cannot hold. Nothing was done")


def version_text(name: str, version: Any) -> str:
    """A version such as 'iris/4', also one that a call returned, as its text."""
    text = str(version) if isinstance(version, Version) else version
    if not isinstance(text, str):
        raise wrong_type(name, version, EXPECTED["version"])
    _require_storable(name, text)
    return text


def require_flags(**arguments: object) -> None:
    """Each of these arguments is True or False, also of NumPy: a text such as 'no' would count as True."""
    for name, value in arguments.items():
        if not isinstance(_plain(value), bool):
            raise wrong_type(name, value, "True or False")


def path_of(name: str, value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise wrong_type(name, value, "the path of a file, a text or a Path")
    return Path(value)


def texts_of(name: str, values: Any) -> tuple[str, ...]:
    """Several texts. One text is refused: its characters would be taken for them."""
    listed = _several(name, values, "a list of texts")
    for position, value in enumerate(listed):
        if not isinstance(value, str):
            raise wrong_type(f"{name}.{position}", value, "a text")
    return tuple(listed)


def paths_of(name: str, values: Any) -> tuple[str, ...]:
    """Several paths, as texts; not one, as `texts_of`."""
    listed = _several(name, values, "a list of paths")
    for position, value in enumerate(listed):
        path_of(f"{name}.{position}", value)
    return tuple(map(os.fspath, listed))


def _several(name: str, values: Any, expected: str) -> Sequence[Any]:
    """The values. A dict and a table are refused: they iterate over names, not over values."""
    is_table = isinstance(values, Mapping) or hasattr(values, "columns")
    if is_table or isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise wrong_type(name, values, expected)
    return list(values)


def keys_of(keys: Any) -> tuple[Key, ...]:
    """Keys as texts: each a value, or a sequence of one value a key column."""
    if isinstance(keys, str | bytes):
        raise UsageError(f"keys is {keys[:60]!r}; expected several keys, such as [{keys[:60]!r}]. Nothing was enqueued")
    expected = "several keys, such as [42]; of a DataFrame df['id'], or df[['a', 'b']].to_numpy()"
    found = []
    for position, key in enumerate(_several("keys", keys, expected)):
        value = _plain(key)
        is_row = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
        parts = list(value) if is_row and not isinstance(value, _ONE_VALUE) else [key]
        found.append(tuple(_text(part, f"keys.{position}", "or a sequence of one a key column") for part in parts))
    return tuple(found)


def parameters_of(parameters: Any) -> dict[str, str]:
    """Parameters of a query as texts, as a person types them."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise wrong_type("parameters", parameters, "a dict with a value for each name")
    for name in parameters:
        if not isinstance(name, str):
            raise wrong_type("a name in parameters", name, "a text")
    return {name: _text(value, f"parameters.{name}", "or a float", floats=True) for name, value in parameters.items()}


def require_time(name: str, value: object) -> None:
    """A time as a text, a datetime, a date, or one of NumPy."""
    if not isinstance(_plain(value), str | date):
        raise wrong_type(name, value, "a time, such as '2026-07-01T02:30', or a datetime")


def count_of(name: str, value: Any, expected: str, least: int) -> int:
    """A whole number, also one of NumPy; `expected` is what it counts."""
    value = _plain(value)
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= MOST:
        shown = shortened(repr(value), LONGEST_SHOWN)
        raise UsageError(f"{name} is {shown}; expected {expected}, from {least} to {MOST}")
    return int(value)


def seconds_of(name: str, value: Any) -> float | None:
    """A number of seconds, or a timedelta; None as it is."""
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or math.isnan(value):
        raise wrong_type(name, value, "a number of seconds, a timedelta, or None for no limit")
    return float(value)


def jobs_of(jobs: Any, owner: str | None) -> JobsFile:
    """A caller's jobs as if a file of that owner had them, checked as a file's are."""
    if isinstance(jobs, bytes | Mapping | Job) or not isinstance(jobs, Iterable):
        raise UsageError(
            f"jobs is a {type(jobs).__name__}; expected the path of a jobs file or a folder, or a list of "
            "scorebeat.Job. Nothing was applied"
        )
    listed = list(jobs)
    for position, job in enumerate(listed):
        if not isinstance(job, Job):
            raise UsageError(
                f"jobs.{position} is {shortened(repr(job), LONGEST_SHOWN)}, a {type(job).__name__}; expected a "
                "scorebeat.Job, or the path of a jobs file instead of a list. Nothing was applied"
            )
    if owner is None:
        raise UsageError(
            "a list of jobs has no file that owns them; name their owner, such as owner='notebook'. With the name of a "
            "jobs file they would be jobs of that file, which it removes by `prune`. Nothing was applied"
        )
    if not is_owner(owner):
        raise UsageError(
            f"owner is {shortened(repr(owner), LONGEST_SHOWN)}; expected a name of at most {LONGEST_OWNER} characters, "
            "such as 'notebook'. Nothing was applied"
        )
    names = [job.name for job in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"jobs has {', '.join(twice)} twice; expected one Job for each name. Nothing was applied")
    checked, mistakes = [], []
    for position, job in enumerate(listed):
        new, wrong = as_new(job)
        checked.append(new)
        mistakes += [f"jobs.{position}.{mistake}" for mistake in wrong]
    if mistakes:
        raise UsageError("\n  ".join(["jobs cannot be applied, and nothing was:", *mistakes]))
    return JobsFile(Path(owner), owner, tuple(checked))


def _text(value: Any, where: str, more: str, *, floats: bool = False) -> str:
    plain = _plain(value)
    if isinstance(plain, datetime) and _has_nanoseconds(value):
        raise UsageError(f"{where} is {value}, with nanoseconds, and PostgreSQL keeps microseconds: round it first")
    value = plain
    match value:
        case bool():
            return "true" if value else "false"
        case str() | UUID() | Decimal():
            text = str.__str__(value) if isinstance(value, str) else str(value)  # of an enumeration its value
            _require_storable(where, text)
            return text
        case bytes() | bytearray() | memoryview():
            return f"\\x{bytes(value).hex()}"
        case Integral():
            return str(int(value))  # likewise of an enumeration
        case date():
            return value.isoformat()
        case float() if floats:
            return repr(float(value))
    raise UsageError(
        f"{where} is {str(value)[:60]!r}, a {type(value).__name__}; expected a text, a whole number, a truth value, a "
        f"UUID, a Decimal, bytes, a date or a datetime, {more}"
    )


def _has_nanoseconds(value: Any) -> bool:
    """Whether a time of NumPy or pandas is between two microseconds."""
    return bool(value.astype("M8[us]") != value if hasattr(value, "astype") else getattr(value, "nanosecond", 0))


def _plain(value: Any) -> Any:
    """A scalar of NumPy, or of Arrow, as Python's own; everything else as it is.

    A time in nanoseconds would become a whole number; Python's datetime has microseconds, as PostgreSQL has.
    """
    if isinstance(value, type):
        return value
    if hasattr(value, "as_py"):  # of Arrow, which is not imported for it
        return value.as_py()
    if not hasattr(value, "item") or getattr(value, "ndim", 0) != 0:
        return value
    plain = value.item()
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return value.astype(f"{kind}8[us]").item() if kind in ("m", "M") and isinstance(plain, int) else plain
