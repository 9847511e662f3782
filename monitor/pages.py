"""The pages of the Runs tab: all runs, and one."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection
from tornado.web import authenticated

from scorebeat.core.errors import UnknownName
from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.states import FINAL_RUN, BatchState, RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.failure_groups import Place
from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.reports import drift, status
from scorebeat.db.reports.forecasts import forecasts, mornings
from scorebeat.db.reports.pages import batch_pages, job_lines, run_pages
from scorebeat.db.reports.status import RunLine
from scorebeat.monitor.charts import throughput
from scorebeat.monitor.handlers import Page
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.costs import cost_report
from scorebeat.producer.requests.requeue import comes_back_whole

A_PAGE = 50
"""Runs, or batches of a run, that a page of them lists; of errors and rows 20."""
FEW_BATCHES, FEW_GROUPS, FEW_ROWS = 8, 5, 5
"""What a run's page begins with, so that what failed, and why, fits few screens."""
FILTERS: dict[str, tuple[RunState, ...]] = {
    "open": (RunState.PLANNING, RunState.RUNNING),
    **{state.value: (state,) for state in FINAL_RUN},
}
"""Filters of the list of runs, by name."""
ALL, FAILED, SLOWEST = "all", "failed", "slowest"
BATCHES = (ALL, FAILED, *BatchState, SLOWEST)
"""Filters of a run's batches, by name."""
_ROW = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")
"""A batch's number and a row's id."""


@dataclass(frozen=True)
class Shown:
    """A run as a page shows it."""

    line: RunLine
    speed: float
    """Rows a second over the last minute."""
    forecast: Forecast
    now: datetime

    @property
    def left(self) -> int:
        return max(0, self.line.rows_planned - self.line.rows_scored - self.line.rows_failed)

    @property
    def is_empty(self) -> bool:
        """Whether it succeeded because nothing was pending."""
        return self.line.state is RunState.SUCCEEDED and not self.line.rows_planned

    @property
    def lateness(self) -> str | None:
        """`late` if the deadline passed before the end, `will be late` by the forecast; None if in time."""
        deadline = self.line.deadline_at
        if deadline is None:
            return None
        if (self.line.finished_at or self.now) > deadline:
            return "late"
        return "will be late" if self.forecast.passes(deadline) else None

    @property
    def is_held(self) -> bool:
        """Whether it waits for a person."""
        return self.line.state is RunState.HELD

    @property
    def has_failed_work(self) -> bool:
        """Whether a requeue may put something back."""
        ended_badly = self.line.state in (RunState.FAILED, RunState.PARTIAL)  # batches may have been stopped
        failed = self.line.batches_dead or self.line.rows_failed or ended_badly
        return bool(failed) and self.line.state not in (RunState.CANCELLED, RunState.HELD)

    @property
    def comes_back_whole(self) -> bool:
        """Whether a requeue of one batch or one error would be refused."""
        return comes_back_whole(self.line.state, self.line.on_failure)

    @property
    def may_be_put_back_in_part(self) -> bool:
        return self.has_failed_work and not self.comes_back_whole


def shown(connection: Connection, lines: list[RunLine], now: datetime) -> list[Shown]:
    found = forecasts.of_runs(connection, lines)
    return [Shown(line, run_pages.pace(connection, line), found[line.id], now) for line in lines]


class RunsPage(Page):
    """`/runs`, with `job`, `state`, `idle` and, for older runs, `before`."""

    @authenticated
    async def get(self) -> None:
        job, state = self.get_query_argument("job", "") or None, self.get_query_argument("state", "")
        if state and state not in FILTERS:
            self.bad_parameter("state", " or ".join(FILTERS))
        before, idle = self.whole_number("before"), bool(self.get_query_argument("idle", ""))
        await self.show("runs.html", lambda connection: list_of_runs(connection, job, state, before, idle=idle))


def list_of_runs(
    connection: Connection, job: str | None = None, state: str = "", before: int | None = None, *, idle: bool = False
) -> dict[str, Any]:
    """What `/runs` shows with these parameters."""
    lines = run_pages.runs(
        connection, job=job, states=FILTERS.get(state, ()), before=before, limit=A_PAGE + 1, with_idle=idle
    )
    now = database_clock.now(connection)
    runs = shown(connection, lines[:A_PAGE], now)
    # the first thing that a person wants to know, on the page that opens first
    is_first = job is None and not state and before is None
    seen = mornings.listing(connection) if is_first else []
    listed = [one.line for one in seen] if is_first else job_lines.listing(connection)
    listed.sort(key=lambda line: line.name)
    of_runs, of_jobs = unserved.of_runs(connection, lines[:A_PAGE]), unserved.of_jobs(connection, listed)
    return {
        "runs": runs,
        "older": runs[-1].line.id if len(lines) > A_PAGE else None,
        "jobs": listed,
        "mornings": seen,
        "notes": list(dict.fromkeys(of_runs + of_jobs)),  # both may report that there is no control worker
        "now": now,
        "job": job,
        "state": state,
        "idle": idle,
        "before": before,
        "filters": FILTERS,
    }


