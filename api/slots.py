"""Slots for online predictions: few threads of their own, and a time limit for each caller."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future as Task
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from typing import TypeVar

from fastapi import HTTPException

from scorebeat.api.errors import RETRY_AFTER
from scorebeat.core.events import emit
from scorebeat.core.settings import PREFIX

SLOTS = 8
"""Predictions at once. Models use the processor, and often several of its cores: more would only share it."""
STUCK_AFTER = 300
"""Seconds. More than a batch's model may take, and more than a model takes to load: after that it hardly returns."""

T = TypeVar("T")


@dataclass
class Slots:
    """Used from one event loop. A thread that hangs keeps its slot, and only the end of the process frees it."""

    seconds: float
    """How long a caller waits at most, for a slot and for the predictions together."""
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SLOTS))
    _since: dict[Thread, float] = field(default_factory=dict)

    async def run(self, what: str, work: Callable[[], T]) -> T:
        """The result of `work`, from a thread. Raises what `work` raises, or HTTPException 503 if it is late."""
        deadline = asyncio.get_running_loop().time() + self.seconds
        if self._all_taken_for(self.seconds):  # waiting is of no use
            raise self._late(what, f"has no slot: all {SLOTS} predictions hang for longer than {self.seconds:g} s")
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise self._late(what, f"found none of {SLOTS} slots free within {self.seconds:g} s") from None

        done = self._start(work)
        try:
            async with asyncio.timeout_at(deadline):
                return await done
        except TimeoutError:
            if not done.cancelled():  # the model's own
                raise
            raise self._late(what, f"did not answer within {self.seconds:g} s, the time for loading included") from None

    def all_stuck(self) -> bool:
        """All slots have been taken for so long that only a restart may help."""
        return self._all_taken_for(STUCK_AFTER)

    def _all_taken_for(self, seconds: float) -> bool:
        return len(self._since) >= SLOTS and monotonic() - max(self._since.values()) > seconds

    def _start(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        task: Task[T] = Task()
        loop = asyncio.get_running_loop()
        # daemon: the process can end while a thread hangs
        thread = Thread(target=_run, args=(task, work), name="prediction", daemon=True)

        def free() -> None:
            del self._since[thread]
            self._free.release()

        def ended(_task: "Task[T]") -> None:
            with suppress(RuntimeError):  # the server has ended already
                loop.call_soon_threadsafe(free)

        self._since[thread] = monotonic()
        task.add_done_callback(ended)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            free()
            raise
        return asyncio.wrap_future(task)

    def _late(self, what: str, happened: str) -> HTTPException:
        emit("api.prediction_late", logging.WARNING, model=what, reason=happened)
        advice = f"Nothing was stored. Try again in a few seconds, with fewer rows; {PREFIX}ROW_TIME_LIMIT is the limit"
        return HTTPException(503, f"the prediction by {what} {happened}. {advice}", RETRY_AFTER)


def _run(task: "Task[T]", work: Callable[[], T]) -> None:
    task.set_running_or_notify_cancel()  # from here on it cannot be cancelled: a late result is dropped
    try:
        task.set_result(work())
    except BaseException as error:  # noqa: BLE001 -- raised to the waiting caller
        task.set_exception(error)
