"""Our templates, which come before Flower's, and our tab in its navigation."""

from pathlib import Path

from tornado.template import DictLoader

from scorebeat.monitor.formatting import escaped

OURS = Path(__file__).parent / "templates"
PLAIN = "flower/"
"""Before a template's name: Flower's own, if ours has the same name."""
NAVIGATION = "navbar.html"
_END_OF_TABS = "</ul>"


def templates(flowers: Path) -> DictLoader:
    """Ours by their names, then Flower's. Raises ValueError if Flower's navigation has no list of tabs."""
    theirs = read(flowers)
    before, end, after = theirs.get(NAVIGATION, "").partition(_END_OF_TABS)
    if not end:
        raise ValueError(f"Flower's {NAVIGATION} has no {_END_OF_TABS}")
    ours = read(OURS)
    theirs[NAVIGATION] = before + ours["tab.html"] + end + after
    plain = {PLAIN + name: text for name, text in theirs.items()}  # what one of these extends is looked for among them
    return loader(theirs | ours | plain)


def loader(texts: dict[str, str]) -> DictLoader:
    """Of these templates, by their names. They write every value by `escaped`."""
    return DictLoader(texts, autoescape=escaped.__name__, namespace={escaped.__name__: escaped})


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.glob("*.html")}
