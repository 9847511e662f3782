"""The lists in the pages are those of the program: tables, types, settings, commands."""

import html
import re
from collections import defaultdict

import click
import pytest

from scorebeat.core.settings import PREFIX, Settings
from scorebeat.db.schema.tables import metadata
from scorebeat.db.source.values import types
from scorebeat.ops.cli.app import cli
from tests.docs.pages import REPOSITORY, Page, every_page

TABLES = REPOSITORY / "docs/reference/tables.md"
OURS = re.compile(r"(?:^|[\s/`])scorebeat ([a-z]+)(?= |$|`)")
TARGET = re.compile(r"\bmake ([a-z][a-z0-9-]*)(?!=)")


def test_every_column_of_the_ledger_is_in_its_reference_page() -> None:
    documented: dict[str, list[str]] = defaultdict(list)
    heading = ""
    for line in TABLES.read_text("utf-8").split("## The ledger")[1].splitlines():
        if line.startswith("### "):
            heading = line.strip("# `")
        elif line.startswith("| `"):
            documented[heading] += re.findall(r"`(\w+)`", line.split("|")[1])

    assert documented == {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}, (
        documented
    )


def test_every_type_that_is_read_or_stored_is_in_its_reference_page() -> None:
    read, stored = (_rows(heading) for heading in ("### What a query may give", "### What a model may give"))

    assert {name: arrow for names, arrow in read for name in re.findall(r"`(\w+)`", names)} == {
        name: str(how.arrow) for name, how in types._READ.items()
    }
    assert {arrow: re.findall(r"`(.+)`", column)[0] for arrow, column in stored} == {
        str(arrow): column for arrow, column in types._WRITE.items()
    }


def test_the_types_that_a_key_may_have_are_in_their_reference_page() -> None:
    match = re.search(r"A \*\*key\*\* may be ([^.]*?), or\s", TABLES.read_text("utf-8"))

    assert match is not None
    assert tuple(re.findall(r"`(\w+)`", match[1])) == types.KEYS


def test_the_example_of_an_environment_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (REPOSITORY / ".env.example").read_text("utf-8").splitlines()
    listed = dict(line[1:].split("=", 1) for line in lines if line.startswith(f"#{PREFIX}"))

    assert [name.removeprefix(PREFIX).lower() for name in listed] == list(Settings.model_fields)
    default = Settings(_env_file=None).model_dump()
    for name, value in listed.items():
        monkeypatch.setenv(name, value)
    shown = Settings(_env_file=None).model_dump()
    urls = {"database_url", "broker_url"}
    assert {n: v for n, v in shown.items() if n not in urls} == {n: v for n, v in default.items() if n not in urls}


@pytest.mark.parametrize("page", every_page(), ids=lambda page: page.name)
def test_every_command_that_a_page_names_is_there(page: Page) -> None:
    texts = [word for _, word in page.code]
    texts += [line for block in page.blocks if block.language in ("console", "text") for line in block.lines]
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert {name for text in texts for name in OURS.findall(text)} <= set(cli.list_commands(click.Context(cli)))
    assert {name for text in texts for name in TARGET.findall(text)} <= targets


def _rows(heading: str) -> list[tuple[str, str]]:
    """The cells of the table below a heading, both columns, without its head."""
    below = TABLES.read_text("utf-8").split(f"{heading}\n")[1].split("\n#")[0]
    cells = [
        [html.unescape(cell.strip()) for cell in line.split("|")[1:3]] for line in below.splitlines() if "|" in line
    ]
    return [(first, second) for first, second in cells[2:]]
