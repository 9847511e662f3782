"""Every model of the suite has, end to end, the predictions of its own library."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.errors import StoreError
from scorebeat.core.settings import Settings
from tests.parity.cases import CASES
from tests.parity.compare import differences
from tests.parity.known import KNOWN
from tests.parity.system import Parity
from tests.support import fixtures
from tests.support.machine_code import shared_machine_code

pytestmark = pytest.mark.wide(slow=20)


@pytest.fixture(scope="module")
def parity(stack: StackUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parity]:
    """Everything that the cases share."""
    folder = tmp_path_factory.mktemp("parity")
    database = fixtures._database(stack, f"TEMPLATE {template}")
    made = Parity(
        Settings(
            _env_file=None,
            database_url=next(database),
            broker_url=stack.broker_url,
            artifacts=folder / "artifacts",
            cache=shared_machine_code(folder / "cache"),
            data=folder / "data",
        )
    )
    with threadpool_limits(1):  # as in a worker process
        yield made
    made.close()
    next(database, None)


def _marked(title: str) -> object:
    known = KNOWN.get(title)
    return pytest.param(title, marks=[pytest.mark.xfail(reason=known, strict=True)] if known else [])


@pytest.mark.parametrize("title", [*map(_marked, CASES)])
def test_a_model_predicts_what_its_library_predicts(parity: Parity, title: str, tmp_path: Path) -> None:
    case = CASES[title]
    for package in case.needs:
        pytest.importorskip(package)
    built = case.build(tmp_path)

    if case.refused:
        with pytest.raises(StoreError, match=case.refused):
            parity.add("refused", built, tmp_path)
    else:
        found = differences(parity.run(title, built, tmp_path), built)
        assert not found, "\n".join(found)
