"""The role that owns the ledger: its name, and acting as it, so that it owns all new objects."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from scorebeat.core.errors import NotPermitted

OWNER = "(SELECT relowner FROM pg_class WHERE oid = to_regclass('scorebeat.runs'))"
"""SQL: the role's oid; NULL without a ledger."""


def owner(connection: Connection) -> str:
    """The role that owns the ledger."""
    return str(connection.execute(text(f"SELECT pg_get_userbyid({OWNER})")).scalar_one())


def current(connection: Connection) -> str:
    """Our role."""
    return str(connection.execute(text("SELECT current_user")).scalar_one())


def is_owner(connection: Connection) -> bool:
    """Whether our role owns the ledger, or has the owner's rights and may act as it: see `as_owner`."""
    query = text(
        "SELECT pg_has_role(relowner, 'USAGE') AND (pg_get_userbyid(relowner) = current_user"
        " OR pg_has_role(session_user, relowner,"
        " CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END))"
        " FROM pg_class WHERE oid = to_regclass('scorebeat.runs')"
    )
    return bool(connection.execute(query).scalar_one_or_none())


@contextmanager
def as_owner(connection: Connection, what: str) -> Iterator[None]:
    """Objects that the block makes in the transaction belong to the ledger's owner, with the default rights on them.

    A role that may act as the owner, such as a superuser, would else own them, and neither the owner nor readers could
    use them. An error in the block must undo the transaction or a savepoint around, which restores our role.
    Raises NotPermitted.
    """
    require_owner(connection, what)
    before = connection.execute(text("SELECT current_setting('role')")).scalar_one()
    become = text("SELECT set_config('role', :role, true)")
    connection.execute(become, {"role": owner(connection)})
    yield
    connection.execute(become, {"role": before})


def become_owner(connection: Connection) -> None:
    """`as_owner` for the rest of the session, once the transaction is committed."""
    connection.execute(text("SELECT set_config('role', :role, false)"), {"role": owner(connection)})


def require_owner(connection: Connection, what: str) -> None:
    """Raises NotPermitted before work that only the ledger's owner may finish."""
    if not is_owner(connection):
        raise NotPermitted(
            f"the role {current(connection)!r} may not {what}; nothing was changed. Use the URL of the role that owns "
            f"the ledger, {owner(connection)!r}, in SCOREBEAT_DATABASE_URL."
        )
