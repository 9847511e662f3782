"""Notices to a job's address: finished, failed, late. Made in the ledger, posted beside it, signed, tried again."""

import asyncio
import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta
from typing import Any

import httpx

from core.events import emit
from db import ended, notices
from db.notices import Notice
from producer.context import Producer

TIMEOUT = timedelta(seconds=5)
"""Of one post, from its first byte to the answer."""
AT_ONCE = 20
"""Notices that one round posts side by side: a receiver that is slow holds up no other."""


def note_ends(p: Producer) -> bool:
    """Count runs that ended, and make the notices of these and of late ones; True when notices are due."""
    with p.engine.begin() as connection:
        ended.note(connection)
        late = ended.note_late(connection)
        due = notices.are_due(connection)
    for run_id in late:
        emit("run.late", run=run_id)
    return due


def notify_once(p: Producer) -> int:
    """Post the notices that are due, all at once; answers how many were delivered.

    No transaction is open meanwhile. One that fails, or whose sender dies, is due again after its pause: a receiver
    may get it twice, under the same id.
    """
    with p.engine.begin() as connection:
        taken = notices.take_due(connection, AT_ONCE)
        bodies = [body(notice, notices.run_status(connection, notice.run_id)) for notice in taken]
    if not taken:
        return 0
    secret = p.settings.notify_secret
    key = secret.get_secret_value().encode() if secret is not None else None
    errors = asyncio.run(_post_all(taken, bodies, key))
    for notice, error in zip(taken, errors, strict=True):
        _settle(p, notice, error)
    return errors.count(None)


def body(notice: Notice, run: dict[str, Any]) -> bytes:
    """The run as `runs --json` gives it, with what happened to it and when."""
    told = {**run, "event": notice.event, "happened_at": notice.happened_at, "notice": notice.id}
    return json.dumps(told, default=_json, ensure_ascii=False).encode()


def signature(key: bytes, content: bytes, at: int) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over the moment, a full stop and the body."""
    digest = hmac.new(key, f"{at}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


async def _post_all(taken: list[Notice], bodies: list[bytes], key: bytes | None) -> list[str | None]:
    async with httpx.AsyncClient(timeout=TIMEOUT.total_seconds(), follow_redirects=False) as client:
        posts = [_post(client, *one, key) for one in zip(taken, bodies, strict=True)]
        return await asyncio.gather(*posts)


async def _post(client: httpx.AsyncClient, notice: Notice, content: bytes, key: bytes | None) -> str | None:
    """None when it was delivered, else why not."""
    if notice.url is None:
        return "the job has no address any more"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "scorebeat",
        "X-Scorebeat-Event": notice.event,
        "X-Scorebeat-Notice": str(notice.id),
    }
    if key is not None:
        headers["X-Scorebeat-Signature"] = signature(key, content, int(time.time()))
    try:
        # the answer's body is never read: its length is the receiver's to choose
        async with (
            asyncio.timeout(TIMEOUT.total_seconds()),
            client.stream("POST", notice.url, content=content, headers=headers) as answer,
        ):
            return None if answer.is_success else f"the receiver answered {answer.status_code}"
    except TimeoutError:
        return f"no answer within {TIMEOUT.total_seconds():g} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _settle(p: Producer, notice: Notice, error: str | None) -> None:
    with p.engine.begin() as connection:
        if error is None:
            notices.delivered(connection, notice)
        else:
            given_up = notices.failed(connection, notice, error)
    if error is None:
        emit(
            "notice.delivered",
            about=notice.event,
            notice=notice.id,
            run=notice.run_id,
            job=notice.job,
            attempt=notice.attempts,
        )
    else:
        emit(
            "notice.failed",
            about=notice.event,
            reason=error,
            given_up=given_up,
            notice=notice.id,
            run=notice.run_id,
            job=notice.job,
            attempt=notice.attempts,
        )


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
