"""The machine on which a file's pods run."""

from collections.abc import Iterator

import pytest

from tests.containers.cluster import secrets_of_one_role
from tests.containers.pods import Node, node


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("pods"), secrets_of_one_role()) as made:
        yield made
