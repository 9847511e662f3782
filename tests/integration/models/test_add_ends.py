"""`models add` comes to an end whatever the class began, and leaves nothing behind when it is stopped."""

import signal
from pathlib import Path

import pytest

from scorebeat.producer.context import Producer
from tests.support.fixtures import Programs, wait_for

pytestmark = pytest.mark.wide

CLASS = """
import atexit, multiprocessing, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

class C:
    inputs = {{"x": "float64"}}
    outputs = {{"y": "float64"}}

    def __init__(self, files, device):
        {begins}

    def predict(self, rows):
        return {{"y": rows["x"]}}
"""
BEGUN = {
    "a thread": "threading.Thread(target=time.sleep, args=(3600,)).start()",
    "a pool of threads": "ThreadPoolExecutor(1).submit(time.sleep, 3600)",
    "a process": "multiprocessing.get_context('fork').Process(target=time.sleep, args=(3600,)).start()",
    "a word at the end": "atexit.register(time.sleep, 3600)",
}


@pytest.mark.usefixtures("producer")
@pytest.mark.parametrize("case", BEGUN)
def test_adding_a_class_ends_whatever_it_began(programs: Programs, tmp_path: Path, case: str) -> None:
    (tmp_path / "own.py").write_text(CLASS.format(begins=BEGUN[case]))

    added = programs.start("scorebeat.ops.cli", "models", "add", "own:C", "--name", "own", PYTHONPATH=str(tmp_path))

    assert added.wait(60) == 0, programs.log(added)
    assert "model own/1 added and published" in programs.log(added)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_adding_that_is_stopped_leaves_nothing(
    producer: Producer, programs: Programs, tmp_path: Path, how: signal.Signals
) -> None:
    store, begun = Path(producer.settings.artifacts), tmp_path / "begun"
    (tmp_path / "own.py").write_text(CLASS.format(begins=f"Path({str(begun)!r}).touch(); time.sleep(3600)"))
    adding = programs.start("scorebeat.ops.cli", "models", "add", "own:C", "--name", "own", PYTHONPATH=str(tmp_path))
    wait_for(begun.exists)
    (draft,) = store.glob(".adding-*")
    assert draft.stat().st_mode & 0o077 == 0

    adding.send_signal(how)

    assert adding.wait(60) == (130 if how is signal.SIGINT else -how)
    assert [*store.iterdir()] == []
