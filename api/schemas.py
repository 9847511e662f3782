"""What the API takes and returns, as its description shows it."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from scorebeat.api.keys import Part, PlainText, whole
from scorebeat.core.states import BatchState, RunState
from scorebeat.db.ledger.failures.failure_groups import GROUP
from scorebeat.db.reports.lookup import KeyState
from scorebeat.producer.costs import cost_report
from scorebeat.producer.requests.enqueue import LONGEST_RUN_KEY
from scorebeat.producer.requests.release import LONGEST_WHY

LARGEST_ID = 2**53 - 1
"""The largest whole number that every reader of JSON can tell from its neighbours."""
MOST_KEYS = 10_000
MOST_ROWS = 10_000
LONGEST_BY = 100
Id = Annotated[int, Field(ge=1, le=LARGEST_ID), BeforeValidator(whole)]
Key = Annotated[list[str], Field(min_length=1, description="One text a key column, as PostgreSQL writes it.")]


T = TypeVar("T")


def _not_null(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "null is no value here; leave the field out to mean no such bound")
    return value


class _WithoutNull:
    """The description lists what is accepted, so it has no null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        (value,) = (choice for choice in handler(schema)["anyOf"] if choice != {"type": "null"})
        return dict(value)


def left_out() -> None:
    """The default of a field that may be left out. With a plain default the description would list null."""


NotNull = Annotated[T | None, BeforeValidator(_not_null), _WithoutNull()]
"""May be left out, and is None then, but may not be null: a caller whose filter came out empty would select all."""


class RequestBody(BaseModel):
    """Each value has its own type, and nothing else is accepted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Row(BaseModel):
    key: Key
    row: dict[str, Any] = Field(description="What the job's query returns for the key.")


class Prediction(BaseModel):
    key: Key
    prediction: dict[str, Any] = Field(description="The row of the view predictions.<job>.")


class RowAndPrediction(Row):
    prediction: dict[str, Any] | None = Field(description="The row of the view predictions.<job>; null without one.")


class _Page(BaseModel):
    job: str
    next: Key | None = Field(description="Pass it as `after` for the next page; null on the last one.")


class AllPage(_Page):
    rows: list[RowAndPrediction]


class PredictedPage(_Page):
    rows: list[Prediction]


class UnpredictedPage(_Page):
    rows: list[Row]


class OneKey(BaseModel):
    job: str
    key: Key
    state: KeyState
    reason: str | None = Field(description="Why the row is in quarantine.")
    prediction: dict[str, Any] | None


class Run(BaseModel):
    """A run with the sums over its batches."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    job: str
    model: str
    model_version: int
    state: RunState
    rows_planned: int
    rows_scored: int
    rows_failed: int
    batches: int
    batches_open: int
    batches_dead: int
    created_at: datetime
    created_by: str
    due_at: datetime | None
    deadline_at: datetime | None
    planned_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    queue: str


