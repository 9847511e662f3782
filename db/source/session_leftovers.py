"""Whether a query may leave something in its session that no statement can undo, so that others must not use it.

RESET ALL and DISCARD ALL leave a custom setting of the user, such as `app.tenant`, behind as an empty text, which no
catalogue lists; a random seed stays, and functions that are not PostgreSQL's own may keep any state.
"""

import re

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.db.connect import database_errors, user_sql
from scorebeat.db.connect.sql import ident, subquery
from scorebeat.db.source.source import Source

_BUILT_IN = re.compile(r"set_config|setseed|\w+_to_xml\w*|ts_stat|ts_rewrite")
"""PostgreSQL's own functions that change the session, or run a text as a query that may change it."""
_CALLED = re.compile(r'([\w$]+)"?\(')
_WORD = re.compile(r"[\w$]+")
_OWN = (
    "own AS (SELECT p.oid, p.proname, l.lanname NOT IN ('internal', 'c') OR p.proconfig IS NOT NULL AS runs_sql"
    " FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384)"
)
"""Functions that are not PostgreSQL's own, and whether they run SQL."""
_FUNCTIONS = f"WITH {_OWN} SELECT DISTINCT proname, runs_sql FROM own"
_UNNAMED = (
    f"WITH {_OWN}, code AS (SELECT oid FROM own WHERE runs_sql)"
    " SELECT EXISTS (SELECT FROM code WHERE oid IN (SELECT oprcode FROM pg_operator"
    " UNION ALL SELECT castfunc FROM pg_cast UNION ALL SELECT amproc FROM pg_amproc))"
    " OR EXISTS (SELECT FROM pg_constraint k WHERE k.contypid <> 0 AND k.oid >= 16384"
    " AND (pg_get_constraintdef(k.oid) ~ :built_in OR EXISTS (SELECT FROM pg_depend d"
    " WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass)))"
    # views that this transaction planned to read: it holds a lock on each
    " OR EXISTS (SELECT FROM pg_locks l JOIN pg_rewrite w ON w.ev_class = l.relation"
    " JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid"
    " JOIN code ON code.oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass"
    " WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation')"
)
"""Functions that a plan does not name: those of operators, casts, orders and domains, and constant calls in views."""


def may_leave(connection: Connection, source: Source, where: str | None = None) -> bool:
    """False if the query, with a run's `where`, certainly leaves nothing that `engine.forget` does not undo.

    Its plan names all functions that it calls, except those that PostgreSQL computes while planning, which are in the
    text of the query, and those behind an operator or a type: if the database has one of these, True is returned.
    """
    query = subquery(source.query) + (f" WHERE (\n{where}\n)" if where else "")
    try:
        with connection.begin_nested() as part:
            connection.exec_driver_sql("SET LOCAL transaction_read_only = on")
            plan = "\n".join(row[0] for row in user_sql.rows(connection, f"EXPLAIN (VERBOSE) SELECT * FROM {query}"))
            unnamed = connection.execute(text(_UNNAMED), {"built_in": _BUILT_IN.pattern}).scalar_one()
            part.rollback()
    except DBAPIError as error:
        if error.connection_invalidated or database_errors.passes(error):
            raise
        return True
    called = set(_CALLED.findall(plan))
    if unnamed or any(_BUILT_IN.fullmatch(name) for name in called):
        return True
    query_words = set(_WORD.findall(query.lower()))
    for name, runs_sql in connection.execute(text(_FUNCTIONS)):
        is_word = _WORD.fullmatch(name)
        if name in called or (not is_word and f"{ident(name)}(" in plan):
            return True
        if runs_sql and (name.lower() in query_words if is_word else ident(name) in query):
            return True
    return False
