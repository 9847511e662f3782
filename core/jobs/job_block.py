"""One [jobs.NAME] of a jobs file, completed by [defaults] and its query file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scorebeat.core.errors import near
from scorebeat.core.jobs import query_names
from scorebeat.core.jobs.job import LONGEST_QUERY, NEW, Job
from scorebeat.core.jobs.toml_lines import Document, Keys, Mistake, shown

DEFAULTS, QUERY, QUERY_FILE, PARAMETERS = "defaults", "query", "query_file", "parameters"
KEYS = [QUERY, QUERY_FILE, *(name for name in Job.model_fields if name not in ("name", QUERY))]
"""Keys of a block and of [defaults]; the name of a job is in its header."""

_EXPECTED = {
    "string_type": "a string in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a string in quotes or a list of strings",
    "time_delta_type": "a duration in quotes, such as '45m'",
    "is_instance_of": "a duration in quotes, such as '45m'",
    "dict_type": "a block [jobs.NAME.parameters] with a value for each name",
}
_MISSING = {
    "query": "a SELECT whose rows are to be scored",
    "key": "the column that names a row, such as 'id', or a list of columns",
    "model": "the name of a model, such as 'iris'",
}


@dataclass(frozen=True)
class Defaults:
    """Values for every job of the file that does not set its own."""

    document: Document
    data: Mapping[str, Any]

    def completed(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """A job's block with defaults for the keys that it lacks. Its query replaces a query file, and vice versa."""
        has_query = not {QUERY, QUERY_FILE}.isdisjoint(own)
        defaults = {key: value for key, value in self.data.items() if not (has_query and key in (QUERY, QUERY_FILE))}
        return {**defaults, **own}

    def parameters_for(self, query: object) -> dict[str, Any]:
        """Default parameters that this query uses: the others are for other jobs."""
        declared = self.data.get(PARAMETERS)
        if not isinstance(declared, dict) or not isinstance(query, str):
            return {}
        used = query_names.find(query)
        return {name: value for name, value in declared.items() if name in used}


def read_defaults(document: Document, mistakes: list[Mistake]) -> Defaults:
    """The [defaults] of the file; keys and values that no job can have are added to `mistakes`."""
    data = document.data.get(DEFAULTS, {})
    if not isinstance(data, dict):
        mistakes.append(Mistake(document.line((DEFAULTS,)), DEFAULTS, f"is not a block; expected [{DEFAULTS}]"))
        return Defaults(document, {})
    kept = {key: value for key, value in data.items() if key in KEYS}
    wrong = {key: f"is not a key of a job.{near(key, KEYS)}" for key in data.keys() - kept.keys()}
    if "name" in wrong:
        wrong["name"] = "is not a key; the name of a job is in its [jobs.NAME]"
    if {QUERY, QUERY_FILE} <= kept.keys():
        wrong[QUERY_FILE] = _BOTH
        del kept[QUERY_FILE]
    if not isinstance(kept.get(PARAMETERS, {}), dict):
        wrong[PARAMETERS] = f"is {shown(kept.pop(PARAMETERS))}; expected a block [{DEFAULTS}.{PARAMETERS}]"
    mistakes += [Mistake(document.line((DEFAULTS, key)), f"{DEFAULTS}.{key}", what) for key, what in wrong.items()]
    return Defaults(document, kept)


_BOTH = "is set beside query; expected one of the two"


@dataclass
class Block:
    """One block; `folder` is that of its file."""

    document: Document
    name: str
    own: dict[str, Any]
    defaults: Defaults
    folder: Path
    mistakes: list[Mistake] = field(default_factory=list)

    def job(self) -> Job | None:
        """The checked job; None if there are mistakes."""
        if "name" in self.own:
            self._add(("name",), f"is not a key; the name of a job is in [jobs.{self.name}]")
        whole = self.defaults.completed(self.own)
        file = whole.pop(QUERY_FILE, None)
        if file is not None:
            try:
                if QUERY in whole:
                    raise ValueError(_BOTH)
                whole[QUERY] = _read_query(file, self.folder)
            except ValueError as error:
                self._add((QUERY_FILE,), str(error))
                whole.setdefault(QUERY, "SELECT")  # the block's other mistakes are found too
        declared = self.own.get(PARAMETERS, {})
        if isinstance(declared, dict):
            whole[PARAMETERS] = {**self.defaults.parameters_for(whole.get(QUERY)), **declared}
        try:
            job = Job.model_validate({**whole, "name": self.name}, context=NEW)
        except ValidationError as error:
            for one in error.errors():
                if one["type"] == "missing" and ("jobs", self.name) in self.document.damaged:
                    continue
                location = tuple(str(part) for part in one["loc"])
                key = location[:2] if location[0] == PARAMETERS else location[:1]
                if key == (QUERY,) and file is not None:
                    key = (QUERY_FILE,)
                self._add(() if key == ("name",) else key, _message(one))
            return None
        return None if self.mistakes else job

    def _add(self, key: Keys, what: str) -> None:
        """Add a mistake at the key: in the block itself, or in [defaults] if only they have the key."""
        if key and not _holds(self.own, key) and _holds(self.defaults.data, key):
            at, document = (DEFAULTS, *key), self.defaults.document
        else:
            at, document = ("jobs", self.name, *key), self.document
        self.mistakes.append(Mistake(document.line(at), ".".join(at), what))


def as_new(job: Job) -> tuple[Job, list[str]]:
    """The job, checked as that of a jobs file, and what such a file would be refused for, each with its key.

    Nothing checked a Job that a program made, or changed by `model_copy`, as a new one: jobs that the ledger has stored
    are made in the same way.
    """
    try:
        values = {name: getattr(job, name) for name in job.model_fields_set}
        return Job.model_validate(values, context=NEW), []
    except ValidationError as error:
        keys = [one["loc"][:2] if one["loc"][0] == PARAMETERS else one["loc"][:1] for one in error.errors()]
        messages = map(_message, error.errors())
        return job, [f"{'.'.join(map(str, key))}: {message}" for key, message in zip(keys, messages, strict=True)]


def _holds(data: Mapping[str, Any], key: Keys) -> bool:
    inner: object = data
    for part in key:
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return True


def _read_query(file: object, folder: Path) -> str:
    """The text of a query file. Raises ValueError."""
    if not isinstance(file, str) or not file.strip() or "\0" in file:
        raise ValueError(f"is {shown(file)}; expected the path of a file in quotes, such as 'features.sql'")
    path = folder / file
    try:
        with path.open("rb") as opened:
            read = opened.read(LONGEST_QUERY + 4)  # an order mark, and one byte too many
        return read.decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; a path counts from the folder of the jobs file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected a file with a SELECT") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def _message(error: ErrorDetails) -> str:
    """The message for an error of pydantic."""
    key, kind, got = str(error["loc"][0]), error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "missing":
        return f"is missing; expected {_MISSING[key]}"
    if kind == "extra_forbidden":
        return f"is not a key of a job.{near(key, KEYS)}"
    if kind == "literal_error":
        return f"is {shown(got)}; expected {error['ctx']['expected']}"
    expected = _EXPECTED.get(kind, re.sub(r"^Input should be ", "", error["msg"]))
    if len(error["loc"]) > 1 and kind == "string_type":
        return f"holds {shown(got)}; expected column names in quotes"
    return f"is {shown(got)}; expected {expected}"
