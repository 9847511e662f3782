"""Adds pages to the site that are not in docs/: those of the repository's root, and the API's docstrings."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PROJECT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the repository's root, shown under project/."""
API = "reference/python-api-docstrings.md"
NAMES = ("connect", "Client", "Run", "Progress")
ABSENT = "nowhere-in-the-site"
"""A marker for the target of a link until the link is removed."""
_WITHOUT = re.compile(rf"!?\[([^\]]*)\]\({ABSENT}\)")
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def on_config(config: Any) -> None:
    """Replace `folder/*` in the navigation by the pages of that folder, in the order of their file names."""
    for section in config.nav:
        for title, pages in section.items() if isinstance(section, dict) else ():
            if isinstance(pages, str) and pages.endswith("/*"):
                section[title] = _pages(pages.removesuffix("*"))


def on_files(files: Files, config: Any) -> Files:
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", abs_src_path=str(ROOT / name)))
    text = "# Python API, from the code\n\n" + "\n\n".join(f"::: scorebeat.{name}" for name in NAMES)
    models = "\n\n::: scorebeat.client.models.Models\n"
    files.append(File.generated(config, API, content=text + models))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 -- mkdocs calls it so
    """Change links of the repository to links of the site. A link to a file outside the site becomes text."""
    here = page.file.src_uri
    beside = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(beside), found[1]))
        target = posixpath.join(target, "README.md") if (ROOT / target).is_dir() else target
        site = f"project/{target}" if target in PROJECT else target.removeprefix("docs/")
        if site == target or files.get_file_from_path(site) is None:
            return ABSENT
        return posixpath.relpath(site, posixpath.dirname(here) or ".") + (found[2] or "")

    return _WITHOUT.sub(r"\1", _LINK.sub(moved, markdown))


def _pages(folder: str) -> list[str]:
    if folder == "project/":
        return [f"project/{name}" for name in PROJECT]
    found = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / folder).glob("*.md"))
    return [*found, API] if folder == "reference/" else found
