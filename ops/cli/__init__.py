"""The command line, `scorebeat`."""

import os
import socket
import sys
from contextlib import suppress

from scorebeat.core.process.import_path import search_working_folder_last
from scorebeat.ops.cli.ending import end

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""
DATABASE_URL = "SCOREBEAT_DATABASE_URL"
"""As `core.settings` takes it, from the environment or `.env`; that module loads too slowly for a health check."""


def main() -> None:
    """Run the command of `sys.argv` and end with its exit code."""
    search_working_folder_last()
    if sys.argv[1:2] == ["health"] and _is_alive(sys.argv[2:]):
        return
    if sys.argv[1:3] == ["models", "add"] or sys.argv[1:2] == ["predict"]:  # they run a model's code
        from scorebeat.core.process import watched_command  # noqa: PLC0415 -- for these commands alone: `health` must be fast

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
    if processes not in (["worker"], ["control"], ["beat"]):
        return False
    url = os.environ.get(DATABASE_URL)
    if not url:
        from dotenv import dotenv_values  # noqa: PLC0415 -- takes a thirtieth of a second

        with suppress(OSError, UnicodeDecodeError):  # `.env` cannot be read
            url = {key.upper(): value for key, value in dotenv_values(".env").items()}.get(DATABASE_URL)
    if not url or not url.startswith("postgresql://"):
        return False
    from scorebeat.core.errors import ServiceDown  # noqa: PLC0415 -- as below
    from scorebeat.db.processes import signs_of_life  # noqa: PLC0415 -- psycopg2, for this command alone

    host = socket.gethostname()
    try:
        if not signs_of_life.in_time(url, lambda: signs_of_life.is_certain(url, processes[0], host)):
            return False
    except ServiceDown as error:
        sys.stderr.write(f"error: {error}\n")
        end(error.exit_code)
    sys.stdout.write(f"{processes[0]} is alive\n")
    return True
