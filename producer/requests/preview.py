"""A preview of a run: its rows and batches, and the estimated time."""

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from scorebeat.core.forecasts import forecast
from scorebeat.core.forecasts.evidence import Evidence
from scorebeat.core.states import Rank
from scorebeat.db.closing import closed_runs
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions, runs
from scorebeat.db.predictions import old_queries, prediction_sets, stored_changes
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.source import source
from scorebeat.db.source.selection import key_range, pending, planning_cursor
from scorebeat.db.source.selection.open_transactions import OpenTransactions
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.selection.planning_cursor import KeyCursor
from scorebeat.producer.context import Producer
from scorebeat.producer.costs import advice
from scorebeat.producer.planning import begin_at, explanation
from scorebeat.producer.versions import prediction_tables
from scorebeat.producer.versions.prediction_tables import Fit


@dataclass(frozen=True)
class Preview:
    """What a run would do now."""

    job: str
    model: str
    rows: int
    batches: int
    batch_rows: int
    takes: timedelta | None
    """Until its likely end if it began now, by the job's last runs and the runs that are open; None if unknown."""
    takes_least: timedelta | None
    takes_most: timedelta | None
    no_forecast: str | None
    """Why that is unknown; None if it is known, or nothing is pending."""
    open_run: int | None
    """The run that has these rows now; a new one would be refused."""
    whole_for_each_batch: str | None
    """Why every batch computes the whole query, if it does."""
    from_other_queries: int
    """Visible predictions of the version that runs of another query made; they are not scored again."""
    rows_from: str
    """How the run finds its rows."""
    cost: str
    """What finding them takes now, and with ten times the rows."""
    advice: tuple[str, ...]
    """What would make it cheaper, or is missing."""
    recommended: tuple[str, ...]
    """What the times of its last runs recommend."""
    changed: int | None = None
    """How many of `rows` have a prediction, or are in quarantine, for older values; None without `changed_at`."""
    without_value: int | None = None
    """Rows of the query with no value in the `changed_at` column: if one changes, nobody sees it."""
    gone_back: int | None = None
    """Rows with an older value there than their prediction has: they are not scored again."""


def preview(p: Producer, name: str) -> Preview:
    """Read the pending keys as planning does, in one READ ONLY transaction.

    Raises UnknownName, SignatureError, or QueryError: also for keys that are NULL or repeat.
    """
    with reachable(p.url):
        opened = _open(p, name)
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        job = jobs.get(reader, name).job
        version = model_versions.of_job(reader, job)
        fitted = prediction_tables.fit(reader, p.url, job, version)
        whole = require_good_keys(reader, fitted)
        known = forecasts.evidence(reader, job)
        learned = advice.of_job(reader, name)
        open_run = runs.open_run(reader, name, version.name, version.version)
        of_others = _from_other_queries(reader, fitted)
        rows, anti_join = _pending(reader, fitted)
        begun = begin_at.begin(reader, job, fitted.source, rows.set_id, empty=not anti_join)
        rows = replace(rows, since=begun.since if begun is not None else None)
        started = time.monotonic()
        found = explanation.explain(reader, job, fitted.source, begun, opened)
        counts = _count(reader, rows, fitted, anti_join=anti_join)  # from here on the session has the user's settings
        took = timedelta(seconds=time.monotonic() - started)
        changes = _changes(reader, rows, anti_join=anti_join)
        expected = forecast.of_new(known, name, job.queue, Rank.SCHEDULED, job.batch_rows, sum(counts))
        is_known = expected.unknown is None and sum(counts) > 0
        return Preview(
            job=name,
            model=str(version),
            rows=sum(counts),
            batches=len(counts),
            batch_rows=job.batch_rows,
            takes=_after(expected.likely, known) if is_known else None,
            takes_least=_after(expected.earliest, known) if is_known else None,
            takes_most=_after(expected.latest, known) if is_known else None,
            no_forecast=expected.unknown if counts else None,
            open_run=open_run,
            whole_for_each_batch=whole,
            from_other_queries=of_others,
            rows_from=found.rows,
            cost=found.cost(took),
            advice=found.advice,
            recommended=learned.recommended,
            **changes,
        )


def _after(at: datetime | None, known: Evidence) -> timedelta | None:
    return at - known.now if at is not None else None


def require_good_keys(reader: Connection, fitted: Fit) -> str | None:
    """Why every batch would compute the whole query, if it would. Raises QueryError for keys that are NULL or repeat.

    `apply` refuses a new or changed job by this rule; `plan`, `check` and a run report it.
    """
    source.require_unique(reader, fitted.source)
    if fitted.job.snapshot:
        return None
    first = planning_cursor.first_key(reader, fitted.source)
    return None if first is None else key_range.why_whole(reader, fitted.source, fitted.job, first)


def _open(p: Producer, name: str) -> OpenTransactions | None:
    with p.engine.connect() as connection:
        job = jobs.get(connection, name).job
    return begin_at.read_open(p, job)


def _count(reader: Connection, rows: PendingRows, fitted: Fit, *, anti_join: bool) -> list[int]:
    """The number of rows of each batch."""
    cursor = KeyCursor(reader, rows, anti_join=anti_join)
    counts = []
    while (found := cursor.skip(fitted.job.batch_rows)) is not None:
        counts.append(found[1])
    return counts


def _changes(reader: Connection, rows: PendingRows, *, anti_join: bool) -> dict[str, int]:
    """The counts of `Preview` that a job with `changed_at` has."""
    changes = rows.source.changes
    if changes is None:
        return {}
    changed = user_sql.rows(reader, rows.count_changed(changes))[0][0] if anti_join else 0
    without, back = user_sql.rows(reader, rows.count_odd(changes, is_joined=anti_join))[0]
    return {"changed": changed, "without_value": without, "gone_back": back}


def _from_other_queries(reader: Connection, fitted: Fit) -> int:
    target = prediction_sets.shown(reader, fitted.job, fitted.version.version)
    scores_all = target is None or fitted.job.rescore == "every-run"
    return 0 if scores_all or target is None else old_queries.count(reader, target, fitted.job).other


def _pending(reader: Connection, fitted: Fit) -> tuple[PendingRows, bool]:
    """The pending rows, and whether some rows may be scored already."""
    version = fitted.version
    target = prediction_sets.shown(reader, fitted.job, version.version)
    if target is None or fitted.job.rescore == "every-run":  # the run begins an empty set
        return PendingRows(fitted.source, "", 0), False
    if not stored_changes.stores_values(reader, fitted.source, target):  # the run's first step adds the column
        return PendingRows(fitted.source, "", 0), False
    quarantined = pending.has_quarantine(reader, target.id)
    again = closed_runs.with_rows(reader, target.id)
    rows = PendingRows(fitted.source, target.table, target.id, has_quarantine=quarantined, again=again)
    return rows, quarantined or not pending.is_empty(reader, target.table)
