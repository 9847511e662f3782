"""Asks a person before something is dropped."""

import sys

import click

from scorebeat.core.errors import UsageError


def require_yes(question: str, became: str = "Nothing was dropped.") -> None:
    """Return if the person answers yes. Raises UsageError if there is no terminal, click.Abort after a no."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer on: use --yes. {became}")
    click.confirm(question, abort=True)
