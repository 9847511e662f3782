"""Stores behind URLs, one of them as object stores are, and two models to put there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.iris_models import classifier, dump


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models."""
    folder = tmp_path_factory.mktemp("files")
    return dump(folder / "one.skops", classifier()), dump(folder / "other.skops", classifier(0.1))


@pytest.fixture
def file(files: tuple[Path, Path]) -> Path:
    return files[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def url(root: Path) -> str:
    """A store that other processes see too."""
    return f"file://{pathname2url(str(root))}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Objects(MemoryFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """As object stores are: nothing can be renamed or linked, and each write is recorded."""

    protocol = "objects"
    store: dict[str, Any] = {}  # noqa: RUF012 -- the base class keeps its files so
    pseudo_dirs = [""]  # noqa: RUF012 -- as above
    written: list[str] = []  # noqa: RUF012 -- read by the tests
    fails_at: str | None = None

    def mv(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("an object cannot be renamed")

    def put_file(self, lpath: str, rpath: str, *rest: Any, **more: Any) -> None:
        if self.fails_at and self.fails_at in rpath:
            raise ConnectionError("connection reset by peer")
        self.written.append(rpath.rpartition("/")[2])
        super().put_file(lpath, rpath, *rest, **more)

    def get_file(self, rpath: str, lpath: Any, *rest: Any, **more: Any) -> None:
        if self.fails_at and self.fails_at in rpath:
            raise ConnectionError("connection reset by peer")
        super().get_file(rpath, lpath, *rest, **more)


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Objects]]:
    fsspec.register_implementation("objects", Objects, clobber=True)
    monkeypatch.setattr(Objects, "fails_at", None)
    yield Objects
    Objects.store.clear()
    Objects.written.clear()
    Objects.pseudo_dirs[:] = [""]


URLS = ["file", "memory", "objects"]


@pytest.fixture(params=URLS)
def anywhere(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    """A store of each kind, empty."""
    request.getfixturevalue("objects")
    return url if request.param == "file" else f"{request.param}://{tmp_path.name}/models"
