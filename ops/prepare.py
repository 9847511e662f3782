"""What must be done to a database before Scorebeat runs on it: migrations, and jobs.toml if there is one."""

import click
from sqlalchemy import Connection

from core.jobs_file import read_jobs
from core.settings import Settings
from db import roles, schema
from db.engine import reachable, require_version
from db.upgrade import Upgraded, turn, upgrade
from producer.apply import Applied, apply
from producer.context import Producer


def prepare(settings: Settings) -> None:
    """Migrate, then apply the jobs file. Raises UsageError; a database that was ready is not changed."""
    p = Producer(settings, "prepare")
    try:
        migrate(p)
        if settings.jobs.exists():
            tell(apply(p, read_jobs(settings.jobs), "scorebeat up"))
        else:
            click.echo(f"there is no {settings.jobs}: write one, then `scorebeat apply`")
    finally:
        p.close()


def migrate(p: Producer, run_role: str | None = None) -> Upgraded:
    """Bring the ledger to this program's version, while others work with it; says what it waits for.

    Roles that run, this one and those of earlier calls, may then do what this version needs, and nothing more; where
    the ledger is a newer version's, they keep what that gave them. Raises UsageError, ServiceDown, MigrationFailed, and
    NotPermitted where the ledger is another role's.
    """
    with reachable(p.url):
        require_version(p.engine)
        with turn(p.engine, _say) as connection:
            if run_role is not None:
                _require_role(connection, run_role)
            done = upgrade(connection, _say)
            with connection.begin():
                known = roles.granted(connection) if roles.is_owner(connection) else []
                for role in dict.fromkeys([*known, *([run_role] if run_role else [])]) if not done.is_newer else ():
                    roles.grant(connection, role)
            return done


def _require_role(connection: Connection, role: str) -> None:
    """Before anything is migrated."""
    with connection.begin():
        if schema.revision(connection) is not None:
            roles.require_owner(connection, "give rights to another")
        roles.require_role(connection, role)


def _say(line: str) -> None:
    click.echo(line, err=True)


def tell(applied: Applied) -> None:
    """Say what became of each job of the file."""
    for kind in ("added", "changed", "removed"):
        for name in getattr(applied, kind):
            click.echo(f"{kind} job {name}")
    if not (applied.added or applied.changed or applied.removed):
        click.echo(f"nothing changed: {len(applied.same)} job{'s' * (len(applied.same) != 1)} as before")
    for line in applied.notes:
        click.echo(f"note: {line}")
