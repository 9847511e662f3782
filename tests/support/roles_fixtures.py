"""A database as an operator locks it down: one role owns the ledger, another runs everything, a third owns the rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, make_url, text

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import migrate
from scorebeat.db.schema.functions import FUNCTIONS
from scorebeat.ops.local import prepare
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish
from tests.support.poison_fixtures import Points

PASSWORD = "of-a-test"
BEFORE_FUNCTIONS = "0008"
"""The migration after it makes the functions of the owner."""


@dataclass(frozen=True)
class Roles:
    """URLs of one database under each role."""

    admin: str
    owner: str
    run: str

    @property
    def runner(self) -> str:
        """Name of the role that runs."""
        return str(make_url(self.run).username)

    @property
    def holder(self) -> str:
        """Name of the role that owns the ledger."""
        return str(make_url(self.owner).username)


def make_roles(admin: str) -> Roles:
    """Two roles for the database of this URL, with what an administrator grants them before anything is migrated."""
    database = str(make_url(admin).database)
    owner, run = f"{database}_owner", f"{database}_run"
    engine = make_engine(admin)
    with engine.begin() as connection:
        for role in (owner, run):
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT CREATE ON DATABASE {database} TO {owner}")
    engine.dispose()
    return Roles(admin, _as(admin, owner), _as(admin, run))


def open_source(engine: Engine, table: str, roles: Roles) -> None:
    """Both roles may read the table."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"GRANT SELECT ON {table} TO {roles.holder}, {roles.runner}")


@dataclass
class LockedPoints(Points):
    """Points whose table is the administrator's; `producer` is the owner's, and everything else runs under `runner`."""

    runner: Producer = field(kw_only=True)
    roles: Roles = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.admin = make_engine(self.roles.admin, "admin")

    @property
    def engine(self) -> Engine:
        return self.admin

    @property
    def acting(self) -> Producer:
        return self.runner

    def fill(self, count: int) -> None:
        super().fill(count)
        open_source(self.admin, "points", self.roles)

    def as_runner(self, statement: str, **values: Any) -> list[Any]:
        """Rows of one statement under the role that runs."""
        with self.runner.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def downgrade(self, revision: str) -> None:
        """The ledger as a program that knew no later migration left it to its owner."""
        owner = make_engine(self.roles.owner)
        with owner.begin() as connection:
            command.downgrade(migrate.config(connection), revision)
        owner.dispose()

    def forget_functions(self) -> None:
        """They are to be made once more; the rights that were granted on them still show who runs."""
        self.downgrade("0009")
        for signature in FUNCTIONS:
            if self.sql("SELECT to_regprocedure(:name) IS NULL", name=f"scorebeat.{signature}") == [True]:
                continue  # a later migration makes it
            self.sql(f"ALTER FUNCTION scorebeat.{signature} RENAME TO old_{signature.partition('(')[0]}")
        self.sql(f"UPDATE scorebeat.alembic_version SET version_num = '{BEFORE_FUNCTIONS}'")

    def publish(self, version: int) -> list[str]:
        return publish.publish_anyway(self.producer, "poison", version, "ann")


@pytest.fixture
def roles(empty_database: str) -> Roles:
    """Of a database that nobody migrated yet."""
    return make_roles(empty_database)


@pytest.fixture
def locked(roles: Roles, stack: StackUrls, broker: str, tmp_path: Path) -> Iterator[LockedPoints]:
    """A database that the owner migrated for the role that runs; everything of it runs in the test's own process."""
    assert stack.broker_url == broker
    folders: dict[str, Any] = {name: tmp_path / name for name in ("artifacts", "cache", "data")}
    settings = Settings(_env_file=None, broker_url=broker, database_url=roles.run, **folders)
    owner = Producer(settings.model_copy(update={"database_url": roles.owner}), "owner")
    runner = Producer(settings, "runner")
    prepare.migrate(owner, roles.runner)
    made = LockedPoints(owner, settings, tmp_path, runner=runner, roles=roles)
    yield made
    made.runtime.close()
    made.admin.dispose()
    owner.close()
    runner.close()


def _as(url: str, role: str) -> str:
    return make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)
