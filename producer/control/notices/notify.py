"""Notices to a job's address: a run finished, failed, is late or will be, drifted or is held.

They are stored in the ledger, signed, posted and retried.
"""

import hashlib
import hmac
import json
import logging
import time
from datetime import datetime, timedelta
from typing import Any

from scorebeat.core.events import emit
from scorebeat.db.closing import late_expected, overdue, run_totals
from scorebeat.db.records import notices
from scorebeat.db.records.notices import Notice
from scorebeat.db.reports import drift, status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.schema.monitoring_tables import LATE_EXPECTED
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.control.notices.webhooks import Post, post_all, reason
from scorebeat.producer.keep_going import log_failure

TIMEOUT = timedelta(seconds=5)
"""Of one post, from the look-up of the receiver's name to its response. Far shorter than the claim of a notice."""
AT_ONCE = 20
"""Notices that one round posts in parallel: a slow receiver delays no other."""


def note_ends(p: Producer) -> bool:
    """Count runs that ended, and store the notices of ended and late runs; True if notices are due."""
    with p.engine.begin() as connection:
        noted = run_totals.note(connection)
        late = run_totals.note_late(connection)
        due = notices.are_due(connection)
        waiting = [status.get(connection, run_id) for run_id in late]
        whys = [unserved.why_open(connection, line) for line in waiting]
    for line, why in zip(waiting, whys, strict=True):
        emit("run.late", run=line.id, job=line.job, reason=why)
    for job, runs in noted.without_notice.items():
        emit("notices.left_out", logging.WARNING, job=job, runs=runs, older_than=run_totals.NOTICED_WITHIN)
    return due


def notify_once(p: Producer) -> int:
    """Post the notices that are due, in parallel; returns how many were delivered.

    No transaction is open meanwhile. A notice that fails, or whose sender dies, has used an attempt, and is due again
    after a pause until it is given up. A receiver may get it twice, with the same id.
    """
    with p.engine.begin() as connection:
        lost = notices.give_up_lost(connection)
        taken = notices.take_due(connection, AT_ONCE)
    for notice in lost:
        _emit_failed(notice, notices.LOST, given_up=True)
    posts: dict[int, Post] = {}
    errors: dict[int, str | None] = {}  # None for a notice that was delivered
    for notice in taken:
        if notice.url is None:
            errors[notice.id] = "the job has no address any more"
            continue
        try:
            posts[notice.id] = _request(p, notice, notice.url)
        except Exception as error:  # noqa: BLE001 -- a notice that cannot be built must not stop the others
            errors[notice.id] = reason(error)
    errors |= dict(zip(posts, post_all(list(posts.values()), TIMEOUT), strict=True))
    for notice in taken:
        with log_failure("notice", notice.id):
            _settle(p, notice, errors[notice.id])
    return list(errors.values()).count(None)


def _request(p: Producer, notice: Notice, url: str) -> Post:
    with p.engine.connect() as connection:
        line = status.get(connection, notice.run_id)
        run = notices.run_status(connection, notice.run_id) | {"reason": line.reason}
        notes = unserved.of_runs(connection, [line])
        if notice.event == "late":
            why = overdue.why(connection, line.job, notice.happened_at)
            notes = [why, *notes] if why is not None else notes
        if notice.event == "drift":
            found = drift.of_run(connection, notice.run_id).drifted
            notes = [f"{one.side} {one.name}: {', '.join(one.reasons)}" for one in found]
        run |= forecasts.forecast_fields(forecasts.of_runs(connection, [line])[line.id])
        if notice.event == LATE_EXPECTED:
            expected = late_expected.recorded(connection, line.id)
            if expected is not None:
                end, needed = (
                    datetime.fromisoformat(expected[name]).isoformat(" ", "minutes")
                    for name in ("expected_end", "needed_at")
                )
                will_be_late = f"it is expected to end at {end}, and results are needed by {needed}"
                notes = [will_be_late, expected["reason"], *notes]
        content = body(notice, run | {"notes": notes})
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "scorebeat",
        "X-Scorebeat-Event": notice.event,
        "X-Scorebeat-Notice": str(notice.id),
    }
    secret = p.settings.notify_secret
    if secret is not None:
        key = secret.get_secret_value().encode()
        headers["X-Scorebeat-Signature"] = signature(key, content, int(time.time()))
    return Post(url, content, headers)


def body(notice: Notice, run: dict[str, Any]) -> bytes:
    """The run as in `runs --json`, with `notes` of what it waits for or what drifted, what happened and when, and a
    `text`."""
    about = {"event": notice.event, "happened_at": notice.happened_at, "notice": notice.id}
    fields = {**run, **about, "text": in_words(notice, run)}
    return json.dumps(fields, default=_json, ensure_ascii=False).encode()


def in_words(notice: Notice, run: dict[str, Any]) -> str:
    """A line that Slack and Mattermost show."""
    run_is = f"job {run['job']}, run {run['id']}, {run['state']}"
    rows = f"{run['rows_scored']:,} rows scored" + f", {run['rows_failed']:,} quarantined" * bool(run["rows_failed"])
    reason = f": {run['reason']}" if run["reason"] else ""
    if notice.event == "late":
        at = notice.happened_at.isoformat(" ", "minutes")
        late = f"job {run['job']} is late: results were needed by {at}; run {run['id']}, {run['state']}{reason}, {rows}"
        return "; ".join([late, *(note for note in run["notes"] if note not in reason)])
    if notice.event == "drift":
        return f"drift: {run_is}: {'; '.join(run['notes'])}. `scorebeat drift {run['job']} --run {run['id']}` compares"
    if notice.event == LATE_EXPECTED:
        will = f"job {run['job']} will be late: run {run['id']}, {run['state']}{reason}, {rows}"
        return "; ".join([will, *(note for note in run["notes"] if note not in reason)])
    return f"{run_is}{reason}" if notice.event in ("failed", "held") else f"{run_is}: {rows}{reason}"


def signature(key: bytes, content: bytes, at: int) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over the timestamp, a full stop and the body."""
    digest = hmac.new(key, f"{at}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


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
        _emit_failed(notice, error, given_up=given_up)


def _emit_failed(notice: Notice, error: str, *, given_up: bool) -> None:
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
