"""Flower's own task pages: which run, job and rows a task is for, and a button to put its batch back."""

import re
from contextlib import suppress
from typing import Any

from flower.views.tasks import TasksDataTable, TaskView
from sqlalchemy import Connection
from tornado.web import authenticated

from scorebeat.broker.guard.flower_events import shown
from scorebeat.core.errors import ScorebeatError
from scorebeat.core.queues import SCORE
from scorebeat.core.states import RunState
from scorebeat.db.reports.pages import batch_pages
from scorebeat.monitor.handlers import Page, Unframed
from scorebeat.monitor.ledger import Ledger
from scorebeat.producer.requests.requeue import comes_back_whole

_ONE_NUMBER = re.compile(r"[\[(](\d{1,18}),?[\])]")
_SHOWN = 20
"""Keys, and rows quarantined, that a task's page lists."""


def batch_of(name: object, args: object) -> int | None:
    """The batch that a Celery task is for, by its name and the text of its arguments; None for other tasks."""
    found = _ONE_NUMBER.fullmatch(args) if name == SCORE and isinstance(args, str) else None
    return int(found[1]) if found else None


class TaskPage(Unframed, TaskView):  # type: ignore[misc]  # Flower publishes no types
    """Flower's page of a task, with our button if the task is a failed batch."""


class DescribedTasks(Unframed, TasksDataTable):  # type: ignore[misc]  # Flower publishes no types
    """The rows of Flower's task list. Their arguments are described in words while the ledger is available.

    Each value is a text, a number or None: Flower's script escapes texts only.
    """

    def initialize(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._page: dict[str, Any] = {}

    @authenticated
    async def get(self) -> None:
        super().get()
        tasks = [{field: shown(value) for field, value in task.items()} for task in self._page.get("data", [])]
        ids = {batch for task in tasks if (batch := batch_of(task.get("name"), task.get("args"))) is not None}
        labels: dict[int, str] = {}
        if ids:
            with suppress(ScorebeatError):  # Flower's list works without our labels
                labels = await self._ledger.read(lambda connection: batch_pages.labels(connection, sorted(ids)))
        for task in tasks:
            batch = batch_of(task.get("name"), task.get("args"))
            if batch in labels:
                task["args"] = labels[batch]
        super().write(self._page | {"data": tasks} if self._page else self._page)

    def write(self, chunk: Any) -> None:
        """Flower writes its response, or an error's text. The response is kept until its tasks are described."""
        if isinstance(chunk, dict):
            self._page = chunk
        else:
            super().write(chunk)


class BatchPart(Page):
    """`/runs/batch/17`: the part that a task's page includes."""

    @authenticated
    async def get(self, batch: str) -> None:
        def look(connection: Connection) -> dict[str, Any]:
            found = batch_pages.batch(connection, int(batch))
            run_id, batch_id = found["run_id"], found["id"]
            quarantined = batch_pages.quarantined_rows(connection, run_id, batch_id=batch_id, limit=_SHOWN + 1)
            state = RunState(found["run_state"])
            in_part = state is not RunState.CANCELLED and not comes_back_whole(state, found["on_failure"])
            return {"batch": found, "quarantined": quarantined, "most": _SHOWN, "in_part": in_part}

        await self.show("batch.html", look, unknown=f"There is no batch {int(batch)}; it may have been pruned.")
