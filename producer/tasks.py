"""Celery tasks of the control and plan queues. They are thin: each calls one function."""

from functools import cache

from celery import shared_task

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import UnknownName, one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.queues import CONTROL, FOLLOW, KEYS, NOTIFY, PLAN, QUALITY, TICK
from scorebeat.core.settings import load_settings
from scorebeat.producer.context import Producer
from scorebeat.producer.control import control_round, plan
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.ticks import tick
from scorebeat.producer.control.upkeep import follow_deletes, quality, settle

A_DAY = 24 * 3600


@cache
def _producer(name: str) -> Producer:
    """One for each process, made by its first task, after the fork."""
    return Producer(joined(load_settings()), name)


@shared_task(name=TICK)
def tick_job(job: str) -> int | None:
    """Answer a tick of the job, which may have been removed since the message was sent."""
    try:
        return tick.tick(_producer(worker_name()), job)
    except UnknownName as error:
        emit("tick.unknown", job=job, reason=one_line(error))
        return None


@shared_task(name=CONTROL, send_events=False)
def keep_moving() -> None:
    """One round of rescue, settle and dispatch."""
    control_round.run_once(_producer(worker_name()))


# planning a huge query may take long; its lease bounds it, not the clock
@shared_task(name=PLAN, time_limit=A_DAY, soft_time_limit=A_DAY - 60)
def plan_run(run_id: int) -> int | None:
    """Plan the run."""
    return plan.plan(_producer(worker_name()), run_id)


@shared_task(name=FOLLOW, time_limit=A_DAY, soft_time_limit=A_DAY - 60)
def follow() -> None:
    """Delete predictions whose rows are gone, after each run that ended; it reads whole queries."""
    follow_deletes.run_once(_producer(worker_name()))


@shared_task(name=KEYS, time_limit=A_DAY, soft_time_limit=A_DAY - 60)
def build_keys() -> None:
    """Build the primary keys of generations whose rows are all scored; a large table takes minutes."""
    settle.build_keys(_producer(worker_name()))


@shared_task(name=QUALITY, time_limit=A_DAY, soft_time_limit=A_DAY - 60)
def measure_quality() -> None:
    """Compare stored predictions with what really happened; it reads whole tables."""
    quality.run_once(_producer(worker_name()))


@shared_task(name=NOTIFY)
def deliver_notices() -> None:
    """Post the due notices; a slow receiver may hold this process for some seconds."""
    notify.notify_once(_producer(worker_name()))
