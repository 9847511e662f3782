"""Runs keep a profile of their inputs and outputs, which is compared with a reference; a gate may hold a run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_STATES = "state IN ('planning', 'running', 'succeeded', 'partial', 'failed', 'cancelled'{more})"
EMPTY_GENERATION = """\
CREATE FUNCTION scorebeat.empty_generation(set_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unshown scorebeat.prediction_sets;
BEGIN
    SELECT * INTO unshown FROM scorebeat.prediction_sets s WHERE s.id = set_id AND s.complete_at IS NULL
        AND EXISTS (SELECT FROM scorebeat.runs WHERE prediction_set_id = set_id)
        AND NOT EXISTS (SELECT FROM scorebeat.runs WHERE prediction_set_id = set_id
            AND state IN ('planning', 'running', 'held'));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'prediction set % is shown, or a run over it may still be shown', set_id;
    END IF;
    IF unshown.dropped_at IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('TRUNCATE predictions.%I', unshown.table_name);
END
$$"""
_EVENTS = "event IN ('finished', 'failed', 'late'{more})"


def upgrade() -> None:
    op.create_table(
        "reference_profiles",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column(
            "job", sa.Text, sa.ForeignKey("scorebeat.jobs.name"), comment="NULL: of all jobs, from training data"
        ),
        sa.Column(
            "run_id",
            sa.BigInteger,
            sa.ForeignKey("scorebeat.runs.id"),
            comment="the run that it is the profile of",
        ),
        sa.Column("source", sa.Text, nullable=False, comment="where it comes from, for a person"),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "model_version"], ["scorebeat.model_versions.name", "scorebeat.model_versions.version"]
        ),
        schema="scorebeat",
    )
    op.create_index(
        "reference_profiles_one",
        "reference_profiles",
        ["model", "model_version", sa.text("coalesce(job, '')")],
        unique=True,
        schema="scorebeat",
    )
    op.create_table(
        "run_profiles",
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("scorebeat.runs.id"), primary_key=True, autoincrement=False),
        sa.Column("job", sa.Text, sa.ForeignKey("scorebeat.jobs.name"), nullable=False),
        sa.Column("profile", sa.LargeBinary, nullable=False, comment="sketches of a sample of its inputs and outputs"),
        sa.Column("rows", sa.BigInteger, nullable=False, comment="rows of the sample"),
        sa.Column("reference_id", sa.BigInteger, sa.ForeignKey("scorebeat.reference_profiles.id")),
        sa.Column("findings", JSONB, comment="the comparison with the reference; NULL: there was none"),
        sa.Column("why_not", sa.Text, comment="why there was no comparison"),
        sa.Column("compared_at", sa.DateTime(timezone=True)),
        sa.Column(
            "waits",
            sa.Boolean,
            nullable=False,
            server_default="false",
            comment="it has too few rows: the next run of the job and version is compared together with it",
        ),
        schema="scorebeat",
    )
    op.create_index(
        "run_profiles_compared",
        "run_profiles",
        ["job", "run_id"],
        schema="scorebeat",
        postgresql_where=sa.text("findings IS NOT NULL"),
    )
    op.create_table(
        "batch_profiles",
        # no foreign key: its lock on the run would let a commit wait for whoever closes the run
        sa.Column("batch_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("profile", sa.LargeBinary, nullable=False, comment="until it is merged into the run's"),
        schema="scorebeat",
    )
    op.create_index("batch_profiles_of_run", "batch_profiles", ["run_id"], schema="scorebeat")
    _check("runs", "state", _STATES.format(more=", 'held'"))
    _check("runs", "reason", "state NOT IN ('failed', 'held') OR reason IS NOT NULL")
    _check("notices", "event", _EVENTS.format(more=", 'drift', 'held'"))
    op.create_index("runs_held", "runs", ["job", "id"], schema="scorebeat", postgresql_where=sa.text("state = 'held'"))
    _run(EMPTY_GENERATION)
    op.execute("REVOKE ALL ON FUNCTION scorebeat.empty_generation(bigint) FROM PUBLIC")
    # sketches hardly shrink, and compressing them takes a part of each commit
    op.execute("ALTER TABLE scorebeat.batch_profiles ALTER profile SET STORAGE EXTERNAL")


def _check(table: str, name: str, condition: str) -> None:
    whole = f"{table}_{name}_check"
    added = f"ADD CONSTRAINT {whole} CHECK ({condition}) NOT VALID"
    op.execute(f"ALTER TABLE scorebeat.{table} DROP CONSTRAINT {whole}, {added}")
    op.execute(f"ALTER TABLE scorebeat.{table} VALIDATE CONSTRAINT {whole}")


def _run(statement: str) -> None:
    """Run it as it is: `op.execute` doubles each per cent sign, but is what writes a script."""
    if op.get_context().as_sql:
        op.execute(statement)
    else:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION scorebeat.empty_generation(bigint)")
    # what a held run scored over a set that readers see would stay hidden, and count as scored
    hidden = "state = 'held' AND spec ->> 'on_failure' = 'retry-run'"
    op.execute(f"SELECT scorebeat.undo_run(id) FROM scorebeat.runs WHERE {hidden}")
    op.execute(
        f"UPDATE scorebeat.batches SET rows_scored = 0 WHERE run_id IN (SELECT id FROM scorebeat.runs WHERE {hidden})"
    )
    op.execute("UPDATE scorebeat.runs SET state = 'failed' WHERE state = 'held'")
    op.execute("DELETE FROM scorebeat.notices WHERE event IN ('drift', 'held')")
    _check("runs", "state", _STATES.format(more=""))
    _check("runs", "reason", "state <> 'failed' OR reason IS NOT NULL")
    _check("notices", "event", _EVENTS.format(more=""))
    op.drop_index("runs_held", "runs", schema="scorebeat")
    for table in ("batch_profiles", "run_profiles", "reference_profiles"):
        op.drop_table(table, schema="scorebeat")
