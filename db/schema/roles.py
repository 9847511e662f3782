"""The rights of the role that runs everything and owns nothing, beside the role that owns the ledger."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.core.errors import UsageError
from scorebeat.core.table_names import PREDICTIONS, SCHEMA, WORK
from scorebeat.db.connect.sql import ident
from scorebeat.db.schema.functions import FUNCTIONS, OF_THE_CALLER
from scorebeat.db.schema.ownership import OWNER, as_owner

RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "jobs": {"UPDATE": ("last_due_at", "paused_at", "paused_by", "paused_reason")},
    "runs": {
        "INSERT": ("job", "model", "model_version", "prediction_set_id", "spec", "row_limit", "row_filter", "row_keys",
                   "run_key", "created_by", "due_at", "deadline_at", "plan_expires_at", "rank", "state", "finished_at",
                   "reason", "retry_at"),
        "UPDATE": ("state", "plan_attempt", "plan_expires_at", "planned_by", "set_was_empty", "planned_at",
                   "plan_is_whole", "tries", "finished_at", "reason", "noted_at", "retry_at", "snapshot_rows",
                   "followed_at", "rows_removed", "key_error", "key_retry_at", "watermark_of", "watermark",
                   "compared_from", "swept_at", "cursor_highest", "rows_missed"),
    },
    "batches": {
        "INSERT": ("run_id", "number", "queue", "rows_planned", "first_key", "last_key", "keys", "attempts_left",
                   "rank", "first_row", "last_row"),
        "UPDATE": ("state", "rows_planned", "rows_scored", "rows_failed", "attempt", "attempts_left", "care",
                   "probe_key", "probe_expiries", "probe_attempt", "probe_row", "next_attempt_at", "sent_at",
                   "claimed_by", "claimed_pid", "device",
                   "claimed_at", "claim_expires_at", "pending_at", "finished_at", "error",
                   "fetch_seconds", "predict_seconds", "commit_seconds", "device_seconds", "cpu_seconds"),
    },
    "quarantine": {
        "INSERT": ("prediction_set_id", "batch_id", "key", "error_type", "error", "traceback", "changed_at"),
        "DELETE": (),
    },
    "workers": {
        "INSERT": ("name", "queues", "device", "processes", "fills_without_key"),
        "UPDATE": ("queues", "device", "processes", "fills_without_key", "seen_at"),
        "DELETE": (),
    },
    "device_limits": {
        "INSERT": ("model", "model_version", "device", "micro_batch_rows"),
        "UPDATE": ("micro_batch_rows", "learned_at"),
    },
    "canaries": {
        "INSERT": ("job", "queue", "expires_at"),
        "UPDATE": ("worker", "finished_at", "reported_at", "model", "rows", "compared", "differing", "failure"),
    },
    "batch_profiles": {"INSERT": ("batch_id", "run_id", "profile"), "UPDATE": ("profile",), "DELETE": ()},
    "run_profiles": {
        "INSERT": ("run_id", "job", "profile", "rows"),
        "UPDATE": ("profile", "rows", "reference_id", "findings", "why_not", "compared_at", "waits",
                   "failure"),
        "DELETE": (),
    },
    "reference_profiles": {
        "INSERT": ("model", "model_version", "job", "run_id", "source", "profile", "made_by"),
        "UPDATE": ("profile", "run_id", "source", "made_by", "made_at"),
    },
    "quality": {
        "INSERT": ("job", "model", "version", "week", "rows", "null_labels", "scored_after", "predictions",
                   "with_truth", "metrics"),
        "UPDATE": ("rows", "null_labels", "scored_after", "predictions", "with_truth", "metrics", "computed_at"),
    },
    "truth_readings": {
        "INSERT": ("job", "begun_at", "next_at"),
        "UPDATE": ("begun_at", "finished_at", "next_at", "failure"),
    },
    "actions": {"INSERT": ("by", "action", "subject", "details")},
    "run_sums": {
        "INSERT": ("run_id", "job", "state", "rows_scored", "rows_failed", "attempts", "was_late", "wait_seconds",
                   "span_seconds", "busy_seconds", "processes"),
        "UPDATE": ("state", "rows_scored", "rows_failed", "attempts"),
    },
    "counters": {"INSERT": ("name", "job", "value"), "UPDATE": ("value",)},
    "run_usage": {
        "INSERT": ("run_id", "outcome", "device", "job", "day", "queue", "attempts", "device_seconds", "cpu_seconds",
                   "rows"),
        "UPDATE": ("attempts", "device_seconds", "cpu_seconds", "rows"),
    },
    "worker_time": {"INSERT": ("month", "queue", "device", "device_seconds"), "UPDATE": ("device_seconds",)},
    "notices": {
        "INSERT": ("run_id", "event", "happened_at", "kind"),
        "UPDATE": ("due_at", "attempts", "delivered_at", "given_up_at", "error"),
    },
}  # fmt: skip
"""Rights beyond SELECT, by table and privilege: the columns, or empty for the whole table."""
ON_PREDICTIONS = ("SELECT", "INSERT")


@dataclass(frozen=True)
class Objects:
    """Objects of GRANT and REVOKE, as SQL names them after ON; empty if there are none."""

    ledger: str
    predictions: str
    functions: str
    tables: str
    """Tables of both schemas."""
    work: str = WORK
    """The schema of the runs' snapshots."""


