"""What must be done to a database before Scorebeat runs on it: migrations, and jobs.toml if there is one."""

import click

from core.jobs_file import read_jobs
from core.settings import Settings
from db import schema
from db.engine import reachable, require_version
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


def migrate(p: Producer) -> bool:
    """Bring the ledger to this program's version; False when it was there. Raises UsageError, ServiceDown."""
    with reachable(p.url):
        require_version(p.engine)
        with p.engine.begin() as connection:
            before = schema.migrate(connection)
            return before != schema.newest(connection)


def tell(applied: Applied) -> None:
    """Say what became of each job of the file."""
    for kind in ("added", "changed", "removed"):
        for name in getattr(applied, kind):
            click.echo(f"{kind} job {name}")
    if not (applied.added or applied.changed or applied.removed):
        click.echo(f"nothing changed: {len(applied.same)} job{'s' * (len(applied.same) != 1)} as before")
    for line in applied.notes:
        click.echo(f"note: {line}")
