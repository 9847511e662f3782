"""The settings of a session: those that are ours, those that stay the user's, and the check of both at connect.

The user's SQL runs under the settings that psql has with the same URL. A session of ours changes three kinds:
`ALWAYS` and the encoding, which change no meaning; `STATEMENTS`, which psycopg2 and our own statements rely on, and
which `user_sql` resets while the user's SQL runs; and, for the control plane, how long it waits for locks.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection

from scorebeat.core.errors import ServiceDown
from scorebeat.db.connect.sql import literal

ENCODING = "UTF8"
ALWAYS = {
    # a client that died with a transaction open releases its locks
    "idle_in_transaction_session_timeout": "60s",
    # so does one that died while its statement waits or runs: PostgreSQL would only notice when it ends
    "client_connection_check_interval": "2s",
    # and so does one whose host is gone or cut off, after about half a minute
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
    # planning cursors and batches are many small index scans: workers and compilation only add delay
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # locks and fences are written for it; a transaction that needs one snapshot sets its own
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # the ADBC driver would read texts as bytes
    "quote_all_identifiers": "off",
}
"""Set when a session begins, after the user's own `options`, so that DISCARD ALL keeps them."""
STATEMENTS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
"""Settings that our statements over psycopg2 need; the values are written as PostgreSQL writes them."""
CHECKED = (
    "client_encoding",
    "client_connection_check_interval",
    "jit",
    "max_parallel_workers_per_gather",
    "default_transaction_isolation",
    "default_transaction_deferrable",
    "quote_all_identifiers",
)
"""Settings that are read back from each new session: those that PostgreSQL writes as we write them."""

_SCHEMAS = "schemas"
"""Read beside the settings: all existing schemas of the search path, in its order, as the text of an array."""
_NAMES = ",".join(("server_encoding", *CHECKED, *STATEMENTS))
QUESTION = (
    "SELECT name, pg_catalog.current_setting(name), reset_val, source FROM pg_catalog.pg_settings"
    f" WHERE name OPERATOR(pg_catalog.=) ANY ('{{{_NAMES}}}'::pg_catalog.text[])"
    f" UNION ALL SELECT '{_SCHEMAS}', pg_catalog.current_schemas(true)::pg_catalog.text, '', ''"
)
"""It names pg_catalog everywhere: it runs before the search path is known."""

WHAT_TO_DO = "Connect directly, or do what docs/how-to/own-servers.md says of PgBouncer; nothing was changed."
_SET_BY = {
    "default": "which is PostgreSQL's default",
    "configuration file": "set in postgresql.conf",
    "database": "set by ALTER DATABASE",
    "user": "set by ALTER ROLE",
    "database user": "set by ALTER ROLE ... IN DATABASE",
    "client": "set when the session began",
    "session": "set within the session",
}


def may_pause(connection: Connection, longest: str) -> None:
    """This transaction may do nothing for so long, such as `10min`, while work goes on elsewhere."""
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{longest}'")


@dataclass(frozen=True)
class SessionSettings:
    """The settings of a new session, by name."""

    now: Mapping[str, str]
    users: Mapping[str, str]
    """The value that psql would have, to which RESET goes back."""
    source: Mapping[str, str]


def read_settings(rows: Iterable[Sequence[Any]]) -> SessionSettings:
    """The result of QUESTION."""
    read = [tuple(map(str, row)) for row in rows]
    return SessionSettings({r[0]: r[1] for r in read}, {r[0]: r[2] for r in read}, {r[0]: r[3] for r in read})


def require_ours(settings: SessionSettings) -> None:
    """Raises ServiceDown if the session lacks our settings, or its database has no encoding."""
    if settings.now["server_encoding"] == "SQL_ASCII":
        raise ServiceDown(
            "the database has the encoding SQL_ASCII: PostgreSQL does not know which characters its bytes are, and "
            "cannot turn them into UTF-8, so labels and keys would be garbled. Use a database with an encoding: "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, then pg_dump and pg_restore; nothing was changed"
        )
    wanted = ALWAYS | {"client_encoding": ENCODING}
    lost = [
        f"{name} is {settings.now[name]}, {_SET_BY.get(settings.source[name], settings.source[name])}, "
        f"not {wanted[name]}"
        for name in CHECKED
        if settings.now[name] != wanted[name]
    ]
    if lost:
        raise ServiceDown(
            f"a pooler before PostgreSQL dropped the settings of our sessions: {'; '.join(lost)}. {WHAT_TO_DO}"
        )