ALL = Objects(
    f"ALL TABLES IN SCHEMA {SCHEMA}",
    f"ALL TABLES IN SCHEMA {PREDICTIONS}",
    f"ALL FUNCTIONS IN SCHEMA {SCHEMA}",
    f"ALL TABLES IN SCHEMA {SCHEMA}, {PREDICTIONS}",
)
"""For statements that a person types: PostgreSQL refuses them if the owner does not own one of the objects."""


def statements(role: str, on: Objects = ALL) -> list[str]:
    """SQL that grants a role what runs need and revokes all else in the schemas; `role` is a quoted identifier."""
    both = f"{SCHEMA}, {PREDICTIONS}"
    functions = ", ".join(f"{SCHEMA}.{signature}" for signature in (*FUNCTIONS, *OF_THE_CALLER))
    on_predictions = ", ".join(ON_PREDICTIONS)
    return [
        f"REVOKE ALL ON SCHEMA {', '.join(filter(None, (SCHEMA, PREDICTIONS, on.work)))} FROM {role}",
        f"REVOKE ALL ON {on.tables} FROM {role}",
        f"REVOKE ALL ON {on.functions} FROM {role}",
        f"GRANT USAGE ON SCHEMA {both} TO {role}",
        *([f"GRANT USAGE, CREATE ON SCHEMA {on.work} TO {role}"] if on.work else []),
        f"GRANT SELECT ON {on.ledger} TO {role}",
        *(f"GRANT {_listed(rights)} ON {SCHEMA}.{table} TO {role}" for table, rights in RIGHTS.items()),
        f"GRANT EXECUTE ON FUNCTION {functions} TO {role}",
        *([f"GRANT {on_predictions} ON {on.predictions} TO {role}"] if on.predictions else []),
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {PREDICTIONS} REVOKE ALL ON TABLES FROM {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {PREDICTIONS} GRANT {on_predictions} ON TABLES TO {role}",
    ]


def grant(connection: Connection, role: str) -> None:
    """Grant an existing role exactly what runs need, also on future prediction tables; safe to repeat.

    Raises NotPermitted if our role does not own the ledger; UsageError for a role that does not exist or has the
    owner's rights.
    """
    with as_owner(connection, "give rights to another"):
        require_role(connection, role)
        for statement in statements(ident(role), _ours(connection)):
            connection.exec_driver_sql(statement)


def _ours(connection: Connection) -> Objects:
    """The owner's objects. Only others can grant rights on theirs, and one such would make ALL fail."""
    tables = text(
        "SELECT string_agg(format('%I.%I', :schema, c.relname), ', ' ORDER BY c.oid)"
        " FROM pg_class c WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
        f" AND c.relowner = {OWNER}"
    )
    functions = text(
        "SELECT string_agg(format('%I.%I(%s)', :schema, proname, pg_get_function_identity_arguments(oid)), ', ')"
        " FROM pg_proc WHERE pronamespace = to_regnamespace(:schema) AND prokind = 'f'"
        f" AND proowner = {OWNER}"
    )
    is_ours = text(f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema AND nspowner = {OWNER})")
    work = WORK if connection.execute(is_ours, {"schema": WORK}).scalar_one() else ""
    ledger, predictions = (connection.execute(tables, {"schema": name}).scalar_one() for name in (SCHEMA, PREDICTIONS))
    return Objects(
        ledger,
        predictions or "",
        f"FUNCTION {connection.execute(functions, {'schema': SCHEMA}).scalar_one()}",
        ", ".join(filter(None, (ledger, predictions))),
        work,
    )


def require_role(connection: Connection, role: str) -> None:
    """Raises UsageError for a role that does not exist or has the owner's rights."""
    found = connection.execute(
        text("SELECT pg_has_role(r.oid, current_user, 'MEMBER') FROM pg_roles r WHERE r.rolname = :role"),
        {"role": role},
    ).one_or_none()
    if found is None:
        raise UsageError(
            f"there is no role {role!r}; make it with CREATE ROLE {ident(role)} LOGIN PASSWORD '...' first. "
            "Nothing was changed."
        )
    if found[0]:
        raise UsageError(
            f"the role {role!r} has all rights of the ledger's owner, so it cannot be given fewer. Make one that is "
            "neither a superuser nor a member of the owner. Nothing was changed."
        )


def granted(connection: Connection) -> list[str]:
    """Roles that have the rights of runs: those that may call the owner's functions."""
    return list(
        connection.execute(
            text(
                "SELECT DISTINCT r.rolname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,"
                " aclexplode(p.proacl) g JOIN pg_roles r ON r.oid = g.grantee"
                " WHERE n.nspname = :schema AND g.grantee <> p.proowner"
                f" AND p.proowner = {OWNER} ORDER BY r.rolname"
            ),
            {"schema": SCHEMA},
        ).scalars()
    )


def missing(connection: Connection) -> list[str]:
    """Rights that runs need and our role lacks, such as `UPDATE (reason) on scorebeat.runs`."""
    wanted = [
        {"tab": table, "privilege": privilege, "col": column}
        for table, rights in RIGHTS.items()
        for privilege, columns in rights.items()
        for column in columns or ("*",)
    ]
    found = connection.execute(
        text(
            "SELECT format('%s (%s) on scorebeat.%s', privilege, col, tab) FROM jsonb_to_recordset(CAST(:wanted AS"
            " jsonb)) AS w(tab text, privilege text, col text) WHERE NOT CASE WHEN col = '*'"
            " THEN has_table_privilege('scorebeat.' || tab, privilege)"
            " ELSE has_column_privilege('scorebeat.' || tab, col, privilege) END"
            " UNION ALL SELECT format('EXECUTE on scorebeat.%s', f) FROM unnest(CAST(:functions AS text[])) AS f"
            " WHERE NOT has_function_privilege('scorebeat.' || f, 'EXECUTE')"
            " UNION ALL SELECT format('%s on predictions.%s', privilege, table_name) FROM scorebeat.prediction_sets,"
            " unnest(CAST(:on_predictions AS text[])) AS privilege WHERE dropped_at IS NULL"
            " AND NOT has_table_privilege(to_regclass(format('predictions.%I', table_name)), privilege)"
        ),
        {
            "wanted": json.dumps(wanted),
            "functions": [*FUNCTIONS, *OF_THE_CALLER],
            "on_predictions": list(ON_PREDICTIONS),
        },
    )
    return list(found.scalars())


def _listed(rights: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{name} ({', '.join(columns)})" if columns else name for name, columns in rights.items())
