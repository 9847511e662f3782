"""Profiles of runs and their references: kept by batch until they are merged, then by run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from scorebeat.core.errors import one_line
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.runs import Run
from scorebeat.drift.finding import Finding
from scorebeat.drift.profile import Profile

PIECE = 100
"""Profiles of batches that one statement merges: each takes some 4 KB a column."""


MOST_RUNS = 10_000
"""The newest so many runs of a job are searched for one with a profile: a run that scores no row has none."""
NEWEST = (
    "(SELECT r.id, r.state, r.spec, p.failure, p.findings, p.why_not, p.run_id FROM (SELECT id, state, spec"
    f" FROM scorebeat.runs WHERE job = j.name ORDER BY id DESC LIMIT {MOST_RUNS}) r JOIN scorebeat.run_profiles p"
    " ON p.run_id = r.id WHERE p.compared_at IS NOT NULL ORDER BY r.id DESC LIMIT 1)"
)
"""SQL: of job j the newest run that was to be compared, as a subquery."""
KEEPS_PROFILES = "(j.spec -> 'drift' IS DISTINCT FROM 'null'::jsonb)"
"""SQL condition: job j keeps profiles now, so that what they once showed is still looked at."""
IS_NOT_COMPARED = (
    "(p.failure IS NOT NULL OR (p.findings IS NULL AND r.spec -> 'gate' ->> 'drift' = 'hold'"
    " AND NOT EXISTS (SELECT FROM scorebeat.reference_profiles f WHERE f.run_id = r.id)))"
)
"""SQL condition: the profile p of run r failed, or its gate let it pass without a comparison. A run that became the
reference passes, too, and is not meant: the event `reference.made` names it."""


def store_sql(held: Claim, profile: bytes) -> str:
    """A statement that stores the profile of a batch in the transaction that commits it.

    It has no backslash, which some settings of a session take for an escape.
    """
    return (
        "INSERT INTO scorebeat.batch_profiles (batch_id, run_id, profile)"
        f" VALUES ({held.batch_id:d}, {held.run_id:d}, decode('{profile.hex()}', 'hex'))"
        " ON CONFLICT (batch_id) DO UPDATE SET profile = EXCLUDED.profile"
    )


@dataclass(frozen=True)
class RunDrift:
    """A run's profile, and what the comparison with the reference found."""

    run: int
    rows: int
    """Rows of the sample."""
    findings: tuple[Finding, ...] | None
    """None if nothing was compared."""
    why_not: str | None
    """Why nothing was compared."""
    compared_at: datetime | None
    reference: str | None
    """Where the reference comes from."""

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """What is too far from the reference."""
        return tuple(finding for finding in self.findings or () if finding.reasons)


@dataclass(frozen=True)
class Reference:
    """What a run is compared with."""

    id: int
    profile: Profile
    run: int | None
    """The run that it is the profile of; None for training data."""


def to_merge(connection: Connection, more_than: int) -> list[int]:
    """Runs with more than so many profiles of batches that are not merged yet, and ended runs with any."""
    rows = connection.execute(
        text(
            "SELECT p.run_id FROM scorebeat.batch_profiles p JOIN scorebeat.runs r ON r.id = p.run_id"
            " GROUP BY p.run_id, r.finished_at HAVING count(*) > :most OR r.finished_at IS NOT NULL ORDER BY p.run_id"
        ),
        {"most": more_than},
    )
    return list(rows.scalars())


def merge_meanwhile(connection: Connection, run_id: int) -> bool:
    """Merge a piece of the profiles of batches while the run goes on; False if there was none.

    False also while the run is being closed, or another process merges: neither is waited for.
    """
    _add_empty(connection, run_id, "FOR KEY SHARE SKIP LOCKED")
    return _is_locked(connection, run_id, "SKIP LOCKED") and _merge_piece(connection, run_id)


def merge_rest(connection: Connection, run_id: int) -> None:
    """Merge all profiles of batches that are left. The caller closes the run, and holds its lock.

    It waits for a process that merges a piece now, so that no batch is missing in what is compared.
    """
    left = connection.execute(
        text("SELECT EXISTS (SELECT FROM scorebeat.batch_profiles WHERE run_id = :run)"), {"run": run_id}
    ).scalar_one()
    if left:
        _add_empty(connection, run_id)
    if _is_locked(connection, run_id):
        while _merge_piece(connection, run_id):
            pass


def _add_empty(connection: Connection, run_id: int, lock: str = "") -> None:
    """The profile of the run, without a row, if it has none yet. The lock is of the run."""
    connection.execute(
        text(
            "INSERT INTO scorebeat.run_profiles (run_id, job, profile, rows) SELECT id, job, :profile, 0"
            " FROM scorebeat.runs WHERE id = :run AND NOT EXISTS (SELECT FROM scorebeat.run_profiles"
            f" WHERE run_id = :run) {lock} ON CONFLICT (run_id) DO NOTHING"
        ),
        {"run": run_id, "profile": Profile().to_bytes()},
    )


