"""`scorebeat`, `celery` and `python` for a test's PATH, as forks of one process that has imported what they import.

A new Python takes one to eight seconds of CPU for its imports before a command does anything, a fork a tenth of one.
The folder `on_path()` has a small program of each name, tests/command_stub.py, which asks the server for a fork with
its own arguments, environment, working folder and open files. The fork runs the installed script of that name, or the
file that `python` is to run, in a session of its own; it gets the signals of the small program, and is killed with it.

What a fork cannot show is an import that is missing: tests/docs/test_commands.py types the README without forks.
"""

import atexit
import gc
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from scorebeat.models.formats.light_skops import skops_io
from tests.fork_server import IMPORTED, REPOSITORY

NAMES = ("scorebeat", "celery", "python")
COMMANDS = (
    "act", "app", "backfill", "checks", "enqueue", "health", "jobs", "look", "metrics", "models", "models_change",
    "predict", "prune", "psql", "serve", "setup", "stack", "versions", "watch", "worker",
)  # fmt: skip
"""Modules of `scorebeat.ops.cli`."""
LIBRARIES = ("pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.preprocessing", "uvicorn")
_servers: list["subprocess.Popen[bytes]"] = []


@cache
def on_path() -> Path:
    """The folder of the small programs; their server is begun with the first call and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="commands-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCOREBEAT_")}
    known = {"bin": str(Path(sys.executable).parent), "environment": environment}
    (folder / "known.json").write_text(json.dumps(known))
    stub = (REPOSITORY / "tests/command_stub.py").read_text("utf-8")
    for name in NAMES:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{stub}")  # without the folders and settings of a user
        (folder / name).chmod(0o755)
    command = [sys.executable, "-m", "tests.forked_commands", str(folder)]
    server = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    _servers.append(server)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return folder


def serve(folder: Path) -> socket.socket | None:
    """Fork for each request. Returns its connection in the process that is to answer it, None when all is over."""
    for name in (*IMPORTED, *LIBRARIES, *(f"scorebeat.ops.cli.{name}" for name in COMMANDS)):
        import_module(name)
    skops_io()  # all of scikit-learn
    threadpool_limits(1)  # threads of many commands that wait for each other on few cores cost ten times more
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        os.write(1, b"ready\n")
        while 0 not in select.select([0, listener.fileno()], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                return connection
            connection.close()
            with suppress(ChildProcessError):  # there is none
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    shutil.rmtree(folder)
    return None


def answer(connection: socket.socket) -> dict[str, Any]:
    """Fork once more, and tell the small program how that one ended. Returns the request in it."""
    length, files, _, _ = socket.recv_fds(connection, 4, 3)
    request = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    program = os.fork()
    if program == 0:
        connection.close()
        return {**request, "files": files}
    for file in files:
        os.close(file)
    ended = os.pidfd_open(program)
    while ended not in select.select([connection.fileno(), ended], [], [])[0]:
        if number := connection.recv(1):
            os.kill(program, number[0])
        else:  # the small program was killed
            os.kill(program, signal.SIGKILL)
            with suppress(ProcessLookupError):  # it had not begun a session yet
                os.killpg(program, signal.SIGKILL)
            os._exit(0)
    _, status = os.waitpid(program, 0)
    with suppress(OSError):  # as above
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Run the program as a shell would have."""
    os.setsid()
    for target, opened in enumerate(request["files"]):
        os.dup2(opened, target)
        os.close(opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no one has replaced it
    time.tzset()
    random.seed()
    np.random.seed()  # the state that libraries share
    program, arguments = request["program"], request["arguments"]
    installed = [path for path in sys.path if path not in ("", str(REPOSITORY))]
    if Path(program).name != "python":
        sys.argv, sys.path[:] = [program, *arguments], [str(Path(program).parent), *installed]
        runpy.run_path(program, run_name="__main__")
    elif arguments[0] == "-c":
        sys.argv, sys.path[:] = ["-c", *arguments[2:]], ["", *installed]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 -- as Python does
    else:
        sys.argv, sys.path[:] = arguments, [str(Path(arguments[0]).resolve().parent), *installed]
        runpy.run_path(arguments[0], run_name="__main__")


def leave(code: int) -> None:
    """End as Python does, but take nothing apart: that would copy all the memory that is shared with the server."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads; it has no other name
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    asked = serve(Path(sys.argv[1]))
    if asked is not None:
        try:
            become(answer(asked))
        except SystemExit as ended:
            if not isinstance(ended.code, int | None):
                raise
            leave(ended.code or 0)
        leave(0)
