"""jobs.toml: read and checked whole, every mistake with its line and what was expected."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scorebeat.core.errors import JobsFileError, near
from scorebeat.core.jobs import NEW, Job
from scorebeat.core.toml_lines import Document, Mistake, read

KEYS = [name for name in Job.model_fields if name != "name"]
"""What may stand in a block; its name stands in its header."""

_EXPECTED = {
    "string_type": "a string in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a string in quotes or a list of strings",
    "time_delta_type": "a duration in quotes, such as '45m'",
    "is_instance_of": "a duration in quotes, such as '45m'",
}
_MISSING = {
    "query": "a SELECT whose rows are to be scored",
    "key": "the column that names a row, such as 'id', or a list of columns",
    "model": "the name of a model, such as 'iris'",
}


OWNER = "jobs.toml"
"""Whose jobs are that no file of another name holds."""
LONGEST_OWNER = 100


@dataclass(frozen=True)
class JobsFile:
    """The jobs of one file."""

    path: Path
    owner: str
    """By which the database knows the file: its name, or the `owner` at its top. The path differs between machines."""
    jobs: tuple[Job, ...]


def read_files(path: Path) -> list[JobsFile]:
    """The jobs file, or each `*.toml` of a folder. Raises JobsFileError, also for what two of the files say."""
    if not path.is_dir():
        return [read_file(path)]
    found = [one for one in sorted(path.glob("*.toml")) if not one.name.startswith(".")]
    if not found:
        raise JobsFileError(f"{path}: is a folder without a jobs file; expected files such as {path / 'jobs.toml'}")
    files, mistakes = [], []
    for one in found:
        try:
            files.append(read_file(one))
        except JobsFileError as error:
            mistakes.append(str(error))
    mistakes += [
        f"{second}: {what} stands in {first} too; expected one file for each" for what, first, second in _shared(files)
    ]
    if mistakes:
        raise JobsFileError("\n".join(mistakes))
    return files


def _shared(files: Sequence[JobsFile]) -> Iterator[tuple[str, Path, Path]]:
    """Owners and jobs that two files have, with the files."""
    first: dict[str, Path] = {}
    for file in files:
        for what in (f'owner = "{file.owner}"', *(f"[jobs.{job.name}]" for job in file.jobs)):
            if what in first:
                yield what, first[what], file.path
            first.setdefault(what, file.path)


def read_jobs(path: Path) -> list[Job]:
    """The jobs of the file, in its order; none if it is empty. Raises JobsFileError with all mistakes."""
    return list(read_file(path).jobs)


def read_file(path: Path) -> JobsFile:
    """The file with its owner. Raises JobsFileError with all mistakes."""
    documents, mistakes = read(_text(path))
    jobs = tuple(job for document in documents for job in _jobs(document, mistakes))
    owner = _owner(documents[0], path.name, mistakes)
    if mistakes:
        raise JobsFileError(_message(path, mistakes))
    return JobsFile(path, owner, jobs)


def _owner(document: Document, name: str, mistakes: list[Mistake]) -> str:
    owner = document.data.get("owner", name)
    if isinstance(owner, str) and owner.strip() == owner and 0 < len(owner) <= LONGEST_OWNER and owner.isprintable():
        return owner
    what = f"is {_shown(owner)}; expected a name in quotes of at most {LONGEST_OWNER} characters, such as 'team-a'"
    mistakes.append(Mistake(document.line(("owner",)), "owner", what))
    return name


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise JobsFileError(
            f"{path}: no such file; write one, or name another by `apply --file` or the variable SCOREBEAT_JOBS"
        ) from None
    except OSError as error:
        raise JobsFileError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise JobsFileError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def _message(path: Path, mistakes: list[Mistake]) -> str:
    count = f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}"
    lines = [
        f"  line {m.line}{', ' * bool(m.where)}{m.where}: {m.what}" for m in sorted(mistakes, key=lambda m: m.line)
    ]
    return "\n".join([f"{path}: {count}", *lines])


def _jobs(document: Document, mistakes: list[Mistake]) -> Iterator[Job]:
    """The good jobs of the document; every mistake goes to `mistakes`."""
    for name, block in _blocks(document, mistakes):
        path = ("jobs", name)
        if "name" in block:
            line, where = document.line((*path, "name")), f"jobs.{name}.name"
            mistakes.append(Mistake(line, where, f"is not a key; the name of a job stands in [jobs.{name}]"))
        try:
            yield Job.model_validate({**block, "name": name}, context=NEW)
        except ValidationError as error:
            whole = path not in document.damaged
            mistakes += [_mistake(document, path, one) for one in error.errors() if whole or one["type"] != "missing"]


def _blocks(document: Document, mistakes: list[Mistake]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each `[jobs.NAME]` of the document."""
    for key in document.data:
        if key not in ("jobs", "owner"):
            what = f"is not known here; expected [jobs.NAME] blocks only.{_near_job(key)}"
            mistakes.append(Mistake(document.line((key,)), key, what))
    jobs = document.data.get("jobs", {})
    if not isinstance(jobs, dict):
        mistakes.append(Mistake(document.line(("jobs",)), "jobs", "is not a block; expected [jobs.NAME]"))
        return
    for name, block in jobs.items():
        if isinstance(block, dict):
            yield name, block
        else:
            what = f"is not a block of its own; expected [jobs.{name}] and its keys below"
            mistakes.append(Mistake(document.line(("jobs", name)), f"jobs.{name}", what))


def _near_job(key: str) -> str:
    return " Did you mean 'jobs'?" if near(key, ["jobs"]).startswith(" Did") else ""


def _mistake(document: Document, path: tuple[str, str], error: ErrorDetails) -> Mistake:
    key = str(error["loc"][0])
    at = path if key == "name" else (*path, key)
    return Mistake(document.line(at), ".".join(at), _words(key, error))


def _words(key: str, error: ErrorDetails) -> str:
    """pydantic's finding, in plain words."""
    kind, got = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "missing":
        return f"is missing; expected {_MISSING[key]}"
    if kind == "extra_forbidden":
        return f"is not a key of a job.{near(key, KEYS)}"
    if kind == "literal_error":
        return f"is {_shown(got)}; expected {error['ctx']['expected']}"
    expected = _EXPECTED.get(kind, re.sub(r"^Input should be ", "", error["msg"]))
    if len(error["loc"]) > 1 and kind == "string_type":
        return f"holds {_shown(got)}; expected column names in quotes"
    return f"is {_shown(got)}; expected {expected}"


def _shown(value: object) -> str:
    """A value of the file, as its writer would call it."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"
