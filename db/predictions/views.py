"""The published view of a job, `predictions.<job>`: which prediction set readers see."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2.errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, UsageError
from scorebeat.core.table_names import CHANGED_AT, PREDICTIONS
from scorebeat.db.connect.sql import ident, literal
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import functions, ownership

LOCK_TIMEOUT = "2s"
"""A waiting DDL statement blocks every new reader: it waits only briefly, and is tried again."""
TRIES = 5
MOST_BATCH_ID = 2**63 - 1


class ViewBusy(ScorebeatError):
    """Readers hold the view; nothing was switched."""


class ViewInUse(UsageError):
    """Other objects depend on columns that the new version does not have; nothing was switched."""


def show(connection: Connection, job: str, shown: PredictionSet) -> None:
    """Point the view at the set; columns keep their order, additions last.

    If columns go or change type, the view is made again: owner, grants and comment are kept. If other objects
    depend on the view, but on none of the columns that go, those stay, as NULL: so a version that added one
    can be taken back. Raises ViewInUse with the list if others depend on columns that go or change, ViewBusy
    if readers hold it too long.
    """
    if not is_shown(connection, job, shown):
        switch_with_retries(connection, job, lambda: _replace(connection, job, shown))


def switch_with_retries(connection: Connection, job: str, switch: Callable[[], object]) -> None:
    """Change what readers of the job's view read, in a savepoint. Raises ViewBusy if they hold it too long."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    for attempt in range(1, TRIES + 1):
        try:
            with connection.begin_nested():
                switch()
            return
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg2.errors.LockNotAvailable):
                raise
            if attempt == TRIES:
                raise ViewBusy(
                    f"the view {PREDICTIONS}.{job} is held by readers for over {LOCK_TIMEOUT}, tried {TRIES} times; "
                    "nothing was switched. Try again when the long query has ended."
                ) from None
            time.sleep(0.2 * attempt)


def show_generation(connection: Connection, job: str, shown: PredictionSet) -> None:
    """Point the view at a newer generation of the version that it shows, by a function of the ledger's owner.

    It is tried once, with the transaction's own lock_timeout: the process that settles the run tries again soon, and
    other jobs share it. Raises ViewBusy.
    """
    if is_shown(connection, job, shown):
        return
    try:
        with connection.begin_nested():
            functions.call(connection, "show_generation", shown.id)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg2.errors.LockNotAvailable):
            raise
        raise ViewBusy(f"the view {PREDICTIONS}.{job} is held by readers; nothing was switched yet") from None


def is_shown(connection: Connection, job: str, wanted: PredictionSet) -> bool:
    """Whether the view exists and reads this set."""
    return _table_of(connection, job) == wanted.table_name


def read_now(connection: Connection, job: str) -> PredictionSet | None:
    """The set that readers of the job see now, whatever version the job follows; None without a view."""
    table = _table_of(connection, job)
    return prediction_sets.of_table(connection, table) if table is not None else None


def _replace(connection: Connection, job: str, shown: PredictionSet) -> None:
    view = f"{PREDICTIONS}.{ident(job)}"
    now = _columns(connection, job)
    wanted = _columns(connection, shown.table_name)
    kept = [name for name in now if name in wanted]
    ordered = kept + [name for name in wanted if name not in now]
    select = f"SELECT {', '.join(ident(n) for n in ordered)} {rows(shown)}"
    if not now:
        with ownership.as_owner(connection, f"make the view {view}"):
            connection.exec_driver_sql(f"CREATE VIEW {view} AS {select}")
        return
    if len(kept) == len(now) and all(now[n] == wanted[n] for n in kept):
        connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {view} AS {select}")
        return
    used = _used_by_others(connection, job)
    if used and all(n not in used if n not in wanted else now[n] == wanted[n] for n in now):
        columns = [
            ident(n) if n in wanted else f"NULL::{now[n][3]} AS {ident(n)}" for n in (*now, *ordered[len(kept) :])
        ]
        connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {view} AS SELECT {', '.join(columns)} {rows(shown)}")
        return
    keep = _owner_grants_comment(connection, job)
    _drop(connection, job, ", ".join(n for n in now if n not in wanted or now[n] != wanted[n]))
    # the columns in their own order: no object depends on the old order any more
    with ownership.as_owner(connection, f"make the view {view}"):
        connection.exec_driver_sql(f"CREATE VIEW {view} AS SELECT {', '.join(map(ident, wanted))} {rows(shown)}")
    for statement in keep:
        connection.exec_driver_sql(statement)


@contextmanager
def without_view(connection: Connection, shown: PredictionSet) -> Iterator[None]:
    """If the view reads this set, drop it for the block, and make it again afterwards with the new types.

    PostgreSQL changes the type of no column that a view reads. Raises ViewInUse if others depend on the view.
    """
    if not is_shown(connection, shown.job, shown):
        yield
        return
    view = f"{PREDICTIONS}.{ident(shown.job)}"
    keep = _owner_grants_comment(connection, shown.job)
    definition = connection.execute(text("SELECT pg_get_viewdef(CAST(:view AS regclass))"), {"view": view}).scalar_one()
    _drop(connection, shown.job, "the type of its key")
    yield
    with ownership.as_owner(connection, f"make the view {view}"):
        connection.exec_driver_sql(f"CREATE VIEW {view} AS {definition}")
    for statement in keep:
        connection.exec_driver_sql(statement)


