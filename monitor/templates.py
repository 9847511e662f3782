"""Our templates, which come before Flower's, and our tab in its navigation."""

from pathlib import Path

from tornado.template import BaseLoader, Template

OURS = Path(__file__).parent / "templates"
PLAIN = "flower/"
"""Prefix of a template's name: Flower's own template, if ours has the same name."""
NAVIGATION = "navbar.html"
_END_OF_TABS = "</ul>"


class Templates(BaseLoader):
    """Looks in our folder, then in Flower's."""

    def __init__(self, flowers: Path) -> None:
        super().__init__()
        self._flowers = flowers

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        del parent_path  # neither folder has subfolders
        return name

    def _create_template(self, name: str) -> Template:
        if name == NAVIGATION:
            return Template(self.navigation(), name=name, loader=self)
        own = OURS / name
        path = own if own.is_file() else self._flowers / name.removeprefix(PLAIN)
        return Template(path.read_bytes(), name=name, loader=self)

    def navigation(self) -> str:
        """Flower's navigation with our tab at the end of its first list. Raises ValueError if it has no list."""
        before, end, after = (self._flowers / NAVIGATION).read_text("utf-8").partition(_END_OF_TABS)
        if not end:
            raise ValueError(f"Flower's {NAVIGATION} has no {_END_OF_TABS}")
        return before + (OURS / "tab.html").read_text("utf-8") + end + after