def _is_locked(connection: Connection, run_id: int, unless: str = "") -> bool:
    """Lock the profile of the run: who has it merges. False if there is none, or it is locked and not waited for."""
    found = connection.execute(
        text(f"SELECT 1 FROM scorebeat.run_profiles WHERE run_id = :run FOR UPDATE {unless}"), {"run": run_id}
    )
    return found.one_or_none() is not None


def _merge_piece(connection: Connection, run_id: int) -> bool:
    """Merge profiles of batches into that of the run, which is locked; False if there was none.

    One that cannot be read or merged is counted as a failure.
    """
    taken = list(
        connection.execute(
            text(
                "DELETE FROM scorebeat.batch_profiles WHERE batch_id IN (SELECT batch_id FROM scorebeat.batch_profiles"
                " WHERE run_id = :run ORDER BY batch_id LIMIT :piece) RETURNING profile"
            ),
            {"run": run_id, "piece": PIECE},
        ).scalars()
    )
    if not taken:
        return False
    stored = connection.execute(
        text("SELECT profile FROM scorebeat.run_profiles WHERE run_id = :run"), {"run": run_id}
    ).scalar_one()
    whole = Profile.from_bytes(bytes(stored))
    for one in taken:
        try:
            whole.merge(Profile.from_bytes(bytes(one)))
        except Exception as error:  # noqa: BLE001 -- the predictions are right; whoever closes the run looks at failures
            whole.failures += 1
            whole.failure = whole.failure or f"it could not be merged: {one_line(error)}"
    connection.execute(
        text("UPDATE scorebeat.run_profiles SET profile = :profile, rows = :rows WHERE run_id = :run"),
        {"run": run_id, "profile": whole.to_bytes(), "rows": whole.rows},
    )
    return True


def of_run(connection: Connection, run_id: int) -> Profile | None:
    """The merged profile; None if the run has none."""
    stored = connection.execute(
        text("SELECT profile FROM scorebeat.run_profiles WHERE run_id = :run"), {"run": run_id}
    ).scalar_one_or_none()
    return Profile.from_bytes(bytes(stored)) if stored is not None else None


def add_waiting(connection: Connection, run: Run) -> Profile | None:
    """Merge the profile that waits for more rows, of an earlier run of this job and version, into the run's.

    Returns the run's profile then; None if nothing waits.
    """
    waiting = connection.execute(
        text(
            "UPDATE scorebeat.run_profiles SET profile = :empty, rows = 0, waits = false,"
            " why_not = 'its rows are compared together with those of run ' || :run WHERE run_id = (SELECT p.run_id"
            " FROM scorebeat.run_profiles p JOIN scorebeat.runs r ON r.id = p.run_id WHERE p.waits AND r.job = :job"
            " AND r.model = :model AND r.model_version = :version AND r.id <> :run ORDER BY r.id LIMIT 1"
            " FOR UPDATE OF p SKIP LOCKED) RETURNING (SELECT o.profile FROM scorebeat.run_profiles o"
            " WHERE o.run_id = run_profiles.run_id)"
        ),
        {
            "run": run.id,
            "empty": Profile().to_bytes(),
            "job": run.job.name,
            "model": run.model,
            "version": run.model_version,
        },
    ).scalar_one_or_none()
    own = of_run(connection, run.id)
    if waiting is None or own is None:
        return None
    own.merge(Profile.from_bytes(bytes(waiting)))
    connection.execute(
        text("UPDATE scorebeat.run_profiles SET profile = :profile, rows = :rows WHERE run_id = :run"),
        {"run": run.id, "profile": own.to_bytes(), "rows": own.rows},
    )
    return own


def forget(connection: Connection, run_id: int) -> None:
    """The run's predictions were deleted, so nothing of its profile is true any more."""
    for table in ("batch_profiles", "run_profiles"):
        connection.execute(text(f"DELETE FROM scorebeat.{table} WHERE run_id = :run"), {"run": run_id})


def forget_job(connection: Connection, job: str) -> None:
    """The job was dropped: a later one of its name has other rows."""
    connection.execute(
        text(
            "UPDATE scorebeat.run_profiles p SET reference_id = NULL, waits = false FROM scorebeat.runs r"
            " WHERE r.id = p.run_id AND r.job = :job"
        ),
        {"job": job},
    )
    connection.execute(text("DELETE FROM scorebeat.reference_profiles WHERE job = :job"), {"job": job})


def reference(connection: Connection, run: Run) -> Reference | None:
    """What the run is compared with: training data of the model version, else its job's first whole run over it."""
    found = connection.execute(
        text(
            "SELECT id, profile, run_id FROM scorebeat.reference_profiles WHERE model = :model"
            " AND model_version = :version AND coalesce(job, :job) = :job ORDER BY job NULLS FIRST LIMIT 1"
        ),
        {"model": run.model, "version": run.model_version, "job": run.job.name},
    ).one_or_none()
    return None if found is None else Reference(found.id, Profile.from_bytes(bytes(found.profile)), found.run_id)


