"""The command to type after a run that failed or left rows out; its reason names it."""

import shlex
from collections.abc import Callable

from scorebeat.core.errors import shortened
from scorebeat.db.ledger.runs import Run

LONGEST_COMMAND = 300
"""Characters of a command with its values in a reason."""


def of(run: Run) -> str:
    """A requeue; but another run if rows were never planned, which also scores those of dead batches."""
    if run.plan_is_whole:
        return f"`scorebeat requeue {run.id}` puts back what it left out"
    return by_another_run(run)


def by_another_run(run: Run) -> str:
    """For a run that no requeue mends."""
    return f"`{enqueue(run)}` scores its rows by another run"


def enqueue(run: Run) -> str:
    """The command that makes a run over the same rows, with user-supplied values of this one.

    If they are long, it names the run that has them.
    """
    is_anew = run.job.rescore == "every-run" and not run.is_tick  # which may have been requested for this run alone
    words = ["scorebeat", "enqueue", run.job.name, *(["--rescore"] if is_anew else [])]
    values = ["--due-at", run.values.due_at.isoformat()] if run.job.is_by_due_time else []
    if not run.is_tick:
        for name, value in run.job.parameters.items():
            values += ["--parameter", f"{name}={value.text}"]
    command = shlex.join([*words, *values])
    return command if len(command) <= LONGEST_COMMAND else shlex.join([*words, "--values-of", str(run.id)])


def held(run: Run, why: str, left_out: str | None) -> str:
    """The reason of a run that its gate holds."""
    more = f" It left rows out, too: {left_out}" if left_out else ""
    return (
        f"held by the gate of its job, and readers see none of it: {shortened(why)}. `scorebeat release {run.id}` "
        f"shows it, `scorebeat discard {run.id}` drops it.{more}"
    )


def after(run: Run, reason: str, command: Callable[[Run], str] = of) -> str:
    """The reason of a run that fails as a whole, with the command that scores its rows."""
    return f"{shortened(reason).rstrip('.')}. {command(run)}"
