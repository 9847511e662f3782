"""Flower starts with no login that anybody could guess: each has a name and a password."""

import subprocess
import sys

import click
import pytest
from tornado.options import OptionParser

from scorebeat.monitor.permissions import require_logins
from tests.support.fixtures import REPOSITORY, environment
from tests.support.ledger_fixtures import Ledger, ledger, trained

__all__ = ["ledger", "trained"]


@pytest.mark.parametrize(
    "entries", [["ann:"], ["ann"], [":"], [":s3cr3t"], [""], ["ann:s3cr3t", "ben"], ["ann:s3", "cr3t"]]
)
def test_an_entry_without_a_name_or_a_password_is_refused(entries: list[str]) -> None:
    with pytest.raises(click.UsageError, match="expected name:password") as refused:
        require_logins(parsed(entries))

    assert "s3" not in str(refused.value)


@pytest.mark.parametrize("entries", [["ann:pässwort"], ["änn:s3cr3t"], ["ann:s3cr3t", "ben:naïve"]])
def test_a_login_that_flower_cannot_compare_is_refused(entries: list[str]) -> None:
    with pytest.raises(click.UsageError, match="not ASCII") as refused:
        require_logins(parsed(entries))

    assert not any(login.partition(":")[2] in str(refused.value) for login in entries)


@pytest.mark.parametrize("entries", [[], ["ann:s3cr3t"], ["ann:s3:cr3t", "ben:x"]])
def test_others_are_taken(entries: list[str]) -> None:
    require_logins(parsed(entries))


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(("argument", "variable"), [("--basic-auth=ann:", None), (None, "ann:")])
def test_flower_does_not_start(ledger: Ledger, argument: str | None, variable: str | None) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "scorebeat.worker", "flower", "--port=0", *filter(None, [argument])],
        cwd=REPOSITORY,
        env=environment(ledger.settings) | ({"FLOWER_BASIC_AUTH": variable} if variable else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, "expected name:password" in result.stderr) == (2, True), result.stderr


def parsed(entries: list[str]) -> OptionParser:
    options = OptionParser()
    options.define("basic_auth", type=str, default=entries, multiple=True)
    return options
