"""The embedded servers for tests: started once a session, in a folder of their own, without fsync."""

from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from scorebeat.core.data_folder import StackUrls
from scorebeat.ops.local.servers.embedded import embedded
from tests.support.in_memory import in_memory

UNSAFE_BUT_FAST = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "min_wal_size": "32MB", "max_wal_size": "256MB",  # it is in memory
}  # fmt: skip
"""A crash of the machine would lose the data, which no test needs."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUrls]:
    """URLs of a real PostgreSQL and a real Valkey, empty at first and shared by the whole session."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    settings = UNSAFE_BUT_FAST | {"max_prepared_transactions": "8"}
    with in_memory(folder), embedded(folder, postgres_settings=settings) as urls:
        hash_quickly(urls.database_url)
        yield urls


def hash_quickly(url: str) -> None:
    """Store the password again, so that a connection computes one hash instead of 4,096, which take it 5 ms."""
    user, password = make_url(url).username, make_url(url).password
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        # PostgreSQL 15 does not have it
        cursor.execute("SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'scram_iterations'")
        cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(str(user)), sql.Literal(password)))
    connection.close()
