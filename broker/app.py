"""The Celery application's settings; every option has its reason beside it."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from scorebeat.core.broker_url import for_celery
from scorebeat.core.queues import CONTROL_QUEUE, DEFAULT_QUEUE, PLAN_QUEUE, ROUTES
from scorebeat.core.settings import Settings

if TYPE_CHECKING:
    from kombu.entity import Queue

    from scorebeat.broker.installation_app import InstallationApp

CONTROL_EVERY = timedelta(seconds=1)


def queue(name: str) -> "Queue":
    """The queue of that name; the broker makes it when it is first used."""
    from kombu.entity import Exchange, Queue  # noqa: PLC0415 -- most commands send nothing

    return Queue(name, Exchange(name), routing_key=name)


def make_app(settings: Settings, read_prefix: Callable[[], str]) -> "InstallationApp":
    """A Celery application for these settings. Raises SettingsError without a broker URL.

    `read_prefix` is called when the broker is first used, unless a setting has the prefix of its keys.
    """
    from scorebeat.broker.installation_app import InstallationApp  # noqa: PLC0415 -- most commands send nothing

    url, tls = for_celery(settings.broker(), settings.broker_files())
    app = InstallationApp("scorebeat", broker=url, set_as_current=False)
    app.conf.update(
        # messages
        broker_use_ssl=tls,
        task_serializer="json",
        accept_content=["json"],  # a message can never carry code
        task_ignore_result=True,  # PostgreSQL holds the results
        result_backend=None,
        worker_send_task_events=True,  # Flower
        task_send_sent_event=True,
        # delivery
        task_acks_late=True,  # the broker keeps the message until we committed
        task_reject_on_worker_lost=False,  # True redelivers a poison row without end
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # one that refuses to write, its disk full, ends no worker
        broker_transport_options={
            # above the hard time limit: a redelivery in parallel is harmless, but a waste
            "visibility_timeout": settings.time_limit * 3,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # workers
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a batch waits in the broker, not behind a busy process
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a commit does not need the broker
        task_soft_time_limit=settings.soft_time_limit,
        task_time_limit=settings.time_limit,
        worker_soft_shutdown_timeout=60,
        worker_proc_alive_timeout=120,  # importing a numeric library can take long on a cold disk
        worker_hijack_root_logger=False,  # core.events configures logging
        worker_enable_remote_control=True,  # Flower
        # queues
        task_default_queue=DEFAULT_QUEUE,
        task_queues=[queue(DEFAULT_QUEUE), queue(CONTROL_QUEUE), queue(PLAN_QUEUE)],
        # queue names are the user's own, so a worker may name any; one that nobody serves is shown by
        # `check` and `runs`
        task_create_missing_queues=True,
        task_routes={task: {"queue": name} for task, name in ROUTES.items()},
        beat_max_loop_interval=5,
    )
    app.take_prefix(settings.broker_prefix, read_prefix)
    return app
