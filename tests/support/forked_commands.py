"""`scorebeat`, `celery` and `python` for a test's PATH, as forks of the process of tests/support/fork_server.py.

A new Python takes one to eight seconds of CPU for its imports before a command does anything, a fork a tenth of one.
The folder `ForkServer.commands()` has a small program of each name, command_stub.py, which requests a fork with
its own arguments, environment, working folder and open files. The fork runs the installed script of that name, or the
file that `python` is to run, in a session of its own; it gets the signals of the small program, and is killed with it.

What a fork cannot show is an import that is missing: tests/docs/test_commands.py types the README without forks.
"""

import atexit
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[2]


def serve(connection: socket.socket) -> None:
    """Be the requested program, in a fork of this process, to its end."""
    try:
        become(handle(connection))
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        leave(ended.code or 0)
    leave(0)


def handle(connection: socket.socket) -> dict[str, Any]:
    """Fork once more, and report to the small program how that one ended. Returns the request in it."""
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
            os.waitpid(program, 0)  # nobody else would: it would stay, as a process that is not there
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
    elif arguments[0] == "-m":
        sys.argv, sys.path[:] = arguments[1:], [request["folder"], *installed]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
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