def _drop(connection: Connection, job: str, changed: str) -> None:
    try:
        connection.exec_driver_sql(f"DROP VIEW {PREDICTIONS}.{ident(job)}")
    except DBAPIError as error:
        raise ViewInUse(
            f"the view {PREDICTIONS}.{job} would lose or change {changed}, and other objects depend on it: "
            f"{_dependents(error)}. Nothing was switched; drop or change those first."
        ) from None


def drop(connection: Connection, job: str) -> None:
    """Drop the job's view, if it has one. Raises ViewInUse if other objects depend on it, or ViewBusy."""

    def switch() -> None:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {PREDICTIONS}.{ident(job)}")

    try:
        switch_with_retries(connection, job, switch)
    except DBAPIError as error:
        raise ViewInUse(
            f"other objects depend on the view {PREDICTIONS}.{job}: {_dependents(error)}. "
            "Nothing was dropped; drop those first"
        ) from None


def _dependents(error: DBAPIError) -> str:
    """The objects that a refused DROP names. Raises any other error unchanged."""
    if not isinstance(error.orig, psycopg2.errors.DependentObjectsStillExist):
        raise error
    return str(error.orig.diag.message_detail).replace("\n", "; ")


def rows(shown: PredictionSet) -> str:
    """FROM and WHERE of the rows that readers see: up to a stored number, so that one UPDATE shows a whole run."""
    return (
        f"FROM {shown.table} WHERE batch_id < coalesce((SELECT visible_below FROM scorebeat.prediction_sets"
        f" WHERE id = {shown.id:d}), {MOST_BATCH_ID})"
    )


def _table_of(connection: Connection, job: str) -> str | None:
    """Name of the table that the view reads now; None without a view."""
    found = connection.execute(
        text(
            "SELECT t.relname FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace"
            " JOIN pg_rewrite r ON r.ev_class = v.oid"
            " JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid"
            " AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid"
            " JOIN pg_class t ON t.oid = d.refobjid AND t.relnamespace = v.relnamespace"
            " WHERE n.nspname = :schema AND v.relname = :job AND v.relkind = 'v' LIMIT 1"
        ),
        {"schema": PREDICTIONS, "job": job},
    ).scalar_one_or_none()
    return str(found) if found is not None else None


def _used_by_others(connection: Connection, job: str) -> set[str]:
    """Columns of the view that other views read; all columns if a view reads whole rows."""
    found = connection.execute(
        text(
            "SELECT DISTINCT a.attname FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace"
            " JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid"
            " JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.ev_class <> v.oid"
            " JOIN pg_attribute a ON a.attrelid = v.oid AND d.refobjsubid IN (0, a.attnum)"
            " WHERE n.nspname = :schema AND v.relname = :job"
        ),
        {"schema": PREDICTIONS, "job": job},
    )
    return set(found.scalars())


def _columns(connection: Connection, relation: str) -> dict[str, tuple[int, int, int, str]]:
    """Name to type, modifier, collation and the type's name, in column order; empty without such a relation.

    Readers do not see `CHANGED_AT`: a job may get it later, and then its view stays as it is.
    """
    rows = connection.execute(
        text(
            "SELECT a.attname, a.atttypid, a.atttypmod, a.attcollation, format_type(a.atttypid, a.atttypmod)"
            " FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :relation AND a.attnum > 0 AND NOT a.attisdropped"
            " AND a.attname <> :hidden ORDER BY a.attnum"
        ),
        {"schema": PREDICTIONS, "relation": relation, "hidden": CHANGED_AT},
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def _owner_grants_comment(connection: Connection, job: str) -> list[str]:
    """Statements that give a new view the owner, grants and comment of the old one."""
    view = f"{PREDICTIONS}.{ident(job)}"
    named = {"name": f"{PREDICTIONS}.{ident(job)}"}
    owner, comment = connection.execute(
        text(
            "SELECT pg_get_userbyid(relowner), obj_description(oid, 'pg_class') FROM pg_class"
            " WHERE oid = CAST(:name AS regclass)"
        ),
        named,
    ).one()
    grants = connection.execute(
        text(
            "SELECT g.privilege_type, CASE WHEN g.grantee = 0 THEN 'PUBLIC'"
            " ELSE quote_ident(pg_get_userbyid(g.grantee)) END, g.is_grantable"
            " FROM pg_class c, aclexplode(c.relacl) g"
            " WHERE c.oid = CAST(:name AS regclass) AND g.grantee <> c.relowner"
        ),
        named,
    )
    keep = [f"ALTER VIEW {view} OWNER TO {ident(owner)}"]
    keep += [f"GRANT {g[0]} ON {view} TO {g[1]}{' WITH GRANT OPTION' if g[2] else ''}" for g in grants]
    return keep + ([f"COMMENT ON VIEW {view} IS {literal(comment)}"] if comment else [])
