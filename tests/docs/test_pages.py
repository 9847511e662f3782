"""The tests of the pages read them as a reader does, and do not let a wrong output pass."""

import pytest

from tests.docs.pages import REPOSITORY, Page, commands, shows

PAGE = """# A page
Save this as `x.toml`:

```toml
a = 1
```

<!-- ends with 1 -->
```console
$ one "two
> three"
said
...
$ four
```

## A page
[there](#a-page-1), `[not](a-link)`
"""


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        (("all",), "all\n"),
        (("run ... ends", "..."), "run 7 ends\nmore\nand more\n"),
        (("run ... ends", "..."), "run 7 ends\n"),
        (("...", "last"), "first\nsecond\nlast"),
        (("a  b",), "a      b   \n"),
        (("200 rows in ... s, ...",), "200 rows in 0.4 s, 7 rows/s\n"),
    ],
)
def test_dots_match_anything_and_spaces_match_one_another(expected: tuple[str, ...], output: str) -> None:
    assert shows(expected, output)


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        (("all",), "all\nand more\n"),
        (("all",), "al\n"),
        (("200 rows",), "200,000 rows\n"),
        (("run ... ends",), "run 7\nends\n"),
        (("...", "last"), "last\nbut one\n"),
        (("a.b",), "a-b\n"),
        (("word",), ""),
    ],
)
def test_any_other_output_is_not_the_one_that_is_shown(expected: tuple[str, ...], output: str) -> None:
    assert not shows(expected, output)


def test_a_page_is_read_with_its_files_notes_commands_and_anchors() -> None:
    page = Page(REPOSITORY / "page.md", PAGE)
    saved, typed = page.blocks

    assert (saved.file, saved.text, saved.line) == ("x.toml", "a = 1\n", 5)
    assert typed.note == "ends with 1"
    assert [(c.text, c.output) for c in commands(typed)] == [('one "two\nthree"', ("said", "...")), ("four", ())]
    assert page.anchors == {"a-page", "a-page-1"}
    assert list(page.links) == [(18, "#a-page-1")]


def test_a_block_that_is_never_closed_is_noticed() -> None:
    with pytest.raises(AssertionError, match="never closed"):
        _ = Page(REPOSITORY / "page.md", "text\n```sh\nls\n").blocks
