"""Python values as the ledger takes them: texts that PostgreSQL reads."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral
from pathlib import Path
from typing import Any
from uuid import UUID

from scorebeat.core.errors import LONGEST_SHOWN, UsageError, shortened
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import LONGEST_OWNER, JobsFile, is_owner
from scorebeat.db.connect.sql import Key

MOST = 2**63 - 1
"""The largest number that a bigint holds."""


def key_of(key: Any, position: int) -> Key:
    """A key as texts. Raises UsageError, which names its position."""
    parts = list(key) if isinstance(key, Sequence) and not isinstance(key, str | bytes) else [key]
    return tuple(_text(part, f"keys.{position}") for part in parts)


def parameters_of(parameters: Mapping[str, Any] | None) -> dict[str, str]:
    """Parameters of a query as texts, as a person types them. Raises UsageError."""
    return {name: _text(value, f"parameters.{name}", floats=True) for name, value in (parameters or {}).items()}


def count_of(name: str, value: Any, expected: str, least: int) -> int:
    """A whole number, also one of NumPy. Raises UsageError, which names the argument and what it counts."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= MOST:
        shown = shortened(repr(value), LONGEST_SHOWN)
        raise UsageError(f"{name} is {shown}; expected {expected}, {least} or more")
    return int(value)


def jobs_of(jobs: Any, owner: str | None) -> JobsFile:
    """A caller's jobs as if a file of that owner had them. Raises UsageError."""
    if not isinstance(jobs, Sequence) or isinstance(jobs, bytes):
        raise UsageError(
            f"jobs is a {type(jobs).__name__}; expected the path of a jobs file or a folder, or a list of "
            "scorebeat.Job. Nothing was applied"
        )
    for position, job in enumerate(jobs):
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
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"jobs has {', '.join(twice)} twice; expected one Job for each name. Nothing was applied")
    return JobsFile(Path(owner), owner, tuple(jobs))


def _text(value: Any, where: str, *, floats: bool = False) -> str:
    if hasattr(value, "item") and not isinstance(value, type):  # a scalar of NumPy
        value = value.item()
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case bytes():
            return f"\\x{value.hex()}"
        case Integral() | UUID() | Decimal():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case float() if floats:
            return repr(value)
    raise UsageError(
        f"{where} is {str(value)[:60]!r}, a {type(value).__name__}; expected a text, a whole number, a truth value, a "
        "UUID, a Decimal, bytes, a date or a time"
    )