def become_reference(connection: Connection, run: Run, profile: Profile) -> int | None:
    """Let later runs of this job and version be compared with this one. None if there is a reference by now."""
    made: int | None = connection.execute(
        text(
            "INSERT INTO scorebeat.reference_profiles (model, model_version, job, run_id, source, profile, made_by)"
            " VALUES (:model, :version, :job, :run, :source, :profile, 'scorebeat') ON CONFLICT DO NOTHING"
            " RETURNING id"
        ),
        {
            "model": run.model,
            "version": run.model_version,
            "job": run.job.name,
            "run": run.id,
            "source": f"run {run.id}",
            "profile": profile.to_bytes(),
        },
    ).scalar_one_or_none()
    return made


def set_reference(connection: Connection, model: str, version: int, profile: Profile, *, source: str, by: str) -> None:
    """Compare later runs of the version, of all jobs, with this profile."""
    connection.execute(
        text(
            "INSERT INTO scorebeat.reference_profiles (model, model_version, source, profile, made_by)"
            " VALUES (:model, :version, :source, :profile, :by)"
            " ON CONFLICT (model, model_version, coalesce(job, '')) DO UPDATE SET profile = EXCLUDED.profile,"
            " run_id = NULL, source = EXCLUDED.source, made_by = EXCLUDED.made_by, made_at = now()"
        ),
        {"model": model, "version": version, "source": source, "profile": profile.to_bytes(), "by": by},
    )


def record(
    connection: Connection,
    run_id: int,
    reference_id: int | None,
    findings: Sequence[Finding] | None,
    why_not: str | None,
    *,
    waits: bool = False,
    failure: str | None = None,
) -> None:
    """Store what the comparison found, or why there was none, and whether that is a failure.

    The profile `waits` if it has too few rows for a comparison.
    """
    stored = None if findings is None else json.dumps([finding.to_json() for finding in findings])
    connection.execute(
        text(
            "UPDATE scorebeat.run_profiles SET reference_id = :reference, findings = CAST(:findings AS jsonb),"
            " why_not = :why_not, waits = :waits, failure = :failure, compared_at = now() WHERE run_id = :run"
        ),
        {"run": run_id, "reference": reference_id, "findings": stored, "why_not": why_not, "waits": waits}
        | {"failure": failure},
    )


def has_failed(connection: Connection, run_id: int) -> bool:
    """Whether the profile or comparison of the run failed when it was last closed."""
    failed: bool | None = connection.execute(
        text("SELECT failure IS NOT NULL FROM scorebeat.run_profiles WHERE run_id = :run"), {"run": run_id}
    ).scalar_one_or_none()
    return bool(failed)


def record_failure(connection: Connection, run_id: int, failure: str) -> None:
    """Nothing of the run can be compared, and that is a failure. What is not merged yet is dropped."""
    connection.execute(text("DELETE FROM scorebeat.batch_profiles WHERE run_id = :run"), {"run": run_id})
    _add_empty(connection, run_id)
    record(connection, run_id, None, None, failure, failure=failure)


_COMPARED = (
    "SELECT p.run_id AS run, p.rows, p.findings, p.why_not, p.compared_at, f.source AS reference"
    " FROM scorebeat.run_profiles p LEFT JOIN scorebeat.reference_profiles f ON f.id = p.reference_id"
)


def compared(connection: Connection, run_id: int) -> RunDrift | None:
    """What the comparison of the run found; None if it has no profile."""
    found = connection.execute(text(f"{_COMPARED} WHERE p.run_id = :run"), {"run": run_id}).one_or_none()
    return None if found is None else _compared(found)


def newest_compared(connection: Connection, job: str, limit: int) -> list[RunDrift]:
    """The newest runs of the job that were compared with a reference, the oldest first."""
    found = connection.execute(
        text(f"{_COMPARED} WHERE p.job = :job AND p.findings IS NOT NULL ORDER BY p.run_id DESC LIMIT :limit"),
        {"job": job, "limit": limit},
    )
    return [_compared(row) for row in found][::-1]


def _compared(row: Row[Any]) -> RunDrift:
    findings = None if row.findings is None else tuple(Finding.from_json(data) for data in row.findings)
    return RunDrift(**{**row._mapping, "findings": findings})


def newest(connection: Connection, job: str) -> int | None:
    """The newest run of the job that was compared; if none was, the newest that has a profile."""
    found: int | None = connection.execute(
        text(
            "SELECT run_id FROM scorebeat.run_profiles WHERE job = :job AND compared_at IS NOT NULL"
            " ORDER BY findings IS NULL, run_id DESC LIMIT 1"
        ),
        {"job": job},
    ).scalar_one_or_none()
    return found
