"""The `scorebeat` command: which commands there are, and how each failure becomes one message and an exit code."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from click_didyoumean import DYMGroup
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, SettingsError, UsageError
from scorebeat.core.text.directions import visible
from scorebeat.core.urls import redact
from scorebeat.ops.cli import INTERRUPTED

BROKEN_PIPE = 141
"""Exit code after a broken pipe on standard output, as shells expect it."""

_COMMANDS = {
    "scorebeat.ops.cli.commands.installation.up": ("up", "demo"),
    "scorebeat.ops.cli.commands.installation.worker": ("worker",),
    "scorebeat.ops.cli.commands.installation.setup": ("migrate", "apply", "check"),
    "scorebeat.ops.cli.commands.runs.enqueue": ("plan", "enqueue"),
    "scorebeat.ops.cli.commands.runs.backfill": ("backfill",),
    "scorebeat.ops.cli.commands.jobs.jobs": ("jobs",),
    "scorebeat.ops.cli.commands.runs.runs": ("runs", "show", "failures"),
    "scorebeat.ops.cli.commands.runs.drift": ("drift", "release", "discard"),
    "scorebeat.ops.cli.commands.runs.watch": ("watch",),
    "scorebeat.ops.cli.commands.reports.metrics": ("metrics",),
    "scorebeat.ops.cli.commands.reports.cost": ("cost", "prices"),
    "scorebeat.ops.cli.commands.reports.quality": ("quality",),
    "scorebeat.ops.cli.commands.reports.report": ("report",),
    "scorebeat.ops.cli.commands.jobs.prune": ("prune",),
    "scorebeat.ops.cli.commands.runs.corrections": ("requeue", "cancel", "pause", "resume"),
    "scorebeat.ops.cli.commands.models.models": ("models",),
    "scorebeat.ops.cli.commands.models.versions": ("publish", "rollback"),
    "scorebeat.ops.cli.commands.models.predict": ("predict",),
    "scorebeat.ops.cli.commands.installation.psql": ("psql",),
    "scorebeat.ops.cli.commands.installation.api": ("api",),
    "scorebeat.ops.cli.commands.reports.health": ("health",),
}
_HOMES = {name: home for home, names in _COMMANDS.items() for name in names}


class Cli(DYMGroup):  # type: ignore[misc]  # click-didyoumean publishes no types
    """Imports a command's module when it is needed; suggests similar names for an unknown command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        home = _HOMES.get(cmd_name)
        if home is None:
            return None
        command: click.Command = getattr(importlib.import_module(home), cmd_name)
        return command

    # a broken pipe is caught here before click sees it, which reports it as failed work

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            context: click.Context = super().make_context(*args, **extra)
        except BrokenPipeError:
            raise click.exceptions.Exit(_reader_gone()) from None
        return context

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _reader_gone()

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> int:
        """Run a command; ends the process with 0, 1 (the work failed), 2 (wrong usage or configuration), 130 or 141."""
        extra["standalone_mode"] = False
        arguments = list(sys.argv[1:] if args is None else args)

        def run() -> Any:
            for argument in arguments:
                try:
                    argument.encode()
                except UnicodeEncodeError:  # Python makes lone surrogates of such bytes, which nothing can write
                    shown = repr(os.fsencode(argument)).removeprefix("b")
                    raise UsageError(f"the argument {shown} is not UTF-8; nothing was done. Type it in UTF-8") from None
            return super(Cli, self).main(arguments, prog_name or "scorebeat", **extra)

        sys.exit(guarded(run))


def guarded(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code. Every known failure is one message on standard error."""
    try:
        code = command()
        sys.stdout.flush()
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"\nSee `{context.command_path} --help`." if context is not None else ""
        return _report(error.format_message() + hint, error.exit_code)
    except ScorebeatError as error:
        # a settings error shows the form of a URL and no values; other errors may contain a password
        message = str(error) if isinstance(error, SettingsError) else redact(str(error))
        return _report(message, error.exit_code)
    except DBAPIError as error:
        return _report(redact(f"PostgreSQL refused it: {' '.join(str(error.orig).split())}"), ScorebeatError.exit_code)
    return code if isinstance(code, int) else 0


def _reader_gone() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports an error at its exit
    return BROKEN_PIPE


def _report(message: str, code: int) -> int:
    click.echo(f"error: {visible(message)}", err=True)
    return code


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="scorebeat")
def cli() -> None:
    """Batch inference on Celery: every row scored exactly once, whatever crashes.

    \b
    Example:
        scorebeat demo
    """
