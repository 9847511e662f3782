"""A command on a test's PATH that a server forks: fork_server.py copies this file and adds the first line.

It hands its arguments, environment, working folder and open files over, passes signals on, and ends as the fork ended.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress

HERE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 -- pathlib takes longer than all the rest


def main() -> None:
    with open(f"{HERE}/known.json", encoding="utf-8") as file:  # noqa: PTH123 -- as above
        known = json.load(file)
    program = f"{known['bin']}/{os.path.basename(__file__)}"  # noqa: PTH119 -- as above
    if not _read_at_start(program) <= known["environment"].items() or not _is_known(program, sys.argv[1:]):
        os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 -- the real one; no shell is wanted
    request = {"program": program, "arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109 -- as above
    text = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"{HERE}/socket")
        socket.send_fds(server, [len(text).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(text)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        code = int(server.recv(16))
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _read_at_start(program: str) -> set[tuple[str, str]]:
    """Variables that the loader, Python and Celery read once, when they start: a fork would not see them."""
    names = ("LD_", "PYTHON", *(["REMAP_SIGTERM"] if program.endswith("/celery") else []))
    return {(n, v) for n, v in os.environ.items() if n.startswith(names) and n != "PYTHONUNBUFFERED"}


def _is_known(program: str, arguments: list[str]) -> bool:
    """Of Python only `python FILE`, `python -c` and `python -m`; it has many more options."""
    return not program.endswith("/python") or (
        bool(arguments) and (arguments[0] in ("-c", "-m") or not arguments[0].startswith("-"))
    )


if __name__ == "__main__":
    main()
