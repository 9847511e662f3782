"""The targets of the pages exist: links, anchors, files, tests, and each other."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY, Page, every_page, titles_of_tests

PAGES = every_page()
BY_PATH = {page.path: page for page in PAGES}
ROOMS = "client|core|db|models|producer|worker|ops|monitor|api|examples|benchmarks|tests|docs"
PATH = re.compile(rf"(?:(?:{ROOMS})/[\w./-]*|[\w-]+\.md|Makefile|pyproject\.toml|\.env\.example)")
TEST = re.compile(r"test_\w+")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_every_link_leads_somewhere(page: Page) -> None:
    broken = [f"{page.name}:{line}: {target}" for line, target in page.links if not _exists(page, target)]
    assert not broken


@each_page
def test_every_file_that_a_page_names_is_there(page: Page) -> None:
    saved = {block.file for block in page.blocks}  # by the reader, in a project of theirs
    named = [(line, word) for line, word in page.code if PATH.fullmatch(word) and word not in saved]
    here = (REPOSITORY, page.path.parent)
    missing = [f"{page.name}:{line}: {word}" for line, word in named if not any((at / word).exists() for at in here)]
    assert not missing


@each_page
def test_every_test_that_a_page_names_is_there(page: Page) -> None:
    missing = [
        f"{page.name}:{line}: {word}"
        for line, word in page.code
        if TEST.fullmatch(word) and word not in titles_of_tests()
    ]
    assert not missing


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [REPOSITORY / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path not in BY_PATH:
            continue
        reached.add(path)
        for _, target in BY_PATH[path].links:
            found = (path.parent / target.partition("#")[0]).resolve()
            waiting += found.glob("*.md") if found.is_dir() else [found]
    assert sorted(page.name for page in PAGES if page.path not in reached) == []


def _exists(page: Page, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True  # another site's, which a test must not request
    file, _, anchor = target.partition("#")
    found = (page.path.parent / file).resolve() if file else page.path
    if not anchor:
        return found.exists()
    return found in BY_PATH and anchor in BY_PATH[found].anchors
