"""Actions on runs and jobs from the pages, such as requeue. Each is recorded with the person and the time."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tornado.web import HTTPError, authenticated

from scorebeat.core.errors import ScorebeatError, UnknownName
from scorebeat.core.text.directions import visible
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.failures.failure_groups import GROUP
from scorebeat.monitor.formatting import plural
from scorebeat.monitor.handlers import LedgerHandler
from scorebeat.monitor.ledger import is_away
from scorebeat.producer.context import Producer
from scorebeat.producer.requests import release as decisions
from scorebeat.producer.requests import requeue as by_hand
from scorebeat.producer.requests.enqueue import Request, enqueue

_BATCH = re.compile("[0-9]{1,18}")
_GROUP = re.compile(GROUP)
DECISIONS = {
    "release": (decisions.release, "released: readers see it"),
    "discard": (decisions.discard, "discarded: readers keep what they see"),
}
"""What a person may decide on a held run, and what it is then."""
_FIELDS = frozenset({"batch", "group", "_xsrf"})


class Action(LedgerHandler):
    """A request that changes something; its response is JSON with one sentence, `message`."""

    def prepare(self) -> None:
        if self.request.method == "POST" and self.current_user and self.refusal is not None:
            raise HTTPError(403, self.refusal)

    def write_error(self, status_code: int, **details: Any) -> None:
        """The message of Flower's error pages, as JSON. Flower itself asks people to log in."""
        if status_code == HTTPStatus.UNAUTHORIZED:
            super().write_error(status_code, **details)
            return
        error = details["exc_info"][1]
        reason = error.get_message() if isinstance(error, HTTPError) else None
        self.finish({"message": reason or f"{HTTPStatus(status_code).phrase}; nothing is known to have been changed."})

    async def do(self, work: Callable[[Producer], str]) -> None:
        try:
            message = await self.ledger.act(work)
        except ScorebeatError as error:
            self.set_status(503 if is_away(error) else 404 if isinstance(error, UnknownName) else 409)
            message = str(error)
        self.write({"message": visible(message)})


class RunAction(Action):
    """`POST /runs/3/requeue` (fields `batch`, `group`), `cancel`, `release` and `discard` (field `reason`)."""

    @authenticated
    async def post(self, run: str, what: str) -> None:
        run_id, by = int(run), self.actor
        if what == "cancel":

            def cancel(producer: Producer) -> str:
                moved = by_hand.cancel(producer, run_id, by)
                return (
                    f"Run {run_id} is cancelled." if moved else f"Run {run_id} was over already; nothing was changed."
                )

            await self.do(cancel)
            return
        if what in DECISIONS:
            decide, done = DECISIONS[what]
            why = self.get_body_argument("reason", "")

            def decision(producer: Producer) -> str:
                decide(producer, run_id, by, why)
                return f"Run {run_id} is {done}."

            await self.do(decision)
            return
        # an unknown field would be ignored, and more would be put back than the caller selected
        if set(self.request.arguments) - _FIELDS or (self.request.body and not self.request.body_arguments):
            raise HTTPError(400, "expected no fields but batch and group, as a form sends them; load the page anew")
        batch = self._field("batch", _BATCH, "the id of a batch")
        group = self._field("group", _GROUP, "a group's id")

        def requeue(producer: Producer) -> str:
            put_back = by_hand.requeue(producer, run_id, by, batch_id=int(batch) if batch else None, group=group)
            if not put_back:
                return (
                    f"Nothing of that is left to put back in run {run_id}: it never failed, or was put back before. "
                    "Nothing was changed."
                )
            return f"{plural(put_back, 'batch', 'batches')} of run {run_id} put back."

        await self.do(requeue)

    def _field(self, name: str, pattern: re.Pattern[str], expected: str) -> str | None:
        value: str | None = self.get_argument(name, None)
        if value is not None and not pattern.fullmatch(value):
            raise HTTPError(400, f"{name}: expected {expected}")
        return value


class JobAction(Action):
    """`POST /runs/job/iris/run`, `pause` (field `reason`), `resume`."""

    @authenticated
    async def post(self, job: str, what: str) -> None:
        if "\0" in job:
            raise HTTPError(404, f"no job is named {job!r}: a name holds no NUL")
        by, reason = self.actor, self.get_body_argument("reason", "") or "by hand"

        def run(producer: Producer) -> str:
            return f"Run {enqueue(producer, Request(job, by)).run_id} of job {job} is enqueued."

        def pause(producer: Producer) -> str:
            with producer.engine.begin() as connection:
                moved = jobs.pause(connection, job, by, reason)
            return f"Job {job} is paused." if moved else f"Job {job} was paused before; nothing was changed."

        def resume(producer: Producer) -> str:
            with producer.engine.begin() as connection:
                moved = jobs.resume(connection, job, by)
            return f"Job {job} is resumed." if moved else f"Job {job} was not paused; nothing was changed."

        await self.do({"run": run, "pause": pause, "resume": resume}[what])
