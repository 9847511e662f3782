"""Row-level security of the tables that a query reads: it may hide all rows from our role without an error."""

from sqlalchemy import Connection, text

from scorebeat.core.table_names import PREDICTIONS, SCHEMA


def hides_all(connection: Connection) -> str | None:
    """Tables whose row security has no policy that lets our role see a row, and what to do; None without such tables.

    It checks the tables that this transaction has read or planned to read, on which it holds locks. Tables that a
    view reads with its owner's rights are left out.
    """
    found = connection.execute(
        text(
            "SELECT c.oid::regclass::text, current_user FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessShareLock'"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND c.relkind IN ('r', 'p') AND n.nspname NOT IN (:ledger, :predictions, 'pg_catalog')"
            " AND row_security_active(c.oid) AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid"
            " AND p.polpermissive AND p.polcmd IN ('r', '*') AND EXISTS (SELECT FROM unnest(p.polroles) r (oid)"
            " WHERE r.oid = 0 OR pg_has_role(r.oid, 'USAGE')))"
            " AND NOT EXISTS (SELECT FROM pg_locks o JOIN pg_class v ON v.oid = o.relation AND v.relkind = 'v'"
            " JOIN pg_rewrite w ON w.ev_class = v.oid JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass"
            " AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid"
            " WHERE o.pid = pg_backend_pid() AND NOT coalesce(v.reloptions, '{}') && "
            " ARRAY['security_invoker=true', 'security_invoker=on'])"
            " ORDER BY 1"
        ),
        {"ledger": SCHEMA, "predictions": PREDICTIONS},
    ).all()
    if not found:
        return None
    role = found[0].current_user
    tables = ", ".join(row[0] for row in found)
    return (
        f"the role {role!r} sees none of the rows of {tables}: row security is on and no policy lets it read, so runs "
        f"score nothing and succeed. Let the table's owner run `CREATE POLICY scorebeat ON {found[0][0]} FOR SELECT "
        f"TO {role} USING (true)`, or run under a role with BYPASSRLS"
    )
