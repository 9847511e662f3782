"""The command line, `scorebeat`."""

import sys

from scorebeat.core.import_path import search_working_folder_last
from scorebeat.ops.cli.ending import end

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def main() -> None:
    """Run the command of `sys.argv` and end with its exit code."""
    search_working_folder_last()
    try:
        from scorebeat.ops.cli.app import cli  # noqa: PLC0415 -- `import scorebeat.ops.cli` stays cheap for those who want one module of it

        cli.main()
    except SystemExit as ended:
        end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except KeyboardInterrupt:  # while it was loading; later the command itself says so
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