class Job(BaseModel):
    """A job of jobs.toml, when it is due, and its latest runs."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    schedule: str | None = Field(description="null: only by hand.")
    timezone: str
    queue: str
    model: str
    model_version: int | None = Field(description="The version that the next run scores; null while none is published.")
    next_due_at: datetime | None
    needed_by: datetime | None = Field(description="Of the first due time since the last success.")
    is_overdue: bool = Field(description="needed_by has passed without a success.")
    last_success_at: datetime | None = Field(
        description="When a run last ended that left out no rows but quarantined ones."
    )
    last_run: int | None = Field(description="The newest run that ended.")
    last_state: RunState | None
    last_end_at: datetime | None
    last_reason: str | None
    held_run: int | None = Field(description="The newest run that the job's gate holds; null: none waits for a person.")
    last_skip_at: datetime | None = Field(description="The newest due time without a run: paused, busy or missed.")
    last_skip_reason: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None


class Jobs(BaseModel):
    jobs: list[Job]
    notes: list[str] = Field(
        description="What due jobs wait for, such as a control worker, and runs that wait for a person."
    )


class BatchesInState(BaseModel):
    state: BatchState
    batches: int
    rows_planned: int
    rows_scored: int
    rows_failed: int


class Waste(BaseModel):
    """Time of attempts that ended alike, and brought nothing."""

    model_config = ConfigDict(from_attributes=True)

    kind: str = Field(description="failed, lost, waited, released, cancelled, repeated or discarded.")
    attempts: int
    rows: int = Field(description="Rows that they left to do, or that were scored and deleted.")
    device_seconds: float
    cpu_seconds: float
    cost: float | None


class Cost(BaseModel):
    """What runs cost."""

    device_seconds: float = Field(description="That attempts and plans had a core, or a GPU.")
    gpu_seconds: float = Field(description="Of them: a GPU.")
    cpu_seconds: float = Field(description="CPU time of their processes.")
    planning_seconds: float = Field(description="Of device_seconds: for planning.")
    wasted_seconds: float = Field(description="Of device_seconds: of attempts that brought nothing.")
    waste: list[Waste]
    cost: float | None = Field(description="By the prices in the ledger; null without prices.")
    currency: str | None
    cost_a_million_rows: float | None
    wasted_cost: float | None
    unpriced: list[str] = Field(description="Devices and queues without a price, which are left out of the cost.")

    @classmethod
    def of(cls, found: cost_report.Cost) -> "Cost":
        return cls(
            device_seconds=found.device_seconds,
            gpu_seconds=found.gpu_seconds,
            cpu_seconds=found.cpu_seconds,
            planning_seconds=found.planning_seconds,
            wasted_seconds=found.wasted_seconds,
            waste=[Waste.model_validate(part) for part in found.waste],
            cost=found.cost,
            currency=found.currency,
            cost_a_million_rows=found.a_million_rows,
            wasted_cost=found.wasted_cost,
            unpriced=list(found.unpriced),
        )


class JobMonth(Cost):
    """A job in the month in which its runs began, in UTC."""

    job: str
    month: str
    runs: int
    unmeasured_runs: int = Field(description="Runs of an older version, which measured no time.")
    rows: int = Field(description="Rows that were scored and kept.")


class IdleWorkers(BaseModel):
    """Time that workers of one device were alive without a batch, whatever the job."""

    month: str
    device: str
    alive_seconds: float
    idle_seconds: float | None = Field(description="null: not known, workers of an older version were alive too.")
    cost: float | None


class Costs(BaseModel):
    months: list[JobMonth]
    idle: list[IdleWorkers] = Field(description="Empty if one job was wanted.")


class RunDetails(Run):
    rows_a_second: float = Field(description="Over the last minute; 0 when the run is over.")
    seconds_left: float | None = Field(description="Until expected_end_at; null when no end is forecast.")
    expected_end_at: datetime | None = Field(
        description="The likely end; null when the run is over or none is forecast."
    )
    expected_earliest_at: datetime | None
    expected_latest_at: datetime | None
    no_forecast: str | None = Field(description="Why no end of an open run is forecast.")
    states: list[BatchesInState]
    cost: Cost


class Runs(BaseModel):
    runs: list[Run]
    next: int | None = Field(description="Pass it as `before` for the next page; null on the last one.")


class Finding(BaseModel):
    """One input or output, in the reference and now. A value is null where no row had a number."""

    side: Literal["input", "output"]
    name: str
    psi: float | None = Field(description="Population stability index.")
    distance: float | None = Field(
        description="Of numbers in standard deviations of the reference; of categories from 0 to 1."
    )
    missing_before: float = Field(description="Share of rows with NULL or NaN, in the reference.")
    missing_now: float
    mean_before: float | None
    mean_now: float | None
    median_before: float | None
    median_now: float | None
    reasons: list[str] = Field(description="What is too far; empty if nothing is.")


class Compared(BaseModel):
    """The comparison of a run with its reference."""

    run: int
    rows: int = Field(description="Rows of the sample.")
    reference: str | None = Field(description="Where the reference comes from, such as `run 3`.")
    compared_at: datetime | None
    why_not: str | None = Field(description="Why nothing was compared.")
    findings: list[Finding] | None = Field(description="null: nothing was compared.")


class FailureGroup(BaseModel):
    """What failed with one error."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="Pass it as `group` to requeue what is counted here, and nothing else.")
    kind: str
    error: str
    count: int
    rows: int
    match: str = Field(description="The beginning of the error. An error of another group may hold it too.")
    example: str
    traceback: str | None
    first_at: datetime | None
    last_at: datetime | None


