"""TOML with line numbers: the values of `tomllib`, and their lines."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.jobs.toml_lines import read

KEY_NAMES = st.sampled_from(["a", "b", '"c d"', "'e'"])
VALUES = st.sampled_from(
    ["1", '"x"', "'''\n[a]\nb = 1\n'''", '"""\n# no comment\n"""', '[\n "]",\n 2, # ]\n]', "{ x = 1, y = { z = 2 } }"]
)
BLOCKS = st.lists(
    st.tuples(st.sampled_from(["", "\n", "# [a]\n"]), st.dictionaries(KEY_NAMES, VALUES, max_size=3)), max_size=5
)


@given(BLOCKS)
def test_reading_by_lines_returns_what_toml_does_and_each_line_is_right(
    blocks: list[tuple[str, dict[str, str]]],
) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for number, (before, keys) in enumerate(blocks):
        lines += [*before.splitlines(), f"[jobs.j{number}]"]
        for key, value in keys.items():
            expected["jobs", f"j{number}", key.strip("\"'")] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)

    (document,), found = read(text)

    assert found == []
    assert document.data == tomllib.loads(text)
    assert {path: document.line(path) for path in expected} == expected


@given(st.text("[]jobs.a=\"'\n #1{},", max_size=60))
def test_any_text_is_toml_or_has_a_mistake(text: str) -> None:
    _, found = read(text)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert found
    else:
        assert not found
