"""Beat's schedule, read from the ledger: one entry for each job, and the control tick."""

import logging
import time
from datetime import UTC, datetime
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import BaseSchedule, schedstate, schedule
from sqlalchemy.exc import DBAPIError

from scorebeat.broker.app import CONTROL_EVERY
from scorebeat.broker.send import waiting
from scorebeat.core.data_folder import joined
from scorebeat.core.errors import ScorebeatError, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.jobs_file import read_files
from scorebeat.core.jobs.schedule import Schedule
from scorebeat.core.queues import CONTROL, CONTROL_QUEUE, TICK
from scorebeat.core.settings import load_settings
from scorebeat.db.ledger import jobs
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply_files

REFRESH_SECONDS = 5.0
"""Seconds until beat sees a job that was applied."""
ENOUGH_TICKS = 5
"""Waiting messages of the control queue; more control ticks behind them would add nothing."""


class JobSchedule(BaseSchedule):  # type: ignore[misc]  # Celery publishes no types
    """A job's schedule in Celery's terms."""

    def __init__(self, text: str, timezone: str, **options: Any) -> None:
        super().__init__(**options)
        self.text, self.timezone = text, timezone
        self.due = Schedule.parse(text, timezone)

    def is_due(self, last_run_at: datetime) -> schedstate:
        now = datetime.now(UTC)
        # a little late rather than early, so that the due time has also passed on the database's clock
        next_in = (self.due.next_due(now) - now).total_seconds() + 0.005
        return schedstate(is_due=self.due.latest_due(now) > last_run_at, next=next_in)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobSchedule) and (other.text, other.timezone) == (self.text, self.timezone)

    def __hash__(self) -> int:
        return hash((self.text, self.timezone))

    def __reduce__(self) -> tuple[Any, ...]:
        return JobSchedule, (self.text, self.timezone)


class LedgerScheduler(Scheduler):  # type: ignore[misc]  # Celery publishes no types
    """Only sends messages. The ledger decides whether a job is due, and makes sure that it runs once.

    An entry begins at the last due time that the ledger has handled, so a tick that was missed while beat was down is
    sent at beat's start. Without a database the last known schedule goes on.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._producer = Producer(joined(load_settings()), "beat")
        self._producer.app.conf.task_send_sent_event = False
        self._entries: dict[str, ScheduleEntry] = {}
        self._read_at = float("-inf")
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        path = self._producer.settings.jobs
        if path.exists():
            try:
                apply_files(self._producer, read_files(path), "beat")
            except (ScorebeatError, DBAPIError) as error:  # a file that cannot be used changes nothing
                emit("jobs.not_applied", level=logging.ERROR, file=str(path), reason=str(error))
        # without `expires`: a control worker whose clock is ahead of beat's would drop every tick as expired
        self._entries["control"] = self.Entry(
            name="control",
            task=CONTROL,
            schedule=schedule(CONTROL_EVERY),
            options={"queue": CONTROL_QUEUE},
            app=self.app,
        )
        self._refresh()

    @property
    def schedule(self) -> dict[str, ScheduleEntry]:
        if time.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._refresh()
        return self._entries

    def apply_async(self, entry: ScheduleEntry, *args: Any, advance: bool = True, **options: Any) -> Any:
        """Control ticks send no events: one a second would push everything else out of Flower. Nor do they pile up."""
        if entry.task != CONTROL:
            return super().apply_async(entry, *args, advance=advance, **options)
        due = self.reserve(entry) if advance else entry
        if waiting(self._producer.app, CONTROL_QUEUE) >= ENOUGH_TICKS:
            return None
        return self._producer.app.send_task(CONTROL, **due.options)

    def close(self) -> None:
        super().close()
        self._producer.close()

    def _refresh(self) -> None:
        self._read_at = time.monotonic()
        try:
            with self._producer.engine.connect() as connection:
                rows = [row for row in jobs.listing(connection) if row.job.schedule is not None]
        except DBAPIError as error:
            emit("beat.database_away", reason=one_line(error.orig))
            return
        entries = {"control": self._entries["control"]}
        for row in rows:
            name = f"job {row.job.name}"
            due = JobSchedule(str(row.job.schedule), row.job.timezone, app=self.app)
            before = self._entries.get(name)
            last = row.last_due_at
            if before is not None and before.schedule == due:
                last = max(last, before.last_run_at)
            entries[name] = self.Entry(
                name=name,
                task=TICK,
                args=[row.job.name],
                schedule=due,
                last_run_at=last,
                options={"queue": CONTROL_QUEUE, "expires": 3600},
                app=self.app,
            )
        self._entries = entries
