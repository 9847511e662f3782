"""Prepares a database for Scorebeat: migrations, and jobs.toml if there is one."""

import click
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from scorebeat.core.errors import NotPermitted, WouldRemoveAll, one_line
from scorebeat.core.jobs.jobs_file import read_files
from scorebeat.core.process.paths import shown
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import reachable, require_version
from scorebeat.db.schema import ownership, revisions, roles
from scorebeat.db.schema.upgrade import Upgraded, turn, upgrade
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import Applied, ApplyRefused, apply_files


def prepare(settings: Settings) -> None:
    """Migrate, then apply the jobs file; a file without jobs removes none. Raises UsageError; then a database that was
    ready is not changed."""
    producer = Producer(settings, "prepare")
    try:
        migrate(producer)
        file = shown(settings.jobs)
        if not settings.jobs.exists():
            click.echo(f"there is no {file}: write one, then `scorebeat apply`")
            return
        try:
            print_applied(apply_files(producer, read_files(file), "scorebeat up"))
        except (WouldRemoveAll, ApplyRefused) as error:  # there may be nobody to confirm it
            _report(f"warning: {file}: {error}")
    finally:
        producer.close()


def migrate(producer: Producer, run_role: str | None = None) -> Upgraded:
    """Bring the ledger to this program's version, while others work with it; reports what it waits for.

    Run roles, this one and those of earlier calls, get the rights that this version needs, and no more. If the ledger
    is of a newer version, they keep the rights which that version granted. Raises UsageError, ServiceDown,
    MigrationFailed, and NotPermitted if the ledger belongs to another role.
    """
    with reachable(producer.url):
        require_version(producer.engine)
        with turn(producer.engine, _report) as connection:
            with connection.begin():
                _act_as_owner(connection)
            if run_role is not None:  # checked before anything is migrated
                with connection.begin():
                    if revisions.revision(connection) is not None:
                        ownership.require_owner(connection, "give rights to another")
                    roles.require_role(connection, run_role)
            done = upgrade(connection, _report)
            if not done.is_newer:
                _give_rights(connection, run_role, "was migrated" if done.changed else "is up to date")
            return done


def _act_as_owner(connection: Connection) -> None:
    """Migrate as the ledger's owner, who then owns the new objects. Raises NotPermitted if migrations are due and we
    are not the owner."""
    have = revisions.revision(connection)
    if have is None:
        return
    if ownership.is_owner(connection):
        ownership.become_owner(connection)
    elif have != revisions.newest() and not revisions.is_newer(connection):
        ownership.require_owner(connection, "migrate the ledger")


def _give_rights(connection: Connection, run_role: str | None, ledger: str) -> None:
    """Grant all rights or none. Raises NotPermitted, whose message has the state of the ledger."""
    named = [run_role] if run_role is not None else []
    try:
        with connection.begin():
            known = roles.granted(connection) if ownership.is_owner(connection) else []
            for role in dict.fromkeys([*known, *named]):
                roles.grant(connection, role)
    except ProgrammingError as error:
        raise NotPermitted(
            f"the ledger {ledger}, but no rights were given or taken: {one_line(error.orig)}. Roles that run have those"
            " that they had. Let an administrator put that right, then run `scorebeat migrate` again."
        ) from error


def _report(line: str) -> None:
    click.echo(line, err=True)


def print_applied(applied: Applied) -> None:
    """Print what was done to each job of the file."""
    for kind in ("added", "changed", "removed"):
        for name in getattr(applied, kind):
            click.echo(f"{kind} job {name}")
    if not (applied.added or applied.changed or applied.removed):
        click.echo(f"nothing changed: {len(applied.same)} job{'s' * (len(applied.same) != 1)} as before")
    for line in applied.notes:
        click.echo(f"note: {line}")


def print_difference(found: Applied) -> None:
    """Print what would be done to each job of the file."""
    for name in found.added:
        click.echo(f"would add job {name}")
    for name in found.changed:
        click.echo(f"would change job {name}: {', '.join(found.differences[name])}")
    for name in found.removed:
        click.echo(f"would remove job {name}")
    if not (found.added or found.changed or found.removed):
        click.echo(f"nothing would change: {len(found.same)} job{'s' * (len(found.same) != 1)} as before")
    for line in found.notes:
        click.echo(f"note: {line}")
