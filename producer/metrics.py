"""Metrics: the ledger's numbers in Prometheus' text form."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from scorebeat.core.states import FINAL_RUN, AttemptEnd, BatchState, RunState
from scorebeat.db.reports import metrics, usage
from scorebeat.db.reports.metrics import Numbers
from scorebeat.db.reports.pages import run_pages
from scorebeat.producer.costs import cost_report
from scorebeat.producer.costs.cost_report import REASONS, Cost

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Value = tuple[tuple[str, ...], float]
"""The labels' values, in order, and the number."""


def exposition(engine: Engine) -> bytes:
    """The text, UTF-8, read in one snapshot of the ledger. Raises OperationalError if the database is away."""
    with run_pages.reading(engine) as connection:
        numbers = metrics.read(connection)
        costs, alive = cost_report.by_job(connection), usage.alive_seconds(connection)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ledger(numbers, costs, alive))
    return generate_latest(registry)


class _Ledger(Collector):
    def __init__(self, numbers: Numbers, costs: dict[str, Cost], alive: dict[tuple[str, str], float]) -> None:
        self._numbers = numbers
        self._costs = costs
        self._alive = alive

    def collect(self) -> Iterable[Metric]:
        yield from _of_jobs(self._numbers)
        yield from _of_due_times(self._numbers)
        yield from _of_open_runs(self._numbers)
        yield from _of_ended_runs(self._numbers)
        yield from _of_workers(self._numbers)
        yield from _of_costs(self._costs, self._alive)
        yield from _of_canaries(self._numbers)
        yield from _of_quality(self._numbers)


def _of_jobs(numbers: Numbers) -> Iterator[Metric]:
    for name, help_text in _COUNTERS.items():
        yield _counter(name, help_text, ("job",), [((j["job"],), j[name]) for j in numbers.jobs])
    yield _gauge(
        "rows_quarantined",
        "Rows that stand in quarantine now.",
        ("job",),
        [((j["job"],), j["rows_quarantined"]) for j in numbers.jobs],
    )
    yield _gauge(
        "job_paused", "1 while the job is paused.", ("job",), [((j["job"],), j["paused"]) for j in numbers.jobs]
    )
    model = InfoMetricFamily("scorebeat_model", "The model version that the job's next run scores.", labels=("job",))
    for m in numbers.models:
        model.add_metric((m["job"],), {"model": m["model"], "version": str(m["version"]), "format": m["format"]})
    yield model


