"""Machine code is compiled once and kept; a folder that cannot be used costs time, and never a worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorebeat.models.formats.sklearn.compiled import machine_code

FIRST = machine_code._SIGNATURES["fill_grams"]


@pytest.fixture(autouse=True)
def one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest of the functions alone, which compiles in a part of a second."""
    monkeypatch.setattr(machine_code, "_SIGNATURES", {"fill_grams": FIRST})
    monkeypatch.setattr(machine_code, "MachineCode", dict)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("WARNING", "scorebeat"):
        yield caplog


def works(code: Any) -> bool:
    grams = np.full((2, 2), -1, np.int64)
    code["fill_grams"](grams, np.zeros(4, np.uint8), np.array([[1, 2, 3]]))
    return sorted(grams[:, 1].tolist()) == [-1, 3]


def misses(code: Any) -> int:
    """How many functions were compiled instead of read."""
    return sum(code["fill_grams"].stats.cache_misses.values())


def test_the_second_process_reads_what_the_first_compiled(tmp_path: Path, events: pytest.LogCaptureFixture) -> None:
    first, second = (machine_code._read_or_compiled(tmp_path) for _ in range(2))

    assert works(first)
    assert works(second)
    assert (misses(first), misses(second)) == (1, 0)
    (own,) = (tmp_path / "compiled").glob("numba-*")
    assert own.stat().st_mode & 0o077 == 0
    assert events.records == []


def test_a_damaged_file_is_compiled_anew(tmp_path: Path, events: pytest.LogCaptureFixture) -> None:
    machine_code._read_or_compiled(tmp_path)
    for file in (tmp_path / "compiled").rglob("*.nb?"):
        file.write_bytes(file.read_bytes()[:40])

    codes: list[Any] = [machine_code._read_or_compiled(tmp_path) for _ in range(3)]

    assert all(map(works, codes))
    assert [record.getMessage() for record in events.records] == ["engine.not_cached"]
    assert misses(codes[2]) == 0


def test_a_folder_that_others_may_write_is_not_read(tmp_path: Path, events: pytest.LogCaptureFixture) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)

    assert works(machine_code._read_or_compiled(tmp_path))
    assert [*(tmp_path / "compiled").iterdir()] == []
    assert [record.getMessage() for record in events.records] == ["engine.not_cached"]


def test_a_cache_that_cannot_be_made_costs_a_compilation(tmp_path: Path, events: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")

    assert works(machine_code._read_or_compiled(tmp_path / "file" / "cache"))
    assert [record.getMessage() for record in events.records] == ["engine.not_cached"]


def test_a_full_disk_costs_a_compilation(
    tmp_path: Path, events: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core.caching import IndexDataCacheFile  # noqa: PLC0415 -- an extra

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)

    assert works(machine_code._read_or_compiled(tmp_path))
    assert "No space left" in str([vars(record) for record in events.records])


def test_the_key_names_versions_processor_and_our_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("changed")
    keys = {machine_code._key()}
    for name, other in (
        ("np.__version__", "9"),
        ("numba.__version__", "9"),
        ("llvmlite.binding.get_host_cpu_name", lambda: "other"),
        ("kernels.__file__", str(tmp_path / "kernels.py")),
    ):
        monkeypatch.setattr(f"{machine_code.__name__}.{name}", other)
        keys.add(machine_code._key())

    assert len(keys) == 5


@pytest.mark.wide
def test_processes_that_begin_together_compile_once(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from scorebeat.models.formats.sklearn.compiled import machine_code\n"
        "code = machine_code.machine_code(pathlib.Path(sys.argv[1]))\n"
        "print(sum(code.add_scores.stats.cache_misses.values()))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    assert sorted(one.communicate()[0].strip() for one in started) == ["0", "0", "1"]
