"""Our templates, which come before Flower's, and our tab in its navigation."""

from pathlib import Path

from tornado.template import DictLoader

OURS = Path(__file__).parent / "templates"
PLAIN = "flower/"
"""Before a template's name: Flower's own, if ours has the same name."""
NAVIGATION = "navbar.html"
_END_OF_TABS = "</ul>"


def templates(flowers: Path) -> DictLoader:
    """Ours by their names, then Flower's. Raises ValueError if Flower's navigation has no list of tabs."""
    theirs = _read(flowers)
    before, end, after = theirs.get(NAVIGATION, "").partition(_END_OF_TABS)
    if not end:
        raise ValueError(f"Flower's {NAVIGATION} has no {_END_OF_TABS}")
    ours = _read(OURS)
    theirs[NAVIGATION] = before + ours["tab.html"] + end + after
    plain = {PLAIN + name: text for name, text in theirs.items()}  # what one of these extends is looked for among them
    return DictLoader(theirs | ours | plain)


def _read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.glob("*.html")}
