"""The ledger as Flower's handlers reach it: in threads of its own, so that a slow database stops nothing else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, ServiceDown
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import reachable
from scorebeat.db.reports.pages import run_pages
from scorebeat.producer.context import Producer

THREADS = 4

T = TypeVar("T")


class Ledger:
    """Connects at the first request; Flower starts even if the database is away."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(settings, "flower")
        self._threads = ThreadPoolExecutor(THREADS, "ledger")

    async def read(self, look: Callable[[Connection], T]) -> T:
        """What `look` returns in one read-only snapshot. Raises ServiceDown, and what `look` raises on purpose."""

        def work() -> T:
            with run_pages.reading(self._producer.engine) as connection:
                return look(connection)

        return await self._in_thread(work)

    async def act(self, work: Callable[[Producer], T]) -> T:
        """Run an action. Raises ServiceDown, and what `work` raises on purpose."""
        return await self._in_thread(lambda: work(self._producer))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def with_reason() -> T:
            try:
                with reachable(self._producer.url):
                    return work()
            except DBAPIError as error:
                line = str(error.orig).strip().splitlines()[0]
                raise ServiceDown(
                    f"The ledger cannot be used: {line}. Does `scorebeat check` find it in order?"
                ) from None

        return await asyncio.get_running_loop().run_in_executor(self._threads, with_reason)


def is_away(error: ScorebeatError) -> bool:
    """The request is valid and may be repeated; the server behind it does not answer."""
    return isinstance(error, ServiceDown)
