"""Rows of the ledger as a test wants them, straight into the tables, and a job to go with them."""

from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger.batches import BatchId

MODEL = "flowers"


class Settled(TypedDict, total=False):
    """The options that a test may set of its job."""

    name: str
    query: str
    key: str | tuple[str, ...]
    model: str
    queue: str
    batch_rows: int
    batch_bytes: int
    rescore: str
    on_failure: str
    keep: int
    allow_full_scans: bool
    snapshot: bool


def a_job(**options: Unpack[Settled]) -> Job:
    """A job over `items`, in batches of 10."""
    usual = {"name": "flowers_job", "query": "SELECT id, a, b FROM items", "key": "id", "model": MODEL}
    return Job.model_validate({**usual, "batch_rows": 10, **options})


def add_run(connection: Connection, state: str = "running", job: str = "flowers_job") -> int:
    """A run whose plan is whole, unless it is planning, straight into the tables."""
    values = {"job": job, "spec": a_job(name=job).model_dump_json(), "state": state}
    for statement in (_JOB, _VERSION, _SET):
        connection.execute(text(statement), values)
    connection.exec_driver_sql(f'CREATE TABLE IF NOT EXISTS predictions."{job}__t" ()')
    return int(connection.execute(text(_RUN), values).scalar_one())


def add_batch(connection: Connection, run_id: int, state: str = "pending", **columns: Any) -> BatchId:
    """A batch in this state, straight into the tables."""
    usual: dict[str, Any] = {"number": 1, "queue": "cpu", "rows_planned": 10, "attempts_left": 5}
    usual |= {"first_key": '["1"]', "last_key": '["10"]'}
    in_state: dict[str, dict[str, Any]] = {
        "pending": {},
        "claimed": {"claim_expires_at": "infinity", "claimed_by": "w1", "claimed_pid": 41, "attempt": 1},
        "committed": {"finished_at": "now"},
        "dead": {"finished_at": "now", "error": "Broken: oh", "attempts_left": 0},
        "cancelled": {"finished_at": "now"},
    }
    values = {"run_id": run_id, "state": state, **usual, **in_state[state], **columns}
    names = ", ".join(values)
    marks = ", ".join(f"CAST(:{name} AS jsonb)" if name in _JSON else f":{name}" for name in values)
    made = connection.execute(text(f"INSERT INTO scorebeat.batches ({names}) VALUES ({marks}) RETURNING id"), values)
    return int(made.scalar_one())


_JSON = ("first_key", "last_key", "keys")
_JOB = "INSERT INTO scorebeat.jobs (name, spec) VALUES (:job, CAST(:spec AS jsonb)) ON CONFLICT DO NOTHING"
_VERSION = (
    "INSERT INTO scorebeat.model_versions (name, version, format, digest, signature, added_by, published_at)"
    " VALUES ('flowers', 1, 'skops', 'd', '{}', 'test', now()) ON CONFLICT DO NOTHING"
)
_SET = (
    "INSERT INTO scorebeat.prediction_sets (job, model, model_version, table_name, complete_at)"
    " VALUES (:job, 'flowers', 1, CAST(:job AS text) || '__t', now()) ON CONFLICT DO NOTHING"
)
_RUN = (
    "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by,"
    " plan_expires_at, finished_at, reason, plan_is_whole, plan_attempt)"
    " SELECT :job, 'flowers', 1, s.id, CAST(:state AS text), CAST(:spec AS jsonb), 'test',"
    " CASE WHEN :state = 'planning' THEN now() + interval '1 hour' END,"
    " CASE WHEN :state NOT IN ('planning', 'running') THEN now() END,"
    " CASE WHEN :state IN ('failed', 'held') THEN 'because' END, :state <> 'planning',"
    " CASE WHEN :state = 'planning' THEN 0 ELSE 1 END"
    " FROM scorebeat.prediction_sets s WHERE s.job = :job RETURNING id"
)