def _of_due_times(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge(
        "next_due_timestamp_seconds",
        "When the job is due next, since 1970. Absent without a schedule.",
        ("job",),
        [((d["job"],), d["next_due"]) for d in numbers.due],
    )
    yield _gauge(
        "results_overdue_seconds",
        "How long complete results have been overdue by the job's schedule; 0 in time. Absent without a schedule.",
        ("job",),
        [((d["job"],), d["overdue"]) for d in numbers.due],
    )
    yield _counter(
        "ticks_missed", "Due times that passed without a run: nothing ran.", ("job",), _one(numbers.ticks_missed)
    )
    yield _counter(
        "ticks_skipped",
        "Due times without a run, because the job was paused or its run of before still open.",
        ("job", "reason"),
        numbers.ticks_skipped.items(),
    )


_COUNTERS = {
    "rows_scored": "Rows that were scored.",
    "rows_failed": "Rows that were quarantined, also those that were put back since.",
    "attempts": "Attempts at batches: each claim of a worker is one.",
    "claims_expired": "Claims that nobody renewed: the worker died or lost the database.",
    "rows_missed": "Rows that a comparison of every key found, and that runs from a watermark had missed.",
    "runs_late": "Runs whose deadline passed before they ended for the first time.",
}


def _of_open_runs(numbers: Numbers) -> Iterator[Metric]:
    names = [j["job"] for j in numbers.jobs]
    open_states = [s for s in RunState if s not in FINAL_RUN]
    counts = {(name, state.value): 0.0 for name in names for state in open_states}
    pending, oldest = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    deadlines: dict[str, float] = {}
    for run in numbers.open_runs:
        job = run["job"]
        counts[job, run["state"]] = counts.get((job, run["state"]), 0) + 1
        pending[job] = pending.get(job, 0) + run["rows_pending"]
        oldest[job] = max(oldest.get(job, 0.0), run["pending_seconds"] or 0.0)
        if run["seconds_to_deadline"] is not None:
            deadlines[job] = min(deadlines.get(job, float("inf")), run["seconds_to_deadline"])
    yield _gauge("open_runs", "Runs that are open, by state.", ("job", "state"), counts.items())
    yield _gauge("rows_pending", "Rows that open runs planned and did not score yet.", ("job",), _one(pending))
    yield _gauge(
        "oldest_pending_seconds",
        "Since the oldest pending batch was planned, or put back by a requeue; 0 when none is pending.",
        ("job",),
        _one(oldest),
    )
    yield _gauge(
        "deadline_remaining_seconds",
        "Seconds until the deadline of the open run; below 0 when it is late. Absent without one.",
        ("job",),
        _one(deadlines),
    )
    yield _gauge(
        "run_expected_end_timestamp_seconds",
        "When the open run is expected to end, since 1970. Absent when none is open, or no end is forecast.",
        ("job", "bound"),
        numbers.expected_ends.items(),
    )
    yield _gauge(
        "late_expected",
        "1 while the likely end of the open run passes the time its results are promised for, else 0.",
        ("job",),
        _one(numbers.late_expected),
    )
    queues = {(b["job"], b["queue"]) for b in numbers.batches}
    batches = {(*where, state.value): 0.0 for where in sorted(queues) for state in BatchState}
    batches |= {(b["job"], b["queue"], b["state"]): b["batches"] for b in numbers.batches}
    yield _gauge("batches", "Batches of open runs, by state.", ("job", "queue", "state"), batches.items())


def _of_ended_runs(numbers: Numbers) -> Iterator[Metric]:
    runs = {(j["job"], state.value): 0 for j in numbers.jobs for state in FINAL_RUN} | numbers.runs
    yield _counter(
        "runs",
        "Ends of runs, by state; a run that a requeue opened again ends once more.",
        ("job", "state"),
        runs.items(),
    )
    for name, (column, help_text) in _LAST_RUN.items():
        yield _gauge(f"last_run_{name}", help_text, ("job",), [((r["job"],), r[column]) for r in numbers.last_runs])
    ended_well = [((r["job"],), r["state"] == RunState.SUCCEEDED) for r in numbers.last_runs]
    yield _gauge("last_run_succeeded", "1 when the newest ended run succeeded, else 0.", ("job",), ended_well)
    yield _gauge("runs_held", "Runs that a gate holds, until a person decides.", ("job",), _one(numbers.held))
    yield _gauge(
        "drifted_columns",
        "Inputs and outputs of the newest compared run that are too far from the reference. Absent without one.",
        ("job",),
        [((d["job"],), d["columns"]) for d in numbers.drift],
    )
    yield _gauge(
        "largest_psi",
        "The largest population stability index of the newest compared run. Absent without one.",
        ("job",),
        [((d["job"],), d["psi"]) for d in numbers.drift if d["psi"] is not None],
    )
    yield _gauge(
        "profile_failed",
        "1 if the profile or the comparison of the newest run failed, else 0. Absent without a profile.",
        ("job",),
        [((d["job"],), d["failed"]) for d in numbers.not_compared],
    )
    yield _gauge(
        "gate_not_compared",
        "1 if the newest run is too small to be compared, or had no reference, else 0. Absent without a drift gate.",
        ("job",),
        [((d["job"],), d["not_compared"]) for d in numbers.not_compared if d["not_compared"] is not None],
    )
    yield _gauge(
        "last_success_timestamp_seconds", "When a run succeeded last, since 1970.", ("job",), _one(numbers.last_success)
    )


_LAST_RUN = {
    "duration_seconds": ("seconds", "Of the newest ended run, from its request to its end."),
    "timestamp_seconds": ("finished", "When the newest ended run ended, since 1970."),
    "rows_scored": ("rows_scored", "Rows that the newest ended run scored."),
    "rows_failed": ("rows_failed", "Rows that the newest ended run quarantined."),
}


def _of_workers(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge(
        "workers",
        "Workers that listen on the queue; 0 when a job needs it and nobody does.",
        ("queue",),
        _one(numbers.workers),
    )
    yield _gauge("notices_undelivered", "Notices that failed and are tried again.", ("job",), _one(numbers.undelivered))


def _of_costs(costs: dict[str, Cost], alive: dict[tuple[str, str], float]) -> Iterator[Metric]:
    yield _counter(
        "device_seconds",
        "That attempts at batches, and plans, had a core or a GPU.",
        ("job", "device"),
        [
            (where, seconds)
            for job, cost in costs.items()
            for where, seconds in (
                ((job, "cpu"), cost.device_seconds - cost.gpu_seconds),
                ((job, "gpu"), cost.gpu_seconds),
            )
        ],
    )
    yield _counter(
        "cpu_seconds",
        "CPU time of the processes of attempts at batches, and of plans.",
        ("job",),
        [((job,), cost.cpu_seconds) for job, cost in costs.items()],
    )
    yield _counter(
        "wasted_seconds",
        "Of the device seconds: of attempts that brought nothing, by how they ended.",
        ("job", "reason"),
        [
            ((job, end), sum(part.device_seconds for part in cost.waste if part.kind == end))
            for job, cost in costs.items()
            for end in REASONS
            if end is not AttemptEnd.DISCARDED  # a requeue turns it into `repeated`, and a counter must not fall
        ],
    )
    yield _counter(
        "worker_seconds",
        "That workers of a queue were alive, by a core or GPU each; device seconds are a part of it.",
        ("queue", "device"),
        alive.items(),
    )
    yield _counter(
        "cost",
        "What runs cost by the prices in the ledger. Absent without prices.",
        ("job", "currency"),
        [((job, cost.currency or ""), cost.cost) for job, cost in costs.items() if cost.cost is not None],
    )


def _of_canaries(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge(
        "canary_failed",
        "1 if the newest canary found something wrong, and no run has scored rows since, else 0. Absent without one.",
        ("job",),
        _one(numbers.canary_failed),
    )
    yield _gauge(
        "canary_overdue_seconds",
        "How long a canary should have been sent; 0 in time. Absent for a job without canaries.",
        ("job",),
        _one(numbers.canary_overdue),
    )
    yield _gauge(
        "workers_without_model",
        "Living workers that could not load the version, or refused it as its golden rows differ. Absent without one.",
        ("model", "reason"),
        numbers.unloadable.items(),
    )


def _of_quality(numbers: Numbers) -> Iterator[Metric]:
    weeks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for q in numbers.quality:
        weeks.setdefault((q["job"], f"{q['model']}/{q['version']}"), []).append(q)
    versions = [(labels, its[0]) for labels, its in weeks.items()]
    yield _gauge(
        "quality",
        "A metric of the newest week whose truth is known, by model version.",
        ("job", "version", "metric"),
        [
            ((*labels, name), figure)
            for labels, q in versions
            for name, figure in q["metrics"].items()
            if isinstance(figure, float)
        ],
    )
    yield _gauge(
        "quality_before",
        "The mean of the metric over the rows of the four weeks with a truth before that. Absent without one.",
        ("job", "version", "metric"),
        [
            ((*labels, name), before)
            for labels, its in weeks.items()
            for name in its[0]["metrics"]
            if (before := _mean(name, its[1:])) is not None
        ],
    )
    yield _gauge(
        "quality_rows",
        "Predictions whose truth became known in that week.",
        ("job", "version"),
        [(labels, q["rows"]) for labels, q in versions],
    )
    yield _gauge(
        "quality_failed",
        "1 if the truth could not be read or compared the last time, else 0. Absent without a truth.",
        ("job",),
        [((q["job"],), q["failed"]) for q in numbers.quality_failed],
    )


def _mean(name: str, weeks: list[dict[str, Any]]) -> float | None:
    """The mean of a metric over the rows of these weeks; None if none has it."""
    known = [(q["metrics"].get(name), q["rows"]) for q in weeks]
    found = [(figure, rows) for figure, rows in known if isinstance(figure, float) and rows]
    return sum(figure * rows for figure, rows in found) / sum(rows for _, rows in found) if found else None


def _one(values: Mapping[str, float]) -> list[Value]:
    return [((name,), value) for name, value in values.items()]


def _counter(name: str, help_text: str, labels: tuple[str, ...], values: Iterable[Value]) -> Metric:
    family = CounterMetricFamily(f"scorebeat_{name}", help_text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def _gauge(name: str, help_text: str, labels: tuple[str, ...], values: Iterable[Value]) -> Metric:
    family = GaugeMetricFamily(f"scorebeat_{name}", help_text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family
