"""A model's changes of its process do not outlive its call, and are there again at its next one."""

import gc
import locale
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.models.artifact import Artifact
from scorebeat.models.formats import registry
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.scoring.surroundings import Surroundings
from tests.contract.python_files import Write

pytestmark = pytest.mark.timeout(300, method="thread")  # the other one has the alarm

CLASS = """
import gc, locale, logging, os, signal, socket, sys, tempfile, time, warnings
import numpy as np

class C:
    inputs = {{"x": "int64"}}
    outputs = {{"seen": "string"}}

    def __init__(self, files, device):
        {load}

    def predict(self, rows):
        seen = str({seen})
        {call}
        return {{"seen": [seen] * len(rows)}}
"""
ROWS = pa.RecordBatch.from_pydict({"x": [1, 2]})

CHANGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "chdir": ("os.chdir('/')", Path.cwd),
    "a new variable": ("os.environ['SCOREBEAT_WINDOW'] = 'many'", lambda: os.environ.get("SCOREBEAT_WINDOW")),
    "a variable taken away": ("os.environ.pop('PATH', None)", lambda: os.environ.get("PATH")),
    "a zone": ("os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()", lambda: time.localtime(0).tm_hour),
    "a handler": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", lambda: signal.getsignal(signal.SIGTERM)),
    "an alarm": (
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.alarm(600)",
        lambda: (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]),
    ),
    "a blocked signal": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])",
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []),
    ),
    "umask": ("os.umask(0o777)", lambda: (found := os.umask(0o022), os.umask(found))[0]),
    "locale": (
        "locale.setlocale(locale.LC_ALL, 'C' if locale.setlocale(locale.LC_ALL) != 'C' else 'C.UTF-8')",
        lambda: locale.setlocale(locale.LC_ALL),
    ),
    "warnings": ("warnings.simplefilter('error')", lambda: [*warnings.filters]),
    "a closed stderr": ("os.close(2)", lambda: os.fstat(2).st_ino),
    "a stderr of its own": ("os.dup2(os.open('/dev/null', os.O_WRONLY), 2)", lambda: os.fstat(2).st_ino),
    "sys.stdout": ("sys.stdout = open('/dev/null', 'w')", lambda: sys.stdout),
    "a log that is silent": ("logging.disable(logging.CRITICAL)", lambda: logging.getLogger().isEnabledFor(40)),
    "a log of its own": (
        "logging.basicConfig(force=True, level=50)",
        lambda: ([*logging.getLogger().handlers], logging.getLogger().level),
    ),
    "numpy": ("np.seterr(all='raise')", np.geterr),
    "sockets": ("socket.setdefaulttimeout(0.001)", socket.getdefaulttimeout),
    "sys.path": ("sys.path.insert(0, '/tmp')", lambda: [*sys.path]),
    "no collection": ("gc.disable()", gc.isenabled),
}


@pytest.fixture
def loaded(write: Write, add: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The predictions of a class of this code, as a worker has them; a failed test leaves no mark."""
    monkeypatch.setenv("TZ", "UTC")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    root, streams, stderr = logging.getLogger(), (sys.stdout, sys.stderr), os.dup(2)
    before = ([*root.handlers], root.level, [*sys.path], np.geterr(), locale.setlocale(locale.LC_ALL))

    def load(load: str = "pass", call: str = "pass", seen: str = "None") -> Callable[[], list[Any]]:
        write("own.py", CLASS.format(load="pass", call="pass", seen="None"))
        artifact = add("own:C")
        around = Surroundings("own/1").entered
        code = artifact.folder / "code" / "own.py"  # what it does, it does here and not when it is added
        code.write_text(CLASS.format(load=load, call=call, seen=seen))
        with around():
            model = registry.load(artifact)
        micro = MicroBatches(model, around=around)
        return lambda: micro.predict(ROWS).column("seen").to_pylist()

    yield load
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:], sys.path[:] = before[0], before[2]
    root.setLevel(before[1])
    logging.disable(logging.NOTSET)
    np.seterr(**before[3])
    locale.setlocale(locale.LC_ALL, before[4])
    socket.setdefaulttimeout(None)
    gc.enable()
    sys.stdout, sys.stderr = streams
    os.dup2(stderr, 2)
    os.close(stderr)
    with suppress(KeyError):
        del os.environ["SCOREBEAT_WINDOW"]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("when", ["load", "call"])
def test_a_models_changes_of_its_process_do_not_outlive_its_call(
    loaded: Callable[..., Any], case: str, when: str
) -> None:
    change, look = CHANGES[case]
    before = look()

    loaded(**{when: change})()

    assert look() == before


def test_the_changes_of_a_model_that_raises_are_undone_too(loaded: Callable[..., Any]) -> None:
    before = Path.cwd()

    with pytest.raises(ZeroDivisionError):
        loaded(call="os.chdir('/'); 1 / 0")()

    assert Path.cwd() == before


def test_a_model_finds_its_own_folder_and_variables_again(loaded: Callable[..., Any]) -> None:
    predict = loaded(load="os.chdir('/usr'); os.environ['OWN'] = 'yes'", seen="(os.getcwd(), os.environ['OWN'])")

    assert predict() == predict() == [str(("/usr", "yes"))] * 2
    assert "OWN" not in os.environ


def test_a_state_that_a_model_does_not_find_again_is_reported_once(
    loaded: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    predict = loaded(call="gc.disable()")

    predict(), predict()

    (record,) = [r for r in caplog.records if r.getMessage() == "model.surroundings_restored"]
    assert vars(record)["scorebeat_fields"] == {"model": "own/1", "changed": "garbage collection"}
