"""Who this process works as: the name that claims and plans carry."""

import os

_VARIABLE = "_SCOREBEAT_WORKER"
"""Set by a worker's parent, inherited by its children, forked or spawned."""


def become(hostname: str) -> str:
    """Name this worker and its children: Celery's node name and the parent's process id.

    The id distinguishes two workers that have the same node name.
    """
    name = f"{hostname}/{os.getpid()}"
    os.environ[_VARIABLE] = name
    return name


def worker_name() -> str:
    """The worker that this process belongs to."""
    return os.environ.get(_VARIABLE, f"process/{os.getpid()}")
