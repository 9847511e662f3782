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
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.source import source
from scorebeat.db.source.selection import key_range, pending, planning_cursor
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
        with p.engine.connect() as connection:
            job = jobs.get(connection, name).job
        opened = begin_at.read_open(p, job)
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        job = jobs.get(reader, name).job
        version = model_versions.of_job(reader, job)
        fitted = prediction_tables.fit(reader, p.url, job, version)
        whole = require_good_keys(reader, fitted)
        known = forecasts.evidence(reader, job)
        learned = advice.of_job(reader, name)
        open_run = runs.open_run(reader, name, version.name, version.version)
        target = prediction_sets.shown(reader, job, version.version)
        if job.rescore == "every-run":  # the run begins an empty set
            target = None
        of_others = old_queries.count(reader, target, job).other if target is not None else 0
        rows, anti_join = _pending(reader, fitted, target)
        begun = begin_at.begin(reader, job, fitted.source, rows.set_id, empty=not anti_join)
        rows = replace(rows, since=begun.since if begun is not None else None)
        started = time.monotonic()
        found = explanation.explain(reader, job, fitted.source, begun, opened)
        cursor = KeyCursor(reader, rows, anti_join=anti_join)  # from here on the session has the user's settings
        batch_sizes = []
        while (batch := cursor.skip(job.batch_rows)) is not None:
            batch_sizes.append(batch[1])
        took = timedelta(seconds=time.monotonic() - started)
        changed = without_value = gone_back = None
        if rows.source.changes is not None:
            changed = user_sql.rows(reader, rows.count_changed(rows.source.changes))[0][0] if anti_join else 0
            odd = rows.count_odd(rows.source.changes, is_joined=anti_join)
            without_value, gone_back = user_sql.rows(reader, odd)[0]
        expected = forecast.of_new(known, name, job.queue, Rank.SCHEDULED, job.batch_rows, sum(batch_sizes))
        is_known = expected.unknown is None and sum(batch_sizes) > 0
        return Preview(
            job=name,
            model=str(version),
            rows=sum(batch_sizes),
            batches=len(batch_sizes),
            batch_rows=job.batch_rows,
            takes=_after(expected.likely, known) if is_known else None,
            takes_least=_after(expected.earliest, known) if is_known else None,
            takes_most=_after(expected.latest, known) if is_known else None,
            no_forecast=expected.unknown if batch_sizes else None,
            open_run=open_run,
            whole_for_each_batch=whole,
            from_other_queries=of_others,
            rows_from=found.rows,
            cost=found.cost(took),
            advice=found.advice,
            recommended=learned.recommended,
            changed=changed,
            without_value=without_value,
            gone_back=gone_back,
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


def _pending(reader: Connection, fitted: Fit, target: PredictionSet | None) -> tuple[PendingRows, bool]:
    """The pending rows, and whether some rows may be scored already; without a `target` the run's set is empty."""
    # if the table does not store the values of `changed_at` yet, the run's first step adds the column
    if target is None or not stored_changes.stores_values(reader, fitted.source, target):
        return PendingRows(fitted.source, "", 0), False
    quarantined = pending.has_quarantine(reader, target.id)
    again = closed_runs.with_rows(reader, target.id)
    rows = PendingRows(fitted.source, target.table, target.id, has_quarantine=quarantined, again=again)
    return rows, quarantined or not pending.is_empty(reader, target.table)
