"""Messages about work that waits: for a worker that serves its queue, one that can load its model, or a person."""

from collections.abc import Iterable

from sqlalchemy import Connection

from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.db.processes import unloadable, workers
from scorebeat.db.reports.pages.job_lines import JobLine
from scorebeat.db.reports.status import RunLine


def of_queues(connection: Connection, queues: set[str]) -> list[str]:
    """Messages if no worker plans runs, or scores batches of these queues."""
    served = workers.served(connection)
    missing = no_control(served)
    return ([missing] if missing else []) + [no_worker(queue) for queue in sorted(queues - served)]


def of_runs(connection: Connection, lines: Iterable[RunLine]) -> list[str]:
    """Messages about these runs; empty if all of them are over."""
    open_lines = [line for line in lines if not line.is_final]
    queues = {line.queue for line in open_lines}
    models = {f"{line.model}/{line.model_version}" for line in open_lines}
    known = unloadable.known(connection) if models else []
    cannot_load = [str(failure) for failure in known if failure.model in models]
    return (of_queues(connection, queues) if queues else []) + cannot_load


def why_open(connection: Connection, line: RunLine) -> str:
    """What an open run waits for, as far as it is known."""
    return "; ".join(filter(None, [line.reason, *of_runs(connection, [line])])) or f"it is {line.state}"


def of_jobs(connection: Connection, lines: Iterable[JobLine]) -> list[str]:
    """Messages if a job will be due and no worker would begin its run, and of runs that wait for a person.

    Not about its queue: workers may be started only when there is work.
    """
    listed = list(lines)
    missing = no_control(workers.served(connection)) if any(line.next_due_at for line in listed) else None
    return [note for note in (missing, *(line.held_note for line in listed)) if note is not None]


def no_control(served: set[str]) -> str | None:
    """The message if no worker serves the control or the plan queue; None if both are served."""
    missing = sorted({CONTROL_QUEUE, PLAN_QUEUE} - served)
    if not missing:
        return None
    what = "runs are neither planned nor settled" if len(missing) > 1 else f"nobody serves the queue {missing[0]!r}"
    return f"no control worker, so {what}: start `scorebeat up` or `scorebeat worker --control`"


def no_worker(queue: str) -> str:
    """The message if no worker listens on the queue."""
    device = "cuda:0" if "gpu" in queue else "cpu"
    return f"no worker listens on queue {queue!r}: start `scorebeat worker --device {device} --queue {queue}`"
