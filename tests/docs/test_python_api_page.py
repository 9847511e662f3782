"""The reference page of the Python API: its names and signatures are those of the code."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scorebeat
from scorebeat.client.models import Models
from tests.docs.pages import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/python-api.md").read_text("utf-8")
CALL = re.compile(r"`([\w.]+)(?:\(([^`]*)\))?`")
PUBLIC = {"Client": (scorebeat.Client, ""), "Models": (Models, "models."), "Run": (scorebeat.Run, "")}


def documented(section: str) -> dict[str, str | None]:
    """The calls in the first column of a section's table, with their parameters; None for an attribute."""
    rows = PAGE.split(f"## {section}\n")[1].partition("\n## ")[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", row)[1] for row in rows if row.startswith("| `")]
    return {call[1]: call[2] for cell in cells for call in CALL.finditer(cell)}


def signature(function: object) -> dict[str, object]:
    """The parameters by name; `*` stands before those that are keywords only."""
    assert callable(function)
    found: dict[str, object] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            found.setdefault("*", None)
        if parameter.name != "self":
            found[parameter.name] = parameter.default
    return found


@pytest.mark.parametrize("kind", PUBLIC)
def test_the_signatures_on_the_page_are_those_of_the_code(kind: str) -> None:
    public, prefix = PUBLIC[kind]
    page = documented("Run" if kind == "Run" else "Client")

    for name, member in vars(public).items():
        if name.startswith("_") or not inspect.isfunction(member):
            continue
        written = page[prefix + name]
        if written == "...":
            continue  # the page has it as the same call of another object
        parts = [part.strip().partition("=") for part in (written or "").split(",") if part.strip()]
        code = signature(member)
        assert [part[0] for part in parts] == list(code), f"{kind}.{name}"
        defaults = {part[0]: part[2].replace('"', "'") for part in parts if part[1]}
        assert defaults == {each: repr(code[each]) for each in defaults}, f"{kind}.{name}"


def test_every_call_on_the_page_is_in_the_code() -> None:
    code = {f"{prefix}{name}" for kind, (public, prefix) in PUBLIC.items() if kind != "Run" for name in dir(public)}

    assert set(documented("Client")) - code == set()
    assert set(documented("Run")) - {"id", "is_new"} - set(dir(scorebeat.Run)) == set()


def test_every_exported_name_is_on_the_page() -> None:
    names = set(re.findall(r"`(\w+)[`(]", PAGE.split("## scorebeat\n")[1].partition("\n## ")[0]))

    assert set(scorebeat.__all__) - names == set()


def test_a_type_checker_finds_a_misspelt_name_and_knows_all_others(tmp_path: Path) -> None:
    right = "\n".join(f"scorebeat.{name}" for name in scorebeat.__all__)
    (tmp_path / "right.py").write_text(f"import scorebeat\n{right}\n")
    (tmp_path / "wrong.py").write_text("import scorebeat\nscorebeat.conect()\n")

    def check(file: str) -> subprocess.CompletedProcess[str]:
        # what the package itself imports is not read: that would take a minute
        options = ["--config-file=", "--follow-imports=skip", f"--cache-dir={tmp_path / 'cache'}"]
        package = str(REPOSITORY / "src/scorebeat/__init__.py")
        command = [sys.executable, "-m", "mypy", *options, package, str(tmp_path / file)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    wrong, known = check("wrong.py"), check("right.py")

    assert 'Module has no attribute "conect"' in wrong.stdout, wrong
    assert known.returncode == 0, known
