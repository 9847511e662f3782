"""Pruning: deleting from the ledger what nobody needs any more, a limited piece at a time. Runs themselves stay."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import AttemptEnd
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import usage

PIECE = 5_000
"""Rows that one transaction deletes at most."""


@dataclass(frozen=True)
class Kind:
    """One kind of rows that can be deleted: which rows are older than the time `:cutoff`, and how they are deleted."""

    name: str
    which: str
    """A SELECT of ids."""
    deletion: str
    """A statement over `gone (id)` that returns how many rows it deleted."""


def _delete(table: str) -> str:
    return f"d AS (DELETE FROM scorebeat.{table} t USING gone WHERE t.id = gone.id RETURNING 1) SELECT count(*) FROM d"


# a run that may be requeued keeps all its batches, so that it never looks complete without them; the highest id stays,
# because a job that is shown whole or not at all counts from there; batches of predictions that readers do not see yet,
# such as those of a cancelled run, stay too, because the next run that is shown finds the predictions by them
_BATCHES = (
    "SELECT b.id, r.noted_at FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id"
    " WHERE r.finished_at < :cutoff"
    " AND r.state IN ('succeeded', 'cancelled') AND b.id < (SELECT max(id) FROM scorebeat.batches)"
    " AND NOT EXISTS (SELECT 1 FROM scorebeat.quarantine z WHERE z.batch_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM scorebeat.prediction_sets s WHERE s.id = r.prediction_set_id"
    " AND s.dropped_at IS NULL AND b.id >= s.visible_below)"
)
_COUNTS = ("batches", "batches_dead", "rows_planned", "rows_scored", "rows_failed", "attempts")
_DELETE_BATCHES = (
    "d AS (DELETE FROM scorebeat.batches t USING gone WHERE t.id = gone.id RETURNING t.run_id, t.state,"
    " t.rows_planned, t.rows_scored, t.rows_failed, t.attempt, t.device, t.device_seconds, t.cpu_seconds,"
    " gone.noted_at),"
    # those of a run whose end was noted are in its sums
    f" used AS ({usage.adding(AttemptEnd.COMMITTED, usage.of_batches('FROM d WHERE noted_at IS NULL'))}),"
    f" sums AS (INSERT INTO scorebeat.pruned_batches AS p (run_id, {', '.join(_COUNTS)}) SELECT run_id, count(*),"
    " count(*) FILTER (WHERE state = 'dead'), sum(rows_planned), sum(rows_scored), sum(rows_failed), sum(attempt)"
    " FROM d GROUP BY run_id ON CONFLICT (run_id) DO UPDATE SET pruned_at = now(),"
    f" {', '.join(f'{name} = p.{name} + EXCLUDED.{name}' for name in _COUNTS)}) SELECT count(*) FROM d"
)
_STRIP = (
    "d AS (UPDATE scorebeat.quarantine t SET traceback = NULL FROM gone WHERE t.id = gone.id RETURNING 1)"
    " SELECT count(*) FROM d"
)
KINDS = (
    Kind("batches", f"{_BATCHES} FOR UPDATE OF r SKIP LOCKED", _DELETE_BATCHES),
    Kind(
        "tracebacks",
        "SELECT id FROM scorebeat.quarantine WHERE traceback IS NOT NULL AND quarantined_at < :cutoff",
        _STRIP,
    ),
    Kind(
        "quarantined rows of dropped generations",
        "SELECT z.id FROM scorebeat.quarantine z JOIN scorebeat.prediction_sets s ON s.id = z.prediction_set_id"
        " WHERE s.dropped_at IS NOT NULL AND z.quarantined_at < :cutoff",
        _delete("quarantine"),
    ),
    Kind(
        "notices",
        "SELECT n.id FROM scorebeat.notices n JOIN scorebeat.runs r ON r.id = n.run_id"
        " WHERE r.finished_at < :cutoff AND coalesce(n.delivered_at, n.given_up_at) < :cutoff",
        _delete("notices"),
    ),
    Kind(
        "skipped ticks",
        "SELECT id FROM scorebeat.actions WHERE action = 'tick.skipped' AND at < :cutoff",
        _delete("actions"),
    ),
    Kind(
        "profiles of runs",
        "SELECT p.run_id AS id FROM scorebeat.run_profiles p JOIN scorebeat.runs r ON r.id = p.run_id"
        " WHERE r.finished_at < :cutoff AND NOT p.waits",
        "d AS (DELETE FROM scorebeat.run_profiles t USING gone WHERE t.run_id = gone.id RETURNING 1)"
        " SELECT count(*) FROM d",
    ),
    Kind("canaries", "SELECT id FROM scorebeat.canaries WHERE reported_at < :cutoff", _delete("canaries")),
    Kind(
        "models that workers could not load",
        "SELECT id FROM scorebeat.actions WHERE action IN ('model.cannot_load', 'model.can_load') AND at < :cutoff",
        _delete("actions"),
    ),
)
"""In the order of deletion. The next prune deletes rows that one of these frees, so that a dry run counts right."""


def count(connection: Connection, kind: Kind, cutoff: datetime) -> int:
    """How many rows would be deleted. Locks nothing."""
    which = kind.which.removesuffix(" FOR UPDATE OF r SKIP LOCKED")
    return int(connection.execute(text(f"SELECT count(*) FROM ({which}) AS gone"), {"cutoff": cutoff}).scalar_one())


def delete_piece(connection: Connection, kind: Kind, cutoff: datetime) -> int:
    """Delete a piece of them. Returns how many, 0 if none is left."""
    limited = kind.which.replace(" FOR UPDATE", f" LIMIT {PIECE} FOR UPDATE")
    limited = limited if "LIMIT" in limited else f"{limited} LIMIT {PIECE}"
    statement = f"WITH gone AS MATERIALIZED ({limited}), {kind.deletion}"
    return int(connection.execute(text(statement), {"cutoff": cutoff}).scalar_one())


def old_generations(connection: Connection, cutoff: datetime) -> list[PredictionSet]:
    """Generations that were made before the cutoff and that nobody needs.

    The version that a job follows keeps its newest `keep`, and any other version its newest complete one, for a
    rollback; the highest generation also stays, because the next number counts from it.
    """
    rows = connection.execute(
        text(
            "SELECT s.id, s.job, s.model, s.model_version, s.generation, s.table_name, s.complete_at, s.history_table"
            " FROM"
            " (SELECT *, row_number() OVER (PARTITION BY job, model, model_version"
            " ORDER BY complete_at IS NULL, generation DESC) AS rank,"
            " max(generation) OVER (PARTITION BY job, model, model_version) AS highest"
            " FROM scorebeat.prediction_sets WHERE dropped_at IS NULL) s JOIN scorebeat.jobs j ON j.name = s.job"
            " LEFT JOIN scorebeat.model_versions v ON v.name = s.model AND v.version = s.model_version"
            " WHERE s.created_at < :cutoff AND s.generation < s.highest AND s.rank > CASE WHEN j.removed_at IS NULL"
            " AND (j.spec ->> 'model' = s.model || '/' || s.model_version OR (j.spec ->> 'model' = s.model"
            " AND v.published_at IS NOT NULL AND v.retired_at IS NULL)) THEN (j.spec ->> 'keep')::int ELSE 1 END"
            " AND NOT EXISTS (SELECT 1 FROM scorebeat.runs r WHERE r.prediction_set_id = s.id"
            " AND r.state IN ('planning', 'running')) ORDER BY s.id"
        ),
        {"cutoff": cutoff},
    )
    return [PredictionSet(**row._mapping) for row in rows]


def is_free(connection: Connection, generation: PredictionSet, cutoff: datetime) -> bool:
    """Whether nobody needs the old generation, now and until the transaction ends.

    Also False if its job or a run over it is being changed now: it may be needed next.
    """
    # a new run of the job waits for the first lock, a requeue for the second
    job = text("SELECT 1 FROM scorebeat.jobs WHERE name = :job FOR SHARE SKIP LOCKED")
    if connection.execute(job, {"job": generation.job}).one_or_none() is None:
        return False
    runs = "SELECT id FROM scorebeat.runs WHERE prediction_set_id = :id"
    locked = connection.execute(text(f"{runs} FOR UPDATE SKIP LOCKED"), {"id": generation.id}).all()
    if len(locked) < len(connection.execute(text(runs), {"id": generation.id}).all()):
        return False
    return generation.id in {old.id for old in old_generations(connection, cutoff)}


def is_at_rest(connection: Connection, job: Job) -> bool:
    """Whether the job is still as in `job` and has no open run; none is opened until the transaction ends.

    Also False if somebody is changing the job now.
    """
    wanted = text("SELECT spec FROM scorebeat.jobs WHERE name = :job AND removed_at IS NULL FOR SHARE SKIP LOCKED")
    spec = connection.execute(wanted, {"job": job.name}).scalar_one_or_none()
    return spec is not None and Job.model_validate(spec) == job and not has_open_run(connection, job.name)


def has_open_run(connection: Connection, job: str) -> bool:
    query = text("SELECT EXISTS (SELECT 1 FROM scorebeat.runs WHERE job = :job AND state IN ('planning', 'running'))")
    return bool(connection.execute(query, {"job": job}).scalar_one())


def sets_of(connection: Connection, job: str) -> list[PredictionSet]:
    """The prediction sets of the job that were not dropped."""
    rows = connection.execute(
        text(
            "SELECT id, job, model, model_version, generation, table_name, complete_at, history_table"
            " FROM scorebeat.prediction_sets"
            " WHERE job = :job AND dropped_at IS NULL ORDER BY id"
        ),
        {"job": job},
    )
    return [PredictionSet(**row._mapping) for row in rows]
