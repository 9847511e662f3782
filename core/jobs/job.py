"""A job: the query, model and schedule that a block of jobs.toml names."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo

from scorebeat.core.errors import UsageError
from scorebeat.core.identifiers import (
    LONGEST_IDENTIFIER,
    LONGEST_MODEL_NAME,
    MODEL_NAME,
    MODEL_NAME_RULE,
    parse_model,
)
from scorebeat.core.jobs import query_names
from scorebeat.core.jobs.canary import Canary, as_canary
from scorebeat.core.jobs.drift_limits import DriftLimits, drift_limits
from scorebeat.core.jobs.fields import Duration, as_float, within
from scorebeat.core.jobs.gate import Gate, as_gate
from scorebeat.core.jobs.parameters import DUE_AT, OF_EVERY_RUN, Parameter, as_parameter, require_few, require_name
from scorebeat.core.jobs.schedule import Schedule, find_zone, require_steps_within
from scorebeat.core.queues import DEFAULT_QUEUE, RESERVED_QUEUES
from scorebeat.core.table_names import RESERVED_COLUMNS
from scorebeat.core.text.durations import format_duration, parse_duration

JOB_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
QUEUE_NAME = re.compile(r"[a-z][a-z0-9_-]*")
LONGEST_JOB_NAME = 40
LONGEST_QUERY = 1_000_000
"""Bytes; a query travels with each batch's fetch."""
LONGEST_URL = 2000
MOST_KEY_COLUMNS = 8
BROKERS_OWN = frozenset({"unacked", "unacked_index", "unacked_mutex"})
"""Keys that Celery itself uses in the broker: a queue of such a name would overwrite them."""
EVENTS = ("finished", "failed", "late", "late.expected", "empty", "drift", "held")
"""The events that can be posted: a run ended, failed, is or will be late, drifted, is held, or scored nothing."""
MOST_NUMBERS_BACK = 1_000_000_000
DAILY = timedelta(days=1)
"""The time between two runs that compare every key, by default."""
NOTIFY_ON_BY_DEFAULT: tuple[str, ...] = ("finished", "failed", "late", "late.expected", "drift", "held")


def _job_name(name: str) -> str:
    if not JOB_NAME.fullmatch(name) or len(name) > LONGEST_JOB_NAME:
        raise ValueError(
            f"{name!r} cannot name a job; expected small letters, digits and single underscores, a letter "
            f"first, at most {LONGEST_JOB_NAME} characters"
        )
    return name


def _query(query: str) -> str:
    if not query.strip():
        raise ValueError("is empty; expected a SELECT")
    if len(query.encode()) > LONGEST_QUERY:
        raise ValueError(f"has {len(query.encode()):,} bytes; expected at most {LONGEST_QUERY:,}")
    if "\0" in query:
        raise ValueError("holds a NUL character, which PostgreSQL refuses")
    return query


def _as_tuple(key: object) -> object:
    if isinstance(key, str):
        return (key,)
    return tuple(key) if isinstance(key, list) else key


def _column(column: str) -> str:
    if not column or "\0" in column or len(column.encode()) > LONGEST_IDENTIFIER:
        raise ValueError(f"{column!r} cannot name a column; expected 1 to {LONGEST_IDENTIFIER} bytes without NUL")
    return column


