"""The pages of the Runs tab: all runs, and one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from tornado.web import authenticated

from core.errors import UnknownName
from core.states import BatchState, RunState
from db import batch_pages, jobs, pages, status
from db.jobs import JobRow
from db.pages import Pace
from db.status import RunLine
from monitor.handlers import Page

A_PAGE = 50
FILTERS: dict[str, tuple[RunState, ...]] = {
    "open": (RunState.PLANNING, RunState.RUNNING),
    **{state.value: (state,) for state in (RunState.SUCCEEDED, RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED)},
}
"""What may be chosen by name beside all."""


@dataclass(frozen=True)
class Shown:
    """A run as a page shows it."""

    line: RunLine
    pace: Pace
    now: datetime

    @property
    def left(self) -> int:
        return max(0, self.line.rows_planned - self.line.rows_scored - self.line.rows_failed)

    @property
    def lateness(self) -> str | None:
        """`late` when the deadline passed before the end, `will be late` at the present speed; None in time."""
        deadline = self.line.deadline_at
        if deadline is None:
            return None
        if (self.line.finished_at or self.now) > deadline:
            return "late"
        if self.pace.left is not None and self.now + self.pace.left > deadline:
            return "will be late"
        return None

    @property
    def has_failed_work(self) -> bool:
        """There is something that a requeue may put back."""
        ended_badly = self.line.state in (RunState.FAILED, RunState.PARTIAL)  # batches may have been stopped
        wanting = self.line.batches_dead or self.line.rows_failed or ended_badly
        return bool(wanting) and self.line.state is not RunState.CANCELLED


def shown(connection: Connection, line: RunLine, now: datetime) -> Shown:
    return Shown(line, Pace(0.0, None) if line.is_final else pages.pace(connection, line), now)


class RunsPage(Page):
    """`/runs`, with `job`, `state`, `idle` and, for older ones, `before`."""

    @authenticated
    async def get(self) -> None:
        job, state = self.get_query_argument("job", "") or None, self.get_query_argument("state", "")
        if state and state not in FILTERS:
            self.bad_parameter("state", " or ".join(FILTERS))
        before, idle = self.whole_number("before"), bool(self.get_query_argument("idle", ""))
        chosen = {"job": job, "state": state, "idle": idle, "before": before, "filters": FILTERS}

        def look(connection: Connection) -> dict[str, Any]:
            lines = pages.runs(
                connection, job=job, states=FILTERS.get(state, ()), before=before, limit=A_PAGE + 1, with_idle=idle
            )
            now = jobs.now(connection)
            runs = [shown(connection, line, now) for line in lines[:A_PAGE]]
            older = runs[-1].line.id if len(lines) > A_PAGE else None
            return {"runs": runs, "older": older, "jobs": jobs.listing(connection), **chosen}

        await self.show("runs.html", look)


class RunPage(Page):
    """`/runs/3`; its batches from the number `after` on, its failed rows from the id `rows_after` on."""

    @authenticated
    async def get(self, run: str) -> None:
        after, rows_after = self.whole_number("after") or 0, self._place("rows_after")
        groups_after, state = self.whole_number("groups_after") or 0, self.get_query_argument("batches", "")
        if state and state not in list(BatchState):
            self.bad_parameter("batches", " or ".join(BatchState))
        states = (BatchState(state),) if state else ()

        def look(connection: Connection) -> dict[str, Any]:
            line = status.get(connection, int(run))
            groups = pages.failure_groups(connection, line.id, limit=21, offset=groups_after)
            batches = pages.batches(connection, line.id, states=states, after=after, limit=A_PAGE + 1)
            rows = batch_pages.rows_put_aside(connection, line.id, after=rows_after, limit=21)
            return {
                "run": shown(connection, line, jobs.now(connection)),
                "job": _job(connection, line.job),
                "points": pages.throughput(connection, line.id, _points(line)),
                "states": status.batch_states(connection, line.id),
                "groups": groups[:20],
                "more_groups": groups_after + 20 if len(groups) > 20 else None,
                "failed": pages.failed(connection, line.id),
                "slowest": pages.slowest(connection, line.id),
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

        await self.show("run.html", look)

    def _place(self, name: str) -> tuple[int, int]:
        """A batch's number and a row's id, as `120-9001`; the beginning when it is not given."""
        given = self.get_query_argument(name, "") or "0-0"
        number, dash, row = given.partition("-")
        if not dash or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (number, row[-9:])):
            self.bad_parameter(name, "the number of a batch and the id of a row, such as 120-9001")
        return int(number), int(row)


def _points(line: RunLine) -> int:
    """Bars of the chart: several batches in each, or a bar would tell when one was committed and not how fast."""
    return min(60, max(12, (line.batches - line.batches_open) // 3))


def _job(connection: Connection, name: str) -> JobRow | None:
    """The job of a run; None when it is in jobs.toml no more."""
    try:
        return jobs.get(connection, name)
    except UnknownName:
        return None
