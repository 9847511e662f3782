"""HTTP posts in parallel. They are bounded in time, whatever a receiver, proxy or name server does, and never raise."""

import asyncio
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import httpx

from scorebeat.core.errors import one_line
from scorebeat.core.urls import redact

UNWINDING = timedelta(seconds=1)
"""How long a cancelled post has to close its connection."""


@dataclass(frozen=True)
class Post:
    url: str
    content: bytes
    headers: dict[str, str]


def post_all(posts: Sequence[Post], within: timedelta) -> list[str | None]:
    """Post in parallel; for each post None if it was delivered, else why not. Takes `within` and a second at most.

    A cancelled post may have reached its receiver nevertheless.
    """
    if not posts:
        return []
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(len(posts)))  # a slow name server delays no other post
    try:
        return loop.run_until_complete(_post_all(posts, within))
    except Exception as error:  # noqa: BLE001 -- any error is a failed attempt
        return [reason(error)] * len(posts)
    finally:
        # not `asyncio.run`: it waits for the threads that look up names, without a limit
        loop.close()


async def _post_all(posts: Sequence[Post], within: timedelta) -> list[str | None]:
    context = httpx.create_ssl_context()
    tasks = [asyncio.create_task(_post(post, context)) for post in posts]
    _, late = await asyncio.wait(tasks, timeout=within.total_seconds())
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=UNWINDING.total_seconds())
    outcomes: list[str | None] = []
    for task in tasks:
        if not task.done() or task.cancelled():
            outcomes.append(f"no answer within {within.total_seconds():g} s")
        else:
            error = task.exception()
            outcomes.append(reason(error) if error is not None else task.result())
    return outcomes


async def _post(post: Post, context: ssl.SSLContext) -> str | None:
    """Post once. The response's body is never read: the receiver could make it endless."""
    async with (
        httpx.AsyncClient(verify=context, timeout=None) as client,  # noqa: S113 -- bounded as a whole by the caller
        client.stream("POST", post.url, content=post.content, headers=post.headers) as response,
    ):
        return None if response.is_success else f"the receiver answered {response.status_code}"


def reason(error: BaseException) -> str:
    """The error's name and message on one line, without passwords; for a group, those of its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return redact(f"{type(error).__name__}: {one_line(error)}")
