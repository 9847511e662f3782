"""Values of `:name` in a query: those that every run has, and those that `[jobs.NAME.parameters]` declares."""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from numbers import Integral
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo

from scorebeat.core.errors import LONGEST_SHOWN, UsageError, near, shortened
from scorebeat.core.identifiers import LONGEST_IDENTIFIER

DUE_AT, RUN_ID = "due_at", "run_id"
OF_EVERY_RUN = (DUE_AT, RUN_ID)
NAME = re.compile(r"[a-z][a-z0-9_]*")
MOST = 100
LONGEST_TEXT = 100_000
EXPECTED = "a string, a number, true, false, a date or a date-time"
_INT4, _INT8 = 2**31, 2**63
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""Python's texts of floats, and PostgreSQL's."""


class Parameter(BaseModel):
    """A value with its PostgreSQL type, as text: JSON would not keep 1.0 from 1, nor a date from a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["text", "integer", "bigint", "double precision", "boolean", "date", "timestamp", "timestamptz"]
    text: str

    @staticmethod
    def of(value: object) -> "Parameter":
        """The parameter of a value of TOML. Raises ValueError."""
        if isinstance(value, str):
            if len(value) > LONGEST_TEXT:
                raise ValueError(f"has {len(value):,} characters; expected at most {LONGEST_TEXT:,}")
            if "\0" in value:
                raise ValueError("holds a NUL character, which PostgreSQL refuses")
            return Parameter(type="text", text=value)
        if isinstance(value, bool):
            return Parameter(type="boolean", text=str(value).lower())
        if isinstance(value, Integral):  # also of NumPy
            value = int(value)
            if not -_INT8 <= value < _INT8:
                raise ValueError(
                    f"is {value}, which no bigint of PostgreSQL holds; write it in quotes and cast it in the query"
                )
            # as PostgreSQL reads a number in a statement
            return Parameter(type="integer" if -_INT4 <= value < _INT4 else "bigint", text=str(value))
        if isinstance(value, float):
            text = repr(float(value))  # that of NumPy has another `repr`
            return Parameter(type="double precision", text=_SPECIAL.get(text, text))
        if isinstance(value, datetime):
            return Parameter(type="timestamp" if value.tzinfo is None else "timestamptz", text=value.isoformat())
        if isinstance(value, date):
            return Parameter(type="date", text=value.isoformat())
        kinds = {list: "a list", tuple: "a list", dict: "a table", time: "a time"}
        kind = kinds.get(type(value)) or f"{shortened(repr(value), LONGEST_SHOWN)}, a {type(value).__name__}"
        raise ValueError(f"is {kind}; expected {EXPECTED}")

    def read(self, text: str) -> "Parameter":
        """Another value of the same kind, as a person types it. Raises ValueError."""
        match self.type:
            case "text":
                return Parameter.of(text)
            case "integer" | "bigint" if re.fullmatch(r"[+-]?[0-9]{1,20}", text):
                return Parameter.of(int(text))
            case "double precision":
                return Parameter.of(float(text))
            case "boolean" if text in ("true", "false"):
                return Parameter.of(text == "true")
            case "date":
                return Parameter.of(date.fromisoformat(text))
            case "timestamp" | "timestamptz":
                found = Parameter.of(datetime.fromisoformat(text))
                if found.type == self.type:
                    return found
        raise ValueError(text)

    def __str__(self) -> str:
        return repr(self.text) if self.type == "text" else self.text


def as_parameter(value: object, info: ValidationInfo) -> object:
    """The parameter of a value of jobs.toml; a table is one that the ledger stored, and is returned as it is."""
    is_stored = isinstance(value, dict) and info.context is None
    return value if is_stored or isinstance(value, Parameter) else Parameter.of(value)


def require_name(name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > LONGEST_IDENTIFIER:
        raise ValueError(
            f"{name!r} cannot name a parameter; expected small letters, digits and underscores, a letter first, at "
            f"most {LONGEST_IDENTIFIER} characters"
        )
    if name in OF_EVERY_RUN:
        raise ValueError(f"{name!r} has a value in every run; expected another name")
    return name


def require_few(parameters: dict[str, Any]) -> dict[str, Any]:
    if len(parameters) > MOST:
        raise ValueError(f"has {len(parameters)} parameters; expected at most {MOST}")
    return parameters


def other_values(job: str, declared: Mapping[str, Parameter], supplied: Mapping[str, str]) -> dict[str, Parameter]:
    """The declared parameters with the user-supplied values of one run. Raises UsageError."""
    changed = dict(declared)
    for name, text in supplied.items():
        if name not in declared:
            hint = near(name, list(declared)) or " It has none: declare them in [jobs.NAME.parameters] of jobs.toml."
            raise UsageError(f"job {job!r} has no parameter {name!r}.{hint} Nothing was enqueued")
        try:
            changed[name] = declared[name].read(text)
        except ValueError:
            raise UsageError(
                f"parameter {name!r} of job {job!r} is {shortened(text, LONGEST_SHOWN)!r}; expected a value of type "
                f"{declared[name].type}, such as {shortened(declared[name].text, LONGEST_SHOWN)}. Nothing was enqueued"
            ) from None
    return changed
