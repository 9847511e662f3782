"""The page of one job, `/runs/job/NAME`."""

from typing import Any

from sqlalchemy import Connection
from tornado.web import authenticated

from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.monitor.handlers import Page
from scorebeat.monitor.job_report import job_report

EVERY = 30_000
"""Milliseconds after which an open page of a job loads itself again: most of it changes with a run, not within one."""
SIDES = ("input", "output")


class JobPage(Page):
    """With `run`, `side` and `measure`, which choose the distribution that it draws."""

    @authenticated
    async def get(self, name: str) -> None:
        run, side, measure = (
            self.whole_number("run"),
            self.get_query_argument("side", ""),
            # Flower's own `get_argument` would escape quotes and `<`; a name may begin with a space
            self.get_query_argument("measure", "", strip=False),
        )
        if run is not None and side not in SIDES:
            self.bad_parameter("side", " or ".join(SIDES))
        chosen = (run, side, measure) if run is not None else None
        if "\0" in name:
            self.bad_parameter("job", "a name without NUL")

        def look(connection: Connection) -> dict[str, Any]:
            found = job_report(connection, name, chosen)
            open_run = found.morning.line.open_run if found.morning is not None else None
            line = status.get(connection, open_run) if open_run is not None else None
            return {
                "report": found,
                "open_run": line,
                "forecast": forecasts.of_runs(connection, [line])[line.id] if line is not None else None,
                "chosen": chosen,
                "is_live": True,
                "every": EVERY,
            }

        await self.show("job.html", look, unknown=f"There is no job {name}.")
