"""Programs of tests, forked from one process that has imported what they import: most of a start's time is saved.

`python -m tests.fork_server` reads one request a line and writes the process id of the program that it began. The
program is nobody's child then, and falls to the nearest ancestor that takes in orphans: `ForkServer` makes the test's
process one.
"""

import ctypes
import gc
import json
import os
import random
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from scorebeat.models.formats.light_skops import skops_io

REPOSITORY = Path(__file__).parents[1]
IMPORTED = (
    "adbc_driver_postgresql.dbapi", "alembic.command", "celery.apps.beat", "celery.apps.worker", "celery.bin.celery",
    "celery.concurrency.prefork", "celery.events.state", "flower.command", "kombu.transport.redis", "pyarrow.compute",
    "pyarrow.dataset", "pyarrow.json", "scorebeat.db.batches", "scorebeat.db.columns", "scorebeat.db.schema",
    "scorebeat.models.binding", "scorebeat.models.store", "scorebeat.producer.apply", "scorebeat.producer.plan",
    "sklearn.linear_model", "sklearn.pipeline", "sqlalchemy.dialects.postgresql.psycopg2",
)  # fmt: skip
"""Libraries, and modules of ours that neither read settings nor connect signals when they are imported."""
_TAKE_IN_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


class Forked(subprocess.Popen[bytes]):
    """A program that the server began, as if this process had."""

    def __init__(self, pid: int, args: Sequence[str]) -> None:
        # what Popen's own methods read; nothing is started
        self.args, self.pid, self.returncode = list(args), pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._waitpid_lock = threading.Lock()
        self._sigint_wait_secs = 0.25
        self._input: bytes | None = None
        self._communication_started = False


class ForkServer:
    """Starts programs. Its own process is begun with the first of them, and ends with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
        """`python -m ARGUMENTS` in the repository, in a session of its own; what it says goes into the log."""
        request = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        with self._turn:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
        return Forked(pid, [sys.executable, "-m", *arguments])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            assert ctypes.CDLL(None).prctl(_TAKE_IN_ORPHANS, 1, 0, 0, 0) == 0
            command = [sys.executable, "-u", "-m", "tests.fork_server"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, start_new_session=True)
        return self._process


def serve() -> dict[str, Any] | None:
    """Fork for each request. Returns the request in a process that is to be the program, None when all is over."""
    for name in IMPORTED:
        import_module(name)
    skops_io()  # all of scikit-learn: seconds for each process that loads a model
    threadpool_limits(1)  # a worker asks for one thread before NumPy is loaded; here it is loaded by now
    gc.freeze()
    with open(0, "rb", buffering=0, closefd=False) as requests:
        while line := requests.readline():
            reading, writing = os.pipe()
            middle = os.fork()
            if middle == 0:
                program = os.fork()
                if program == 0:
                    os.close(reading)
                    os.close(writing)
                    return json.loads(line)  # type: ignore[no-any-return]  # as it was written above
                os.write(writing, str(program).encode())
                os._exit(0)
            os.waitpid(middle, 0)
            os.close(writing)
            os.write(1, os.read(reading, 20) + b"\n")
            os.close(reading)
    return None


def become(request: dict[str, Any]) -> None:
    """Run the program as `python -m` does, in its environment, with its log."""
    os.setsid()
    for target, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, target)
        os.close(opened)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    random.seed()
    np.random.seed()  # the state that libraries share
    module, *rest = request["arguments"]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    asked = serve()
    if asked is not None:
        become(asked)
