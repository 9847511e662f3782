"""Posting over HTTP, many at once: bounded in time whatever receiver, proxy or name server do, and never raising."""

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
"""What is stopped has so long to close its connection."""


@dataclass(frozen=True)
class Post:
    url: str
    content: bytes
    headers: dict[str, str]


def post_all(posts: Sequence[Post], within: timedelta) -> list[str | None]:
    """Post them side by side; for each None when it was delivered, else why not. Lasts `within` and a second at most.

    One that is stopped may have reached its receiver nevertheless.
    """
    if not posts:
        return []
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(len(posts)))  # a name server that is slow holds up no other post
    try:
        return loop.run_until_complete(_post_all(posts, within))
    except Exception as error:  # noqa: BLE001 -- whatever keeps a post from being made is an attempt that failed
        return [reason(error)] * len(posts)
    finally:
        # not `asyncio.run`, which waits for the threads in which names are looked up, as long as a server likes
        loop.close()


async def _post_all(posts: Sequence[Post], within: timedelta) -> list[str | None]:
    context = httpx.create_ssl_context()
    tasks = [asyncio.create_task(_post(post, context)) for post in posts]
    _, late = await asyncio.wait(tasks, timeout=within.total_seconds())
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=UNWINDING.total_seconds())
    return [_outcome(task, within) for task in tasks]


async def _post(post: Post, context: ssl.SSLContext) -> str | None:
    """The answer's body is never read: its length is the receiver's to choose."""
    async with (
        httpx.AsyncClient(verify=context, timeout=None) as client,  # noqa: S113 -- bounded as a whole by the caller
        client.stream("POST", post.url, content=post.content, headers=post.headers) as answer,
    ):
        return None if answer.is_success else f"the receiver answered {answer.status_code}"


def _outcome(task: asyncio.Task[str | None], within: timedelta) -> str | None:
    if not task.done() or task.cancelled():
        return f"no answer within {within.total_seconds():g} s"
    error = task.exception()
    return reason(error) if error is not None else task.result()


def reason(error: BaseException) -> str:
    """The error's name and words on one line, of a group its first, without passwords."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return redact(f"{type(error).__name__}: {one_line(error)}")
