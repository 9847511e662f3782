"""The embedded servers for tests: started once a session, in a folder of their own, without fsync."""

from collections.abc import Iterator

import pytest

from scorebeat.core.data_folder import StackUrls
from scorebeat.ops.local.embedded import embedded

UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""A crash of the machine would lose the data, which no test needs."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUrls]:
    """URLs of a real PostgreSQL and a real Valkey, empty at first and shared by the whole session."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    with embedded(folder, postgres_settings=UNSAFE_BUT_FAST | {"max_prepared_transactions": "8"}) as urls:
        yield urls
