"""Asking a person before something is taken away."""

import sys

import click

from scorebeat.core.errors import UsageError


def ask(question: str, became: str = "Nothing was dropped.") -> None:
    """Go on if the person says yes. Raises UsageError where nobody is there to answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer: say --yes. {became}")
    click.confirm(question, abort=True)
