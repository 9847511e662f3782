"""A refusal of the system in the store is reported with the path, its effect and what to do."""

import os
import resource
from pathlib import Path

import pytest

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.store import store
from tests.support.iris_models import file, other, root

__all__ = ["file", "other", "root"]


def test_a_store_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, root: Path, file: Path) -> None:
    added = store.add(root, file, "iris")
    closed = tmp_path / ("x" * 300)  # refused to everybody, root too

    for look in (store.open_artifact, store.verify):
        with pytest.raises(ModelError, match=r"iris/1: .*x/iris/1 cannot be read: .*SCOREBEAT_ARTIFACTS"):
            look(closed, "iris", 1, added.digest)
    with pytest.raises(StoreError, match="cannot be written: File name too long"):
        store.add(closed, file, "iris")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_version_that_is_closed_to_us_was_not_altered(root: Path, file: Path) -> None:
    added = store.add(root, file, "iris")
    added.folder.chmod(0o000)
    try:
        with pytest.raises(ModelError, match=r"iris/1: .* cannot be read: Permission denied"):
            store.verify(root, "iris", 1, added.digest)
    finally:
        added.folder.chmod(0o700)


def test_a_full_disk_is_reported_as_the_stores_and_leaves_nothing(root: Path, file: Path) -> None:
    root.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StoreError) as refusal:
            store.add(root, file, "iris")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert f"{file} was not added: {root} cannot be written: File too large" in str(refusal.value)
    assert list(root.iterdir()) == []
