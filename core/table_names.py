"""Names of the schemas and tables that Scorebeat makes in the user's database."""

from hashlib import sha256

from scorebeat.core.identifiers import LONGEST_IDENTIFIER

SCHEMA = "scorebeat"
PREDICTIONS = "predictions"
"""Schema of the prediction tables and of the published views."""
WORK = "scorebeat_work"
"""Schema of the runs' snapshots."""

CHANGED_AT = "scorebeat_changed_at"
"""Column of a prediction table: the value of the job's `changed_at` column that the prediction was computed from."""

RESERVED_COLUMNS = frozenset({"batch_id", "scored_at", CHANGED_AT})
"""Columns of every prediction table beside key and outputs."""


def prediction_table(job: str, model: str, version: int, generation: int | None = None) -> str:
    """Table of a prediction set: `<job>__<model>_v<version>`, and `_g<generation>` for an every-run job.

    At most 63 bytes: a longer name loses the end of job and model to a hash of all four. `job` and
    `model` are checked names (core.jobs). Two different sets never get one name: a job's name has no
    double underscore, and the numbers come last.
    """
    tail = f"_v{version}" if generation is None else f"_v{version}_g{generation}"
    name = f"{job}__{model}{tail}"
    if len(name) <= LONGEST_IDENTIFIER:
        return name
    digest = sha256(name.encode()).hexdigest()[:12]
    head = f"{job}__{model}"[: LONGEST_IDENTIFIER - len(tail) - len(digest) - 1]
    return f"{head}_{digest}{tail}"


def history_table(table_name: str) -> str:
    """Table beside a prediction table, with the predictions that were replaced: `<table>__history`."""
    tail = "__history"
    if len(table_name) + len(tail) <= LONGEST_IDENTIFIER:
        return table_name + tail
    digest = sha256(table_name.encode()).hexdigest()[:12]
    return f"{table_name[: LONGEST_IDENTIFIER - len(tail) - len(digest) - 1]}_{digest}{tail}"


def snapshot_table(run_id: int, attempt: int | None = None) -> str:
    """The snapshot of a run; with `attempt` the table that this attempt at the plan makes, of which no other knows."""
    return f"{WORK}.run_{run_id:d}" if attempt is None else f"{WORK}.run_{run_id:d}_{attempt:d}"
