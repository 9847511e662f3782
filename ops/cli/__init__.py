"""The command line, `scorebeat`."""

import os
import socket
import sys

from scorebeat.core.import_path import search_working_folder_last
from scorebeat.ops.cli.ending import end

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def main() -> None:
    """Run the command of `sys.argv` and end with its exit code."""
    search_working_folder_last()
    if sys.argv[1:2] == ["health"] and _is_alive(sys.argv[2:]):
        return
    if sys.argv[1:3] == ["models", "add"] or sys.argv[1:2] == ["predict"]:  # they run a model's code
        from scorebeat.core import watched_command  # noqa: PLC0415 -- for these commands alone: `health` must be fast

        watched_command.watched(_run)
    _run()


def _run() -> None:
    try:
        from scorebeat.ops.cli.app import cli  # noqa: PLC0415 -- `import scorebeat.ops.cli` must stay cheap for those who need one module of it

        cli.main()
    except SystemExit as ended:
        end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except KeyboardInterrupt:  # while it was loading; later the command itself reports it
        sys.stderr.write("interrupted\n")
        end(INTERRUPTED)


def _is_alive(processes: list[str]) -> bool:
    """A fast health check, without the libraries of the command line. False if it cannot be sure, so that the command
    itself checks."""
    url = os.environ.get("SCOREBEAT_DATABASE_URL", "")
    if processes not in (["worker"], ["control"], ["beat"]) or not url.startswith("postgresql://"):
        return False
    from scorebeat.db.processes import signs_of_life  # noqa: PLC0415 -- psycopg2, for this command alone

    if not signs_of_life.is_certain(url, processes[0], socket.gethostname()):
        return False
    sys.stdout.write(f"{processes[0]} is alive\n")
    return True
