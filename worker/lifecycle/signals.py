"""What a worker does at Celery's signals; its parent and each of its processes import this module."""

import logging
import re
import sys
from typing import Any

from billiard import current_process
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import one_line
from scorebeat.core.events import configure_logging, emit
from scorebeat.core.process import descriptors
from scorebeat.core.process.identity import become, worker_name
from scorebeat.core.queues import CONTROL, CONTROL_QUEUE, PLAN_QUEUE, SCORE
from scorebeat.core.settings import load_settings
from scorebeat.db.ledger import batches
from scorebeat.worker.lifecycle import deadlines, results, standstill
from scorebeat.worker.lifecycle.connection import ledger
from scorebeat.worker.lifecycle.devices import device, memory_limit
from scorebeat.worker.lifecycle.devices.pin import bind_processes, is_bound, pin_to_core, shares_cores
from scorebeat.worker.lifecycle.request import lost_process

WATCHDOGS_EXIT = "1"
"""The exit code of faulthandler; also that of a program that calls exit(1)."""


def _set_up_logging(**_: Any) -> None:
    configure_logging(load_settings().log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_worth_reading)
    # spawned processes inherit it; they would log their start in a format of their own
    logging.getLogger("multiprocessing").setLevel(logging.WARNING)


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """The control tick runs each second; only its problems are worth a line."""
    return record.levelno > logging.INFO or CONTROL not in record.getMessage()


def begin_worker(sender: str, options: dict[str, Any], **_: Any) -> None:
    """In the parent, before it starts its processes."""
    become(sender)
    deadlines.share()
    memory_limit.begin()
    queues = options.get("queues") or []
    names = queues.split(",") if isinstance(queues, str) else queues
    scores = not names or bool(set(names) - {CONTROL_QUEUE, PLAN_QUEUE})
    # planning, control and processes that feed a GPU use any free core
    if scores and not device.current().is_gpu and not shares_cores():
        bind_processes()
    if scores and (lacking := memory_limit.too_little(options.get("concurrency") or 1)):
        emit("worker.little_memory", worker=worker_name(), reason=lacking)


def _begin_process(**_: Any) -> None:
    results.keep_small()
    here = device.current()
    if here.is_gpu:
        emit("process.placed", worker=worker_name(), device=here.name, model=here.model, visible=here.visible)
    elif is_bound():
        emit("process.pinned", worker=worker_name(), core=pin_to_core(current_process().index))


def _free_claim(sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
    """In the parent: the process of a batch died, so free its claim at once."""
    if sender.name != SCORE or not isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        return
    try:
        with ledger() as connection:
            pid = lost_process()
            cause = cause_of_death(exception, pid)
            state = batches.fail_lost(connection, args[0], worker_name(), pid, cause)
        emit("process.died", batch=args[0], worker=worker_name(), state=state, reason=cause)
    except DBAPIError as error:
        emit("failure.not_recorded", batch=args[0], reason=one_line(error.orig))


def cause_of_death(exception: BaseException, pid: int | None) -> str:
    """What happened to the process, as far as its parent knows."""
    cause = f"{type(exception).__name__}: {exception}"
    if killed := standstill.reason(pid):
        return f"{cause} It was killed because {killed}."
    if "SIGKILL" in cause and (met := memory_limit.reason()):
        return f"{cause} It was killed because {met}."
    shared = deadlines.shared()
    limit = shared.of(pid) if shared is not None and pid is not None else None
    code = re.search(r"\bexitcode (\d+)", cause)
    if code is None:
        return cause
    if limit is not None and limit.stacks and code[1] == WATCHDOGS_EXIT:
        sys.stderr.write(limit.stacks)
        return f"{cause} The model took longer than its time limit of {limit.seconds:g} s."
    if limit is not None and limit.stacks and code[1] == str(descriptors.EXIT):
        return f"{cause} {limit.stacks}"
    return f"{cause} The model, or a library that it uses, ended its process with exit code {code[1]}."


signals.setup_logging.connect(_set_up_logging)
signals.celeryd_init.connect(begin_worker)
signals.worker_process_init.connect(_begin_process)
signals.task_failure.connect(_free_claim)
