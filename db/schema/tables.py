"""The tables of the ledger. CHECK constraints refuse rows in impossible states."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Date,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from scorebeat.core.states import BatchState, RunState
from scorebeat.db.schema import functions, monitoring_tables, usage_tables
from scorebeat.db.schema.metadata import metadata, timestamp

__all__ = ["functions", "metadata", "monitoring_tables", "usage_tables"]


def _one_of(column: str, states: type[RunState] | type[BatchState]) -> str:
    return f"{column} IN ({', '.join(repr(s.value) for s in states)})"


jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", JSONB, nullable=False, comment="the checked block of jobs.toml"),
    timestamp("applied_at", now=True, null=False),
    timestamp("removed_at"),  # the job left jobs.toml; its runs and predictions stay
    timestamp("last_due_at", null=False, now=True),  # the newest tick that was handled
    timestamp("paused_at"),
    Column("paused_by", Text),
    Column("paused_reason", Text),
    Column("owner", Text, comment="the jobs file that it comes from; NULL: not known yet"),
    CheckConstraint("(paused_at IS NULL) = (paused_by IS NULL)", name="paused"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("format", Text, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 over all files of the artifact"),
    Column("signature", JSONB, nullable=False, comment="inputs and outputs with their types"),
    timestamp("added_at", now=True, null=False),
    Column("added_by", Text, nullable=False),
    timestamp("published_at"),
    timestamp("retired_at"),  # published earlier, replaced since
    timestamp("dropped_at"),  # its predictions are gone; its number is never used again
    Column("engine", Text, nullable=False, server_default="native", comment="what computes its predictions"),
    Column("engine_choice", JSONB, nullable=False, server_default="{}", comment="how it was chosen, with rows/s"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("retired_at IS NULL OR published_at IS NOT NULL", name="retired"),
    CheckConstraint("dropped_at IS NULL OR published_at IS NULL OR retired_at IS NOT NULL", name="dropped"),
)
Index(
    "model_versions_one_published",
    model_versions.c.name,
    unique=True,
    postgresql_where=text("published_at IS NOT NULL AND retired_at IS NULL"),
)

prediction_sets = Table(
    "prediction_sets",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("table_name", Text, nullable=False, unique=True),
    timestamp("created_at", now=True, null=False),
    timestamp("complete_at"),  # a run over it succeeded: a generation may be shown from then on
    timestamp("dropped_at"),  # an old generation; its table is gone
    Column("visible_below", BigInteger, comment="readers see batches below this id; NULL: all"),
    Column("history_table", Text, comment="table of replaced predictions; NULL: none"),
    Column("changed_at", Text, comment="column of the query whose values its table stores; NULL: none"),
    Column("unbuilt_key", ARRAY(Text), comment="columns of its primary key, while that is not built; NULL: it is"),
    ForeignKeyConstraint(
        ["model", "model_version"], ["scorebeat.model_versions.name", "scorebeat.model_versions.version"]
    ),
    UniqueConstraint("job", "model", "model_version", "generation"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("prediction_set_id", BigInteger, ForeignKey("scorebeat.prediction_sets.id")),  # NULL: it failed before
    Column("state", Text, nullable=False, server_default=RunState.PLANNING),
    Column("spec", JSONB, nullable=False, comment="the job's settings when the run began"),
    Column("row_limit", BigInteger, comment="enqueue --limit"),
    Column("row_filter", Text, comment="enqueue --where"),
    Column("row_keys", JSONB, comment="enqueue --keys: a list of keys, each a list of texts"),
    Column("run_key", Text, unique=True, comment="an outer scheduler's name for this run"),
    timestamp("created_at", now=True, null=False),
    Column("created_by", Text, nullable=False),
    timestamp("due_at"),  # its due time; NULL: by hand, for none
    timestamp("deadline_at"),
    Column("plan_attempt", Integer, nullable=False, server_default="0"),
    timestamp("plan_expires_at"),  # the planning lease
    Column("planned_by", Text),
    Column("set_was_empty", Boolean, comment="nothing was scored or quarantined when it was planned"),
    timestamp("planned_at"),
    Column("tries", Integer, nullable=False, server_default="1", comment="retry-run: times it was begun"),
    timestamp("finished_at"),
    Column("reason", Text, comment="why it failed, or was closed or cancelled"),
    Column("rank", SmallInteger, nullable=False, server_default="0", comment="0 scheduled, 1 by hand, 2 candidate"),
    timestamp("noted_at"),  # its end was counted in run_sums
    Column(
        "plan_is_whole",
        Boolean,
        nullable=False,
        server_default="false",
        comment="its planner came to the end of the rows",
    ),
    timestamp("retry_at"),  # it failed before it began; another run is opened for its due time then
    Column("snapshot_rows", BigInteger, comment="rows of scorebeat_work.run_ID when it was made; NULL: it has none"),
    timestamp("followed_at"),  # predictions without a source row were looked for after it
    Column("rows_removed", BigInteger, comment="predictions without a source row that were deleted after it"),
    Column("key_error", Text, comment="why the primary key of its predictions could not be built the last time"),
    timestamp("key_retry_at"),  # then it is tried again
    Column("watermark_of", Text, comment="a digest of what a later plan must have in common to use the watermark"),
    Column(
        "watermark",
        Numeric,
        comment="below it all rows that the plan saw are scored: microseconds since 1970, or a number",
    ),
    Column("compared_from", Numeric, comment="the watermark that the plan began at; NULL: it compared every key"),
    timestamp("swept_at"),  # when a plan last compared every key
    Column("cursor_highest", Numeric, comment="the largest number that the plan saw in its cursor"),
    Column(
        "rows_missed",
        BigInteger,
        comment="pending rows that the watermark would have left out; NULL: nobody looked",
    ),
    CheckConstraint(_one_of("state", RunState), name="state"),
    CheckConstraint("(state = 'planning') = (plan_expires_at IS NOT NULL)", name="lease"),
    CheckConstraint("(state IN ('planning', 'running')) = (finished_at IS NULL)", name="finished"),
    CheckConstraint("state NOT IN ('failed', 'held') OR reason IS NOT NULL", name="reason"),
    CheckConstraint("noted_at IS NULL OR finished_at IS NOT NULL", name="noted"),
)
Index(
    "runs_one_open",
    runs.c.job,
    runs.c.model,
    runs.c.model_version,
    unique=True,
    postgresql_where=text("state IN ('planning', 'running')"),
)
Index("runs_job_id", runs.c.job, runs.c.id)
Index("runs_set_finished", runs.c.prediction_set_id, runs.c.finished_at)
Index("runs_held", runs.c.job, runs.c.id, postgresql_where=text("state = 'held'"))
Index("runs_failed_due", runs.c.job, runs.c.due_at, postgresql_where=text("state = 'failed'"))
Index("runs_filled", runs.c.job, postgresql_where=text("due_at IS NOT NULL AND created_by <> 'beat'"))
Index(
    "runs_to_note",
    runs.c.id,
    postgresql_where=text("finished_at IS NOT NULL AND noted_at IS NULL"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), nullable=False),
    Column("number", Integer, nullable=False, comment="1, 2, ... within the run"),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=BatchState.PENDING),
    Column("rows_planned", Integer, nullable=False),
    Column("rows_scored", Integer, nullable=False, server_default="0"),
    Column("rows_failed", Integer, nullable=False, server_default="0"),
    Column("first_key", JSONB, nullable=False, comment="a list of texts, one a key column"),
    Column("last_key", JSONB, nullable=False),
    Column("keys", JSONB, comment="sparse batch: the keys themselves, each a list of texts"),
    Column("attempt", Integer, nullable=False, server_default="0", comment="only grows: the fence"),
    Column("attempts_left", Integer, nullable=False, comment="the budget; may be given back"),
    Column("care", SmallInteger, nullable=False, server_default="0", comment="0 whole, 1 chunks, 2 row by row"),
    Column("probe_key", JSONB, comment="the row that is being scored alone"),
    timestamp("next_attempt_at"),
    timestamp("sent_at"),  # when its message was sent; NULL: none is out
    Column("claimed_by", Text, comment="worker that has, or last had, the batch"),
    timestamp("claimed_at"),
    timestamp("claim_expires_at"),
    timestamp("finished_at"),
    Column("error", Text, comment="of the last failed attempt"),
    Column("fetch_seconds", Float),
    Column("predict_seconds", Float),
    Column("commit_seconds", Float),
    Column("rank", SmallInteger, nullable=False, server_default="0", comment="its run's: lower ones are sent first"),
    Column("device", Text, comment="of the worker that has, or last had, the batch"),
    Column("claimed_pid", Integer, comment="process of that worker that has, or last had, the batch"),
    Column(
        "probe_expiries", SmallInteger, nullable=False, server_default="0", comment="claims that expired with the probe"
    ),
    timestamp("pending_at", now=True, null=False),  # when it was planned, or put back by a requeue
    Column("probe_attempt", Integer, comment="the attempt that scored `probe_key` last"),
    Column("first_row", BigInteger, comment="row number in the snapshot of the run; NULL: it has no snapshot"),
    Column("last_row", BigInteger),
    Column("probe_row", JSONB, comment="what the row of `probe_key` was read with"),
    Column("device_seconds", Float, comment="of attempts that committed it: from the claim to the commit"),
    Column("cpu_seconds", Float, comment="of attempts that committed it: CPU time of their process, all its threads"),
    CheckConstraint(_one_of("state", BatchState), name="state"),
    CheckConstraint("(state = 'claimed') = (claim_expires_at IS NOT NULL)", name="claimed"),
    CheckConstraint("(state IN ('pending', 'claimed')) = (finished_at IS NULL)", name="finished"),
    CheckConstraint("sent_at IS NULL OR state = 'pending'", name="sent"),
    CheckConstraint("state <> 'dead' OR error IS NOT NULL", name="dead"),
    CheckConstraint("attempts_left >= 0 AND attempt >= 0", name="attempts"),
    CheckConstraint("care BETWEEN 0 AND 2 AND (probe_key IS NULL OR care = 2)", name="care"),
    CheckConstraint("rows_planned >= 0 AND rows_scored >= 0 AND rows_failed >= 0", name="rows"),
    UniqueConstraint("run_id", "number"),
)
# these indexes are small: finished batches leave them
Index("batches_pending", batches.c.queue, batches.c.rank, batches.c.id, postgresql_where=text("state = 'pending'"))
Index("batches_open", batches.c.run_id, postgresql_where=text("state IN ('pending', 'claimed')"))
Index("batches_expiry", batches.c.claim_expires_at, postgresql_where=text("state = 'claimed'"))

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("prediction_set_id", BigInteger, ForeignKey("scorebeat.prediction_sets.id"), nullable=False),
    Column("batch_id", BigInteger, ForeignKey("scorebeat.batches.id"), nullable=False),
    Column("key", JSONB, nullable=False, comment="a list of texts, one a key column"),
    Column("error_type", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("traceback", Text),
    timestamp("quarantined_at", now=True, null=False),
    Column("changed_at", Numeric, comment="the row's value of the job's changed_at column; NULL: none, or not known"),
    # by a digest: a btree takes no key of over 2,704 bytes, and such keys are quarantined for that
    Index("quarantine_one_a_row", "prediction_set_id", text("md5(key::text)"), unique=True),
    Index("quarantine_of_batch", "batch_id"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("queues", JSONB, nullable=False),
    Column("device", Text),
    Column("processes", Integer),
    timestamp("started_at", now=True, null=False),
    timestamp("seen_at", now=True, null=False),
    Column("fills_without_key", Boolean, comment="its program knows generations without a key; NULL: it is older"),
)

device_limits = Table(
    "device_limits",
    metadata,
    Column("model", Text, primary_key=True),
    Column("model_version", Integer, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("micro_batch_rows", Integer, nullable=False),
    timestamp("learned_at", now=True, null=False),
    CheckConstraint("micro_batch_rows > 0", name="rows"),
)

installation = Table(
    "installation",
    metadata,
    Column("is_only", Boolean, primary_key=True, server_default="true"),
    Column("broker_prefix", Text, nullable=False, comment="what the keys of its programs on the broker begin with"),
    CheckConstraint("is_only", name="one"),
)
"""One row, made with the table by a migration."""

actions = Table(
    "actions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    timestamp("at", now=True, null=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="what it was done to: job iris, run 17"),
    Column("details", JSONB, nullable=False, server_default="{}"),
    Index("actions_on", "subject", "id"),
)

reference_profiles = Table(
    "reference_profiles",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), comment="NULL: of all jobs, from training data"),
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), comment="the run that it is the profile of"),
    Column("source", Text, nullable=False, comment="where it comes from, for a person"),
    Column("profile", LargeBinary, nullable=False),
    timestamp("made_at", now=True, null=False),
    Column("made_by", Text, nullable=False),
    ForeignKeyConstraint(
        ["model", "model_version"], ["scorebeat.model_versions.name", "scorebeat.model_versions.version"]
    ),
    Index("reference_profiles_one", "model", "model_version", text("coalesce(job, '')"), unique=True),
)

run_profiles = Table(
    "run_profiles",
    metadata,
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), primary_key=True, autoincrement=False),
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), nullable=False),
    Column("profile", LargeBinary, nullable=False, comment="sketches of a sample of its inputs and outputs"),
    Column("rows", BigInteger, nullable=False, comment="rows of the sample"),
    Column("reference_id", BigInteger, ForeignKey("scorebeat.reference_profiles.id")),
    Column("findings", JSONB, comment="the comparison with the reference; NULL: there was none"),
    Column("why_not", Text, comment="why there was no comparison"),
    timestamp("compared_at"),
    Column(
        "waits",
        Boolean,
        nullable=False,
        server_default="false",
        comment="it has too few rows: the next run of the job and version is compared together with it",
    ),
    Column("failure", Text, comment="why the profile, or its comparison, failed; NULL: neither did"),
    Index("run_profiles_compared", "job", "run_id", postgresql_where=text("findings IS NOT NULL")),
)

batch_profiles = Table(
    "batch_profiles",
    metadata,
    # no foreign key: its lock on the run would let a commit wait for whoever closes the run
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", BigInteger, nullable=False),
    Column("profile", LargeBinary, nullable=False, comment="until it is merged into the run's"),
    Index("batch_profiles_of_run", "run_id"),
)


canaries = Table(
    "canaries",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), nullable=False),
    Column("queue", Text, nullable=False),
    timestamp("sent_at", now=True, null=False),
    timestamp("expires_at", null=False),  # it is a failure if it has not ended by then
    Column("worker", Text, comment="the worker that took it"),
    timestamp("finished_at"),
    timestamp("reported_at"),
    Column("model", Text, comment="the version that was looked at, such as iris/3"),
    Column("rows", BigInteger, comment="rows that were scored"),
    Column("compared", BigInteger, comment="rows whose stored prediction was compared"),
    Column("differing", BigInteger, comment="rows with another stored prediction"),
    Column("failure", Text, comment="what is wrong; NULL after a good one"),
    Index("canaries_of_job", "job", "id"),
    Index("canaries_unreported", "id", postgresql_where=text("reported_at IS NULL")),
)


quality = Table(
    "quality",
    metadata,
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("week", Date, primary_key=True, comment="its Monday"),
    Column("rows", BigInteger, nullable=False, comment="predictions whose truth became known in the week"),
    Column("null_labels", BigInteger, nullable=False, comment="rows of the truth without a label, not among rows"),
    Column("scored_after", BigInteger, nullable=False, comment="rows that were scored after the truth was known"),
    Column("predictions", BigInteger, nullable=False, comment="predictions that were made in the week"),
    Column("with_truth", BigInteger, nullable=False, comment="of these, how many have a truth by now"),
    Column("metrics", JSONB, nullable=False),
    timestamp("computed_at", now=True, null=False),
)

truth_readings = Table(
    "truth_readings",
    metadata,
    Column("job", Text, ForeignKey("scorebeat.jobs.name"), primary_key=True),
    timestamp("begun_at", null=False),
    timestamp("finished_at"),
    timestamp("next_at", null=False),  # when it is read again
    Column("failure", Text, comment="why the last reading failed; NULL: it did not"),
)
"""The newest reading of each job's truth."""


def _store_as_is(_target: object, connection: Connection, **_: Any) -> None:
    """Sketches hardly shrink, and compressing them would take a part of each commit."""
    connection.exec_driver_sql("ALTER TABLE scorebeat.batch_profiles ALTER profile SET STORAGE EXTERNAL")


event.listen(batch_profiles, "after_create", _store_as_is)