class Failures(BaseModel):
    groups: list[FailureGroup]
    next: str | None = Field(description="Pass it as `after` for the next page; null on the last one.")


class NewRun(RequestBody):
    """What `scorebeat enqueue` takes."""

    job: PlainText
    model: NotNull[PlainText] = Field(
        default_factory=left_out, description="A version such as iris/4 or 4; the followed one if left out."
    )
    limit: NotNull[Id] = Field(default_factory=left_out)
    where: NotNull[Annotated[PlainText, Field(max_length=10_000)]] = Field(
        default_factory=left_out, description="SQL: one condition over the query's columns."
    )
    keys: NotNull[Annotated[list[Part | list[Part]], Field(min_length=1, max_length=MOST_KEYS)]] = Field(
        default_factory=left_out, description="Only these keys; a key of several columns is a list."
    )
    run_key: NotNull[Annotated[PlainText, Field(min_length=1, max_length=LONGEST_RUN_KEY)]] = Field(
        default_factory=left_out,
        description="A name for this run. A repeat with the same run_key returns the same run.",
    )
    due_at: NotNull[Annotated[str, Field(max_length=100, json_schema_extra={"format": "date-time"})]] = Field(
        default_factory=left_out,
        description="The value of :due_at in the query, without an offset in the job's time zone; now if left out.",
    )
    parameters: NotNull[dict[PlainText, PlainText]] = Field(
        default_factory=left_out, description="Values of the job's parameters for this run alone, as texts."
    )


class Enqueued(BaseModel):
    run: int
    is_new: bool = Field(description="False: the run_key had made this run before.")


class WhatToRequeue(RequestBody):
    batch: NotNull[Id] = Field(default_factory=left_out, description="This batch only.")
    error: NotNull[Annotated[PlainText, Field(min_length=1)]] = Field(
        default_factory=left_out,
        description="Only what failed with an error that contains this text; not what was stopped.",
    )
    group: NotNull[Annotated[str, Field(pattern=f"^{GROUP}$")]] = Field(
        default_factory=left_out, description="Only one group: its `id` in /runs/{run}/failures."
    )


class Requeued(BaseModel):
    run: int
    batches: int = Field(description="How many were put back; 0: nothing that failed matches.")


class Cancelled(BaseModel):
    run: int
    cancelled: bool = Field(description="False: the run was over already.")


class Decision(RequestBody):
    by: NotNull[Annotated[PlainText, Field(min_length=1, max_length=LONGEST_BY)]] = Field(
        default_factory=left_out, description="Who decided; the ledger records it beside `api`."
    )
    why: NotNull[Annotated[PlainText, Field(max_length=LONGEST_WHY)]] = Field(
        default_factory=left_out, description="The reason, which the ledger records."
    )


class Decided(BaseModel):
    run: int
    state: RunState = Field(description="What the run is now: shown, `succeeded` or `partial`; dropped, `failed`.")
    reason: str | None


class RowsToScore(RequestBody):
    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_ROWS)] = Field(
        description="An object a row, with a value for each input of the model."
    )


class Scored(BaseModel):
    model: str = Field(description="The version that scored, such as iris/4.")
    predictions: list[dict[str, Any]] = Field(description="An object of outputs a row, in the order of the rows.")


class QualityWeek(BaseModel):
    """One model version in one week."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    version: int
    week: date = Field(description="Its Monday, in the job's time zone.")
    rows: int = Field(description="Predictions whose truth became known in the week.")
    null_labels: int = Field(description="Rows of the truth without a label; they are not among rows.")
    scored_after: int = Field(description="Rows that were scored after the truth was known.")
    predictions: int = Field(description="Predictions that were made in the week.")
    with_truth: int = Field(description="Of these, those whose truth is known by now.")
    metrics: dict[str, Any] = Field(description="By their names; null: it cannot be computed, and notes has why.")
    computed_at: datetime


class JobQuality(BaseModel):
    """What is known of a job's quality."""

    model_config = ConfigDict(from_attributes=True)

    job: str
    weeks: list[QualityWeek] = Field(description="The newest week first, in it the versions side by side.")
    read_at: datetime | None = Field(description="When the truth was last read to its end.")
    failure: str | None = Field(description="Why the last reading failed.")
    next_at: datetime | None = Field(description="When it is read again.")


class Health(BaseModel):
    status: str
