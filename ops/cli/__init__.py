"""The command line, `scorebeat`."""

import sys


def main() -> None:
    """Run the command of `sys.argv` and end with its exit code."""
    from ops.cli.app import cli  # noqa: PLC0415 -- `import ops.cli` stays cheap for those who want one module of it

    sys.exit(cli.main())
