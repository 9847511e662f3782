"""Fixtures of the tests of Python classes as models: a folder that a user is in, and a store."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from scorebeat.core.errors import StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.store import store
from tests.contract.python_files import Write


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write("a/b.py", text)` in the folder that a user is in."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def one(name: str, text: str) -> None:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), "utf-8")

    return one


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Artifact]:
    return lambda source, *files: store.add(tmp_path / "store", source, "m", AddOptions(files=files))


@pytest.fixture
def refuse(write: Write, add: Callable[..., Artifact]) -> Callable[[str, str], str]:
    """Returns the error for a class C in a module `bad` of this text."""

    def refusal(text: str, source: str = "bad:C") -> str:
        write("bad.py", text)
        with pytest.raises(StoreError) as error:
            add(source)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refusal