SAFE_PATH = "SET LOCAL search_path = pg_catalog"
"""Runs before the statement of `find_shadows`, in its transaction."""


def find_shadows(settings: SessionSettings) -> str | None:
    """A statement to run after SAFE_PATH if a schema comes before pg_catalog; None if none does, as nearly always.

    It returns a row if such a schema has an object that our statements would find instead of PostgreSQL's own.
    Functions and operators with a type that is not PostgreSQL's are left out: our arguments never match them.
    """
    path = settings.now[_SCHEMAS]
    if path.startswith(("{pg_catalog,", "{pg_catalog}")):
        return None
    with_builtin = "EXISTS (SELECT FROM {0} b WHERE b.{1} = o.{1} AND b.{2} = 'pg_catalog'::regnamespace)"
    builtin_types = (
        "NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY ({0}) AND t.typnamespace <> 'pg_catalog'::regnamespace)"
    )
    kinds = {
        "function": ("pg_proc", "proname", "pronamespace", builtin_types.format("o.proargtypes::oid[]")),
        "operator": ("pg_operator", "oprname", "oprnamespace", builtin_types.format("ARRAY[o.oprleft, o.oprright]")),
        "relation": ("pg_class", "relname", "relnamespace", "true"),  # an index hides a table, too
        "type": ("pg_type", "typname", "typnamespace", "o.typcategory <> 'A'"),
    }
    found = " UNION ALL ".join(
        f"SELECT '{kind}', o.{name}, o.{schema} FROM {table} o WHERE {more}"
        f" AND {with_builtin.format(table, name, schema)}"
        for kind, (table, name, schema, more) in kinds.items()
    )
    before = (
        f"SELECT n.oid, s.ordinal FROM unnest({literal(path)}::name[]) WITH ORDINALITY s (name, ordinal)"
        f" JOIN pg_namespace n ON n.nspname = s.name AND NOT n.nspname ^@ 'pg_temp_'"
        f" WHERE s.ordinal < array_position({literal(path)}::name[], 'pg_catalog')"
    )
    return (
        f"SELECT kind, before.oid::regnamespace::text, name FROM ({before}) before"
        f" JOIN ({found}) found (kind, name, schema) ON schema = before.oid ORDER BY ordinal, kind, name LIMIT 1"
    )


def require_own_names(settings: SessionSettings, shadow: Sequence[Any] | None) -> None:
    """Raises ServiceDown if there is a `shadow`, a row of the statement of `find_shadows`."""
    if shadow is None:
        return
    kind, schema, name = map(str, shadow)
    raise ServiceDown(
        f"search_path is {settings.now[_SCHEMAS].strip('{}')}: in it the {kind} {schema}.{name} comes before "
        f"PostgreSQL's own of that name, and our statements would use it. Put pg_catalog first in search_path, or "
        "leave it out, which means the same: ALTER ROLE ... SET or ALTER DATABASE ... SET search_path, or `options` of "
        "SCOREBEAT_DATABASE_URL; nothing was changed"
    )


def users_values(settings: SessionSettings) -> dict[str, str]:
    """The settings of STATEMENTS for which the user has another value, with that value."""
    return {name: settings.users[name] for name, ours in STATEMENTS.items() if settings.users[name] != ours}


def options(url: URL, more: Mapping[str, str] | None = None) -> str:
    """The user's `options` (of the URL, else PGOPTIONS, as in libpq) and ours after them: the last one wins."""
    users = url.query.get("options") or os.environ.get("PGOPTIONS") or ""
    users_text = users if isinstance(users, str) else " ".join(users)
    ours = (f"-c {name}={escaped(value)}" for name, value in {**ALWAYS, **(more or {})}.items())
    return " ".join([users_text, *ours]).strip()


def escaped(value: str) -> str:
    """A value as it is written in `options`, where an unescaped space begins another option."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


@contextmanager
def autocommit(connection: Any) -> Iterator[None]:
    """Each statement over this psycopg2 connection is a transaction by itself: one round trip instead of three.

    SQLAlchemy's own isolation level AUTOCOMMIT sets it by a statement, and takes it back by another.
    """
    before = connection.autocommit
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.autocommit = before
