"""The role that owns the ledger: who it is, and acting as it, so that all that is made is its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from scorebeat.core.errors import NotPermitted

OWNER = "(SELECT relowner FROM pg_class WHERE oid = to_regclass('scorebeat.runs'))"
"""SQL: the role's oid; NULL where there is no ledger."""


def owner(connection: Connection) -> str:
    """The role that owns the ledger."""
    return str(connection.execute(text(f"SELECT pg_get_userbyid({OWNER})")).scalar_one())


def current(connection: Connection) -> str:
    """Our role."""
    return str(connection.execute(text("SELECT current_user")).scalar_one())


def is_owner(connection: Connection) -> bool:
    """Our role owns the ledger, or has the rights of the one that does and may act as it: see `as_owner`."""
    asked = text(
        "SELECT pg_has_role(relowner, 'USAGE') AND (pg_get_userbyid(relowner) = current_user"
        " OR pg_has_role(session_user, relowner,"
        " CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END))"
        " FROM pg_class WHERE oid = to_regclass('scorebeat.runs')"
    )
    return bool(connection.execute(asked).scalar_one_or_none())


@contextmanager
def as_owner(connection: Connection, what: str) -> Iterator[None]:
    """What the block makes in the transaction is the ledger's owner's, with the rights that go with it.

    Who may act as the owner, such as a superuser, would else make it their own, and the owner and those who read could
    not use it. What is raised within must undo the transaction or a savepoint around, which gives back our role.
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
    """Raises NotPermitted before anything is done that only the ledger's owner may end."""
    if not is_owner(connection):
        raise NotPermitted(
            f"the role {current(connection)!r} may not {what}; nothing was changed. Use the URL of the role that owns "
            f"the ledger, {owner(connection)!r}, in SCOREBEAT_DATABASE_URL."
        )
