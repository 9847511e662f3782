"""The pages as a site: every link leads somewhere, and the API's docstrings are in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scorebeat
from tests.docs.pages import REPOSITORY

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_search(site: Path) -> None:
    pages = [path.relative_to(REPOSITORY / "docs") for path in (REPOSITORY / "docs").rglob("*.md")]
    built = [page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html") for page in pages]
    assert [str(page) for page in built if not (site / page).exists()] == []
    found = (site / "search/search_index.json").read_text("utf-8")
    assert [str(page) for page in built if f'"{page.as_posix()}' not in found and page.name != "index.html"] == []


def test_the_public_names_are_described_from_the_code(site: Path) -> None:
    page = (site / "reference/python-api-docstrings.html").read_text("utf-8")
    for name in ("enqueue", "predictions", "predict", "apply"):
        assert f'id="scorebeat.Client.{name}"' in page
        assert str(getattr(scorebeat.Client, name).__doc__).split(".")[0].split("`")[0].strip() in page


def test_no_page_links_to_a_file_that_only_the_repository_has(site: Path) -> None:
    wrong = [page.name for page in site.rglob("*.html") if "nowhere-in-the-site" in page.read_text("utf-8")]
    assert wrong == []