def _key(key: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(key) <= MOST_KEY_COLUMNS:
        raise ValueError(f"has {len(key)} columns; expected 1 to {MOST_KEY_COLUMNS}")
    for column in key:
        _column(column)
        if column in RESERVED_COLUMNS:
            raise ValueError(
                f"{column!r} is a column of every prediction table; give it another name in the query, "
                f"such as SELECT {column} AS source_{column}"
            )
        if key.count(column) > 1:
            raise ValueError(f"names {column!r} twice; expected each column once")
    return key


NEW = {"is_new": True}
"""Context of a validation: a person writes the job now. A job that the ledger has stored skips the newer checks."""


def _model(model: str, info: ValidationInfo) -> str:
    longest = LONGEST_MODEL_NAME if info.context == NEW else LONGEST_IDENTIFIER
    try:
        name, _ = parse_model(model)
    except UsageError:
        name = ""
    if not MODEL_NAME.fullmatch(name) or len(name) > longest:
        raise ValueError(
            f"{model!r} cannot name a model; expected {MODEL_NAME_RULE}, such as 'iris', or 'iris/3' to pin version 3"
        )
    return model


def _schedule(text: str, info: ValidationInfo) -> str:
    Schedule.parse(text)
    if info.context == NEW:
        require_steps_within(text)
    return text


def _timezone(name: str) -> str:
    find_zone(name)
    return name


def _queue(name: str) -> str:
    if name in RESERVED_QUEUES | BROKERS_OWN:
        raise ValueError(f"{name!r} is a queue of Scorebeat's own; expected another, such as 'cpu'")
    if not QUEUE_NAME.fullmatch(name) or len(name) > LONGEST_IDENTIFIER:
        raise ValueError(
            f"{name!r} cannot name a queue; expected small letters, digits, '_' and '-', a letter first, "
            f"at most {LONGEST_IDENTIFIER} characters"
        )
    return name


def _notify(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or brackets that do not match
        good = False
    if not good or len(url) > LONGEST_URL or re.search(r"[\s\x00-\x20\x7f]", url):
        raise ValueError("is not a URL to post to; expected one such as 'https://hooks.example.org/scorebeat'")
    return url


def _results_by(text: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(f"{text!r} is not a time of day; expected hours and minutes such as '07:00'")
    if info.context == NEW and info.data.get("schedule", "wrong") is None:
        raise ValueError("needs a schedule, which sets the due times; expected one in the same job")
    return text


def _notify_on(events: tuple[str, ...]) -> tuple[str, ...]:
    if not events or len(set(events)) < len(events):
        raise ValueError(f"expected each event once, and at least one of {', '.join(map(repr, EVENTS))}")
    return events


def _changed_at(column: str, info: ValidationInfo) -> str:
    if column in info.data.get("key", ()):
        raise ValueError(
            f"{column!r} is part of the key, so a row that changes would be another row; expected a column that the "
            "key does not have"
        )
    if info.context != NEW:  # a run that scores every row anew has another `rescore` than its job
        return column
    if info.data.get("rescore") == "every-run":
        raise ValueError(
            'is of no use beside rescore = "every-run", which scores every row in every run; leave one out'
        )
    if info.data.get("on_failure") == "retry-run":
        raise ValueError(
            'cannot be beside on_failure = "retry-run": until the run is shown, readers would miss the rows that it '
            'replaces; expected "retry-rows" or "leave"'
        )
    return column


def _cursor(column: str, info: ValidationInfo) -> str:
    if info.context != NEW:
        return column
    if info.data.get("rescore") == "every-run":
        raise ValueError('is of no use beside rescore = "every-run", which reads every row in every run; leave one out')
    if any(name in OF_EVERY_RUN for name in query_names.find(info.data.get("query", ""))):
        raise ValueError(
            f"is of no use with :{' or :'.join(OF_EVERY_RUN)} in the query: a row that it does not return for one run "
            "may be there for another; leave one out"
        )
    if info.data.get("changed_at") is not None and column in info.data.get("key", ()):
        raise ValueError(
            f"{column!r} is part of the key, which stays when a row changes, so no change would be seen beside "
            "changed_at; expected a column that each change sets, or leave one out"
        )
    return column


def _lookback(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_NUMBERS_BACK:
            raise ValueError(f"is {value:,}; expected a whole number from 1 to {MOST_NUMBERS_BACK:,}")
        return value
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"is {value!r}; expected a duration in quotes, such as '15m', or a whole number, such as 1000")


def _by_column(value: Any, info: ValidationInfo) -> Any:
    named = info.data.get("changed_at", "wrong"), info.data.get("cursor", "wrong")
    if named == (None, None):
        raise ValueError("needs changed_at or cursor, without which each run compares every key; leave it out")
    return value


def _sweep(every: timedelta, info: ValidationInfo) -> timedelta:
    schedule = info.data.get("schedule")
    if info.context == NEW and schedule is not None and "timezone" in info.data:
        between = Schedule.parse(schedule, info.data["timezone"]).shortest_gap()
        if every <= between:
            raise ValueError(
                f"is {format_duration(every)}, and the job is due each {format_duration(between)} at most: every run "
                "would compare every key; expected a longer time"
            )
    return every


def _snapshot(stores: bool, info: ValidationInfo) -> bool:
    if stores and info.context == NEW and info.data.get("changed_at") is not None:
        raise ValueError(
            "cannot be beside changed_at: a snapshot does not store what is known of its rows; expected one of both"
        )
    if stores and info.context == NEW and info.data.get("cursor") is not None:
        raise ValueError(
            "cannot be beside cursor: a snapshot computes the whole query in every run; expected one of both"
        )
    return stores


def _keep_history(keep: bool, info: ValidationInfo) -> bool:
    if keep and "changed_at" in info.data and info.data["changed_at"] is None:
        raise ValueError("needs changed_at, without which no prediction is replaced; expected both or neither")
    return keep


def _deleted(what: str, info: ValidationInfo) -> str:
    if info.context != NEW:
        return what
    if what == "follow" and info.data.get("rescore") == "every-run":
        raise ValueError(
            'is of no use beside rescore = "every-run": readers see the rows of the newest run only; leave one out'
        )
    of_a_run = [name for name in OF_EVERY_RUN if name in query_names.find(info.data.get("query", ""))]
    if what == "follow" and of_a_run:
        raise ValueError(
            f"is of no use with :{of_a_run[0]} in the query: a row that it does not return for one run may be there "
            "for another; leave one out"
        )
    if what == "follow" and info.data.get("on_failure") == "retry-run":
        raise ValueError('cannot be beside on_failure = "retry-run"; expected "retry-rows" or "leave"')
    return what


def _gate(conditions: Gate | None, info: ValidationInfo) -> Gate | None:
    needs = [name for name in ("drift", "constant") if conditions is not None and getattr(conditions, name)]
    if needs and info.context == NEW and info.data.get("drift", "wrong") is None:
        raise ValueError(f"{needs[0]} needs a profile of the run, and drift = false keeps none; leave one of both out")
    return conditions


def _truth(query: str, info: ValidationInfo) -> str:
    of_a_run = [name for name in OF_EVERY_RUN if name in query_names.find(query)]
    if of_a_run and info.context == NEW:
        raise ValueError(
            f"has :{of_a_run[0]}, which only a run has, and the truth is read for the predictions of all runs "
            "together; leave it out"
        )
    return _query(query)


def _threshold(share: float) -> float:
    if share != -1 and not 0 <= share <= 1:
        raise ValueError(f"is {share:g}; expected a share from 0 to 1, such as 0.01, or -1 for never")
    return share


class Job(BaseModel):
    """One checked block of jobs.toml.

    `Job.model_validate` reads back what `model_dump(mode="json")` stores in the ledger. Each value has
    its own type: a number in quotes is a mistake.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_job_name)]
    query: Annotated[str, AfterValidator(_query)]
    key: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), AfterValidator(_key)]
    model: Annotated[str, AfterValidator(_model)]
    """`iris` follows the published version, `iris/3` pins one."""
    parameters: Annotated[
        dict[Annotated[str, AfterValidator(require_name)], Annotated[Parameter, BeforeValidator(as_parameter)]],
        AfterValidator(require_few),
        Field(exclude_if=lambda kept: not kept),
    ] = {}
    """Values of the query's `:name`s, beside those that every run has; in the ledger only if there are any."""
    schedule: Annotated[str, AfterValidator(_schedule)] | None = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    queue: Annotated[str, AfterValidator(_queue)] = DEFAULT_QUEUE
    batch_rows: Annotated[int, within(1, 1_000_000)] = 50_000
    batch_bytes: Annotated[int, within(1024, 2 * 1024**3)] = 256 * 1024**2
    """At most 2 GiB: Arrow counts the bytes of a text column in 32 bits."""
    rescore: Literal["never", "every-run"] = "never"
    on_failure: Literal["retry-rows", "retry-run", "leave"] = "retry-rows"
    deadline: Duration | None = None
    results_by: Annotated[
        Annotated[str, AfterValidator(_results_by)] | None, Field(exclude_if=lambda kept: kept is None)
    ] = None
    """Time of day in `timezone` by which complete results are needed; in the ledger only if it is chosen."""
    changed_at: Annotated[
        Annotated[str, AfterValidator(_column), AfterValidator(_changed_at)] | None,
        Field(exclude_if=lambda kept: kept is None),
    ] = None
    """Column of the query by which a row is seen to have changed; in the ledger only if it is chosen."""
    cursor: Annotated[
        Annotated[str, AfterValidator(_column), AfterValidator(_cursor)] | None,
        Field(exclude_if=lambda kept: kept is None),
    ] = None
    """Column of the query whose values grow over the whole table; by default that of `changed_at` if it is a timestamp.
    In the ledger only if it is chosen."""
    lookback: Annotated[
        Annotated[
            timedelta | int,
            BeforeValidator(_lookback),
            AfterValidator(_by_column),
            PlainSerializer(lambda kept: kept if isinstance(kept, int) else format_duration(kept), when_used="json"),
        ]
        | None,
        Field(exclude_if=lambda kept: kept is None),
    ] = None
    """How far before the watermark a run compares keys: a duration, or a number for a cursor of whole numbers. In the
    ledger only if it is chosen."""
    sweep: Annotated[
        Annotated[Duration, AfterValidator(_by_column), AfterValidator(_sweep)] | None,
        Field(exclude_if=lambda kept: kept is None),
    ] = None
    """How long until a run compares every key again, None: `DAILY`; in the ledger only if it is chosen."""
    keep_history: Annotated[bool, AfterValidator(_keep_history), Field(exclude_if=lambda kept: not kept)] = False
    """Predictions that are replaced go to a table of their own; in the ledger only if it is chosen."""
    deleted: Annotated[
        Literal["keep", "follow"], AfterValidator(_deleted), Field(exclude_if=lambda kept: kept == "keep")
    ] = "keep"
    """What becomes of a prediction whose row is gone when a run ends; in the ledger only if it is chosen."""
    keep: Annotated[int, within(1, 1000)] = 3
    allow_full_scans: bool = False
    snapshot: Annotated[bool, AfterValidator(_snapshot), Field(exclude_if=lambda kept: not kept)] = False
    """The plan stores what the query returns, and batches read that; in the ledger as `out_of_range`."""
    null_inputs: Literal["model", "quarantine"] = "model"
    """NULL and NaN among a row's inputs: passed on if the model takes them, or the row is quarantined unseen."""
    out_of_range: Annotated[Literal["quarantine", "null"], Field(exclude_if=lambda kept: kept == "quarantine")] = (
        "quarantine"
    )
    """What becomes of dates and timestamps that no model can read, such as infinity. It is in the ledger only if it is
    chosen, because programs of an older release read the ledger too."""
    allow_nan: bool = False
    allow_empty: Annotated[bool, Field(exclude_if=lambda kept: not kept)] = False
    """`every-run`: readers see no prediction when the query gave no row; in the ledger as `out_of_range`."""
    error_threshold: Annotated[float, BeforeValidator(as_float), AfterValidator(_threshold)] = 0.01
    """Share of the run's rows that may be quarantined before the run fails; -1: never."""
    run_attempts: Annotated[int, within(1, 100)] = 3
    """`retry-run`: times a run is begun before it fails."""
    dead_runs: Annotated[int, within(1, 1000)] = 3
    """Number of runs in a row with dead batches that pauses the job."""
    drift: Annotated[
        DriftLimits | None, BeforeValidator(drift_limits), Field(exclude_if=lambda kept: kept == DriftLimits())
    ] = DriftLimits()
    """From which size on a difference from the reference is reported; None: the runs keep no profile. In the ledger
    only if it is chosen."""
    gate: Annotated[
        Gate | None, BeforeValidator(as_gate), AfterValidator(_gate), Field(exclude_if=lambda kept: kept is None)
    ] = None
    """When a finished run waits for a person before readers see it; in the ledger only if it is chosen."""
    canary: Annotated[Canary | None, BeforeValidator(as_canary), Field(exclude_if=lambda kept: kept is None)] = None
    """How often some rows are scored and checked, without being stored; in the ledger only if it is chosen."""
    truth: Annotated[Annotated[str, AfterValidator(_truth)] | None, Field(exclude_if=lambda kept: kept is None)] = None
    """Query of what really happened: the key, `label`, and perhaps `known_at`; in the ledger only if it is chosen."""
    notify: Annotated[str, AfterValidator(_notify)] | None = None
    """URL to which the end of each run, and a passed deadline, are posted."""
    notify_on: Annotated[
        tuple[Literal["finished", "failed", "late", "late.expected", "empty", "drift", "held"], ...],
        BeforeValidator(_as_tuple),
        AfterValidator(_notify_on),
        Field(exclude_if=lambda kept: kept == NOTIFY_ON_BY_DEFAULT),
    ] = ("finished", "failed", "late", "late.expected", "drift", "held")
    """Events that are posted; in the ledger only if it is chosen, as `out_of_range`."""

    @property
    def model_name(self) -> str:
        return parse_model(self.model)[0]

    @property
    def pinned_version(self) -> int | None:
        return parse_model(self.model)[1]

    @property
    def is_by_due_time(self) -> bool:
        """The query has `:due_at`: each due time has rows of its own."""
        return DUE_AT in query_names.find(self.query)

    @property
    def due(self) -> Schedule | None:
        """When the job is due; None: only by hand."""
        return Schedule.parse(self.schedule, self.timezone) if self.schedule else None

    def needed_by(self, due_at: datetime) -> datetime:
        """When complete results of that due time are needed: at `results_by`, else by the deadline, else when the job
        is due again.

        For a job with a schedule.
        """
        if self.results_by is not None:
            hour, minute = map(int, self.results_by.split(":"))
            return Schedule.parse(f"{minute} {hour} * * *", self.timezone).next_due(due_at)
        if self.deadline is not None:
            return due_at + self.deadline
        return self.due.next_due(due_at) if self.due is not None else due_at
