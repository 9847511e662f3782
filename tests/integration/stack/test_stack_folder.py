"""The embedded servers cope with half-made, foreign and oddly named data folders."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.ops.local.servers import postgres
from tests.support.stack_helpers import broker, fast, mode, query_value, running_up, wait_for

pytestmark = pytest.mark.wide


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_an_interrupted_making_of_the_cluster_leaves_no_half_cluster(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "lock").touch()
    half = data / "postgres.new-abc"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")

    with fast(data) as urls:
        assert query_value(urls.database_url, "SELECT 1") == 1
    assert not half.exists()


def test_a_cluster_whose_making_was_killed_is_made_anew(data: Path) -> None:
    with running_up(data) as running:
        wait_for(lambda: list(data.glob("postgres.new-*/PG_VERSION")))
        running.process.kill()
    assert not postgres.has_cluster(data)

    with fast(data) as urls:
        assert query_value(urls.database_url, "SELECT 1") == 1
    assert list(data.glob("postgres.new-*")) == []


def test_a_cluster_of_another_major_version_is_refused_and_kept(data: Path) -> None:
    with fast(data):
        pass
    version = data / "postgres" / "PG_VERSION"
    version.write_text("14\n")

    with pytest.raises(UsageError, match=r"PostgreSQL 14.*nothing was changed"), fast(data):
        pytest.fail("another version's files")
    assert version.read_text() == "14\n"


@pytest.mark.parametrize("name", ["x" * 120, "a folder, with 100 % odd näme+s"])
def test_a_folder_whose_name_no_socket_can_have_works(tmp_path: Path, name: str) -> None:
    with fast(tmp_path / name) as urls:
        assert query_value(urls.database_url, "SELECT 1") == 1
        assert broker(urls).ping()
        sockets = Path(urlsplit(urls.broker_url).path).parent
        assert mode(sockets) == 0o700
        assert sockets.stat().st_uid == os.geteuid()
    assert not sockets.exists()


def test_a_recorded_socket_folder_is_used_again_only_if_it_is_private(tmp_path: Path) -> None:
    data, planted = tmp_path / ("x" * 120), tmp_path / "planted"
    planted.mkdir(mode=0o755)
    with fast(data):
        pass
    (data / "sockets").write_text(f"{planted}\n")

    with fast(data) as urls:
        assert planted != Path(urlsplit(urls.broker_url).path).parent
    assert list(planted.iterdir()) == []


def test_a_folder_that_holds_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.txt").touch()

    with pytest.raises(UsageError, match="holds other things"), fast(home):
        pytest.fail("a home folder taken over")
    assert mode(home) == 0o755
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_file_instead_of_the_folder_is_refused(data: Path) -> None:
    data.touch()

    with pytest.raises(UsageError, match="cannot be the folder"), fast(data):
        pytest.fail("a file taken for a folder")