class RunPage(Page):
    """`/runs/3`; its batches, failed rows and errors after `after`, `rows_after` and `groups_after`.

    It begins with few of each. A page that one of these, or `batches`, asks for is longer.
    """

    @authenticated
    async def get(self, run: str) -> None:
        after = self.whole_number("after") or 0
        row = _ROW.fullmatch(self.get_query_argument("rows_after", "") or "0-0")
        if row is None:
            self.bad_parameter("rows_after", "the number of a batch and the id of a row, such as 120-9001")
        group = self.get_query_argument("groups_after", "")
        groups_after = Place.of(group) if group else None
        if group and groups_after is None:
            self.bad_parameter("groups_after", "the position of a group of failures, such as 12-r9001")
        wanted = self.get_query_argument("batches", "")
        if wanted and wanted not in BATCHES:
            self.bad_parameter("batches", " or ".join(BATCHES))
        where = Where(after, (int(row[1]), int(row[2])), groups_after, wanted)
        show = partial(details_of_run, run_id=int(run), where=where)
        await self.show("run.html", show, unknown=f"There is no run {int(run)}.")


@dataclass(frozen=True)
class Where:
    """Which page of its batches, failed rows and errors the page of a run shows; the first of each by default."""

    after: int = 0
    rows_after: tuple[int, int] = (0, 0)
    groups_after: Place | None = None
    batches: str = ""
    """One of BATCHES, or empty: the failed ones if there are any."""


def details_of_run(connection: Connection, run_id: int, where: Where) -> dict[str, Any]:
    """What `/runs/3` shows. Raises UnknownName."""
    after, wanted = where.after, where.batches
    most_batches = A_PAGE if wanted or after else FEW_BATCHES
    most_groups, most_rows = 20 if where.groups_after else FEW_GROUPS, 20 if where.rows_after > (0, 0) else FEW_ROWS
    line = status.get(connection, run_id)
    groups = failure_groups.page(connection, line.id, limit=most_groups + 1, after=where.groups_after)
    has_failed = bool(run_pages.failed(connection, line.id, limit=1))
    shown_filter = wanted or (FAILED if has_failed and not after else ALL)
    batches = _batches(connection, line.id, shown_filter, after, most_batches, by_number=bool(wanted))
    more_batches = None
    if shown_filter != SLOWEST and len(batches) > most_batches:
        # 0 if the page shows the dead first: the next one lists those that failed by number, from the first
        more_batches = 0 if shown_filter == FAILED and not wanted else int(batches[most_batches - 1]["number"])
    states = status.batch_states(connection, line.id)
    filters: list[tuple[str, int | None]] = [(ALL, line.batches)]
    filters += [(FAILED, None)] if has_failed else []
    filters += [(row["state"], row["batches"]) for row in states]
    filters.append((SLOWEST, None))
    rows = batch_pages.quarantined_rows(connection, line.id, after=where.rows_after, limit=most_rows + 1)
    try:
        job: JobRow | None = jobs.get(connection, line.job)
    except UnknownName:  # it is no longer in jobs.toml
        job = None
    # several batches in each bar of the chart, or it would show when one was committed and not how fast
    bars = min(60, max(12, (line.batches - line.batches_open) // 3))
    return {
        "run": shown(connection, [line], database_clock.now(connection))[0],
        "job": job,
        "notes": unserved.of_runs(connection, [line]),
        "compared": drift.of_run(connection, line.id) if line.is_final else None,
        "compared_in_words": drift.in_words,
        "throughput": throughput.draw(run_pages.throughput(connection, line.id, bars)),
        "states": states,
        "cost": cost_report.of_run(connection, line.id),
        "groups": groups[:most_groups],
        "more_groups": groups[most_groups - 1].place if len(groups) > most_groups else None,
        "batches": batches[:most_batches],
        "more_batches": more_batches,
        "batch_filter": shown_filter,
        "batch_filters": filters,
        "rows": rows[:most_rows],
        "more_rows": f"{rows[most_rows - 1]['number']}-{rows[most_rows - 1]['id']}" if len(rows) > most_rows else None,
        "actions": batch_pages.actions(connection, f"run {line.id}"),
        "after": after,
        "rows_after": where.rows_after > (0, 0),
        "groups_after": where.groups_after,
    }


def _batches(
    connection: Connection, run_id: int, chosen: str, after: int, most: int, *, by_number: bool
) -> list[dict[str, Any]]:
    """A page of the run's batches, and one more: by number, the failed ones of a run's first page the dead first."""
    if chosen == SLOWEST:
        return run_pages.slowest(connection, run_id)
    if chosen == FAILED and not by_number:
        return run_pages.failed(connection, run_id, limit=most + 1)
    if chosen == FAILED:
        return run_pages.failed_by_number(connection, run_id, after=after, limit=most + 1)
    states = () if chosen == ALL else (BatchState(chosen),)
    return run_pages.batches(connection, run_id, states=states, after=after, limit=most + 1)
