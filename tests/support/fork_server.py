"""Programs of tests, forked from one process that has imported what they import: most of a start's time is saved.

`python -m tests.support.fork_server FOLDER` reads one request a line and writes the process id of the program.
The program is nobody's child then, and falls to the nearest ancestor that takes in orphans: `ForkServer` makes the
test's process one. The same server forks the commands of a test's PATH, forked_commands.py, which request it over
a socket in the folder.
"""

import ctypes
import gc
import json
import os
import random
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from scorebeat.models.formats.shared.light_skops import skops_io
from scorebeat.ops.cli import commands
from tests.support import forked_commands

REPOSITORY = Path(__file__).parents[2]
IMPORTED = (
    "adbc_driver_postgresql.dbapi", "alembic.command", "celery.apps.beat", "celery.apps.worker", "celery.bin.celery",
    "celery.concurrency.prefork", "celery.events.state", "flower.command", "kombu.transport.redis", "pandas",
    "pyarrow.compute", "pyarrow.dataset", "pyarrow.json", "scorebeat.db.batch_io.columns",
    "scorebeat.db.ledger.batches", "scorebeat.db.schema.migrate", "scorebeat.models.inputs.binding",
    "scorebeat.models.store.store", "scorebeat.producer.control.plan", "scorebeat.producer.requests.apply",
    "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing",
    "sqlalchemy.dialects.postgresql.psycopg2", "uvicorn",
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
        self._folder = Path()
        self._turn = threading.Lock()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
        """`python -m ARGUMENTS` in the repository, in a session of its own; its output goes into the log."""
        request = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        assert ctypes.CDLL(None).prctl(_TAKE_IN_ORPHANS, 1, 0, 0, 0) == 0
        with self._turn:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
        return Forked(pid, [sys.executable, "-m", *arguments])

    def commands(self) -> Path:
        """A folder of programs for a test's PATH, forked_commands.py, which has known.json: what a
        program must have in common with the server to be forked."""
        with self._turn:
            self._running()
        stub = (REPOSITORY / "tests/support/command_stub.py").read_text("utf-8")
        for name in ("scorebeat", "celery", "python"):
            program = self._folder / name
            if not program.exists():
                program.write_text(f"#!{sys.executable} -IS\n{stub}")  # without the folders and settings of a user
                program.chmod(0o755)
        return self._folder

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._folder = Path(tempfile.mkdtemp(prefix="forks-"))
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SCOREBEAT_")}
            known = {"bin": str(Path(sys.executable).parent), "environment": environment}
            (self._folder / "known.json").write_text(json.dumps(known))
            command = [sys.executable, "-u", "-m", "tests.support.fork_server", str(self._folder)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdin=pipe, stdout=pipe, start_new_session=True
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == b"ready\n"
        return self._process


FORKS = ForkServer()
"""That of this process."""


def serve(folder: Path) -> dict[str, Any] | socket.socket | None:
    """Fork for each request. Returns the request, or the connection that it comes over, in a process that is to serve
    it, None when all is over."""
    modules = iter_modules(commands.__path__, f"{commands.__name__}.")
    for name in (*IMPORTED, "scorebeat.ops.cli.app", *(module.name for module in modules)):
        import_module(name)
    skops_io()  # all of scikit-learn: seconds for each process that loads a model
    threadpool_limits(1)  # a worker sets one thread before NumPy is loaded; here it is loaded by now
    gc.freeze()
    with open(0, "rb", buffering=0, closefd=False) as requests, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([0, listener.fileno()], [], [])
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    return connection
                connection.close()
                with suppress(ChildProcessError):  # there is none
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
            elif line := requests.readline():
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
            else:
                shutil.rmtree(folder)
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
    request = serve(Path(sys.argv[1]))
    if isinstance(request, socket.socket):
        forked_commands.serve(request)
    elif request is not None:
        become(request)
