"""The pages of the Runs tab: all runs, and one."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from tornado.web import authenticated

from scorebeat.core.errors import UnknownName
from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.states import FINAL_RUN, BatchState, RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import failure_groups, jobs
from scorebeat.db.ledger.failure_groups import Place
from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.reports import batch_pages, drift, forecasts, job_lines, mornings, run_pages, status
from scorebeat.db.reports.status import RunLine
from scorebeat.monitor.handlers import Page
from scorebeat.producer.control import unserved
from scorebeat.producer.costs import cost_report
from scorebeat.producer.requests.requeue import comes_back_whole

A_PAGE = 50
FILTERS: dict[str, tuple[RunState, ...]] = {
    "open": (RunState.PLANNING, RunState.RUNNING),
    **{state.value: (state,) for state in FINAL_RUN},
}
"""Filters of the list of runs, by name."""
FAILED = "failed"
BATCHES = (FAILED, *BatchState)
"""Filters of a run's batches, by name: a state, or all that failed."""
_ROW = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")


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
        chosen = {"job": job, "state": state, "idle": idle, "before": before, "filters": FILTERS}

        def look(connection: Connection) -> dict[str, Any]:
            lines = run_pages.runs(
                connection, job=job, states=FILTERS.get(state, ()), before=before, limit=A_PAGE + 1, with_idle=idle
            )
            now = database_clock.now(connection)
            runs = shown(connection, lines[:A_PAGE], now)
            older = runs[-1].line.id if len(lines) > A_PAGE else None
            # the first thing that a person wants to know, on the page that opens first
            asks = job is None and not state and before is None
            seen = mornings.listing(connection) if asks else []
            listed = [one.line for one in seen] if asks else job_lines.listing(connection)
            listed.sort(key=lambda line: line.name)
            of_runs, of_jobs = unserved.of_runs(connection, lines[:A_PAGE]), unserved.of_jobs(connection, listed)
            notes = list(dict.fromkeys(of_runs + of_jobs))  # both may report that there is no control worker
            return {
                "runs": runs,
                "older": older,
                "jobs": listed,
                "mornings": seen,
                "notes": notes,
                "now": now,
                **chosen,
            }

        await self.show("runs.html", look)


class RunPage(Page):
    """`/runs/3`; its batches, failed rows and errors after `after`, `rows_after` and `groups_after`."""

    @authenticated
    async def get(self, run: str) -> None:
        after, rows_after = self.whole_number("after") or 0, self._row("rows_after")
        groups_after, state = self._group("groups_after"), self.get_query_argument("batches", "")
        if state and state not in BATCHES:
            self.bad_parameter("batches", " or ".join(BATCHES))

        def look(connection: Connection) -> dict[str, Any]:
            line = status.get(connection, int(run))
            groups = failure_groups.page(connection, line.id, limit=21, after=groups_after)
            batches = _batches(connection, line.id, state, after)
            failed = run_pages.failed(connection, line.id, limit=11)
            rows = batch_pages.quarantined_rows(connection, line.id, after=rows_after, limit=21)
            # several batches in each bar of the chart, or it would show when one was committed and not how fast
            bars = min(60, max(12, (line.batches - line.batches_open) // 3))
            return {
                "run": shown(connection, [line], database_clock.now(connection))[0],
                "job": _job(connection, line.job),
                "notes": unserved.of_runs(connection, [line]),
                "compared": drift.of_run(connection, line.id) if line.is_final else None,
                "compared_in_words": drift.in_words,
                "points": run_pages.throughput(connection, line.id, bars),
                "states": status.batch_states(connection, line.id),
                "cost": cost_report.of_run(connection, line.id),
                "groups": groups[:20],
                "more_groups": groups[19].place if len(groups) > 20 else None,
                "failed": failed[:10],
                "more_failed": len(failed) > 10,
                "slowest": run_pages.slowest(connection, line.id),
                "batches": batches[:A_PAGE],
                "more_batches": batches[A_PAGE - 1]["number"] if len(batches) > A_PAGE else None,
                "rows": rows[:20],
                "more_rows": f"{rows[19]['number']}-{rows[19]['id']}" if len(rows) > 20 else None,
                "actions": batch_pages.actions(connection, f"run {line.id}"),
                "batch_state": state,
                "after": after,
                "rows_after": rows_after > (0, 0),
                "groups_after": groups_after,
            }

        await self.show("run.html", look, unknown=f"There is no run {int(run)}.")

    def _row(self, name: str) -> tuple[int, int]:
        """A batch's number and a row's id, as `120-9001`; the beginning if the parameter is absent."""
        found = _ROW.fullmatch(self.get_query_argument(name, "") or "0-0")
        if found is None:
            self.bad_parameter(name, "the number of a batch and the id of a row, such as 120-9001")
        return int(found[1]), int(found[2])

    def _group(self, name: str) -> Place | None:
        """Where the previous page ended; None, for the beginning, if the parameter is absent."""
        text = self.get_query_argument(name, "")
        found = Place.of(text) if text else None
        if text and found is None:
            self.bad_parameter(name, "the position of a group of failures, such as 12-r9001")
        return found


def _batches(connection: Connection, run_id: int, state: str, after: int) -> list[dict[str, Any]]:
    """A page of the run's batches by number, and one more: all, those that failed, or those in a state."""
    if state == FAILED:
        return run_pages.failed_by_number(connection, run_id, after=after, limit=A_PAGE + 1)
    states = (BatchState(state),) if state else ()
    return run_pages.batches(connection, run_id, states=states, after=after, limit=A_PAGE + 1)


def _job(connection: Connection, name: str) -> JobRow | None:
    """The job of a run; None if it is no longer in jobs.toml."""
    try:
        return jobs.get(connection, name)
    except UnknownName:
        return None
