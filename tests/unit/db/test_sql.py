"""Names and values of users are quoted, and keys are compared as PostgreSQL's own row values."""

import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.db.connect.sql import (
    KeyColumn,
    KeyRange,
    after,
    among,
    ident,
    literal,
    row,
    same_key,
    subquery,
    texts,
    value,
    within,
)

ONE = (KeyColumn("id", "bigint"),)
TWO = (KeyColumn("cust", "text"), KeyColumn('a"s', "date"))


def test_an_identifier_cannot_be_left_by_its_quotes() -> None:
    assert ident('a"; DROP TABLE t; --') == '"a""; DROP TABLE t; --"'


def test_a_literal_cannot_be_left_by_its_quotes() -> None:
    assert literal("it's %s") == "'it''s %s'"
    assert literal("it's \\' %s") == " E'it''s \\\\'' %s'"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_every_text_is_read_back_from_its_literal(text: str) -> None:
    quoted = literal(text)

    assert quoted.startswith(" E'") is ("\\" in text)
    inner = quoted.removeprefix(" E")
    assert (inner[0], inner[-1]) == ("'", "'")
    for pair, one in (("''", "'"), ("\\\\", "\\")):
        assert inner[1:-1].replace(pair, "").count(one) == 0
    assert inner[1:-1].replace("''", "'").replace("\\\\", "\\") == text


@pytest.mark.parametrize("quote", [ident, literal])
def test_a_nul_is_refused(quote: object) -> None:
    assert callable(quote)
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_one_key_column_is_compared_alone() -> None:
    assert row(ONE, "q") == 'q."id"'
    assert value(ONE, ("7",)) == "'7'::bigint"
    assert within(ONE, "q", KeyRange(("1",), ("9",))) == "q.\"id\" >= '1'::bigint AND q.\"id\" <= '9'::bigint"
    assert after(ONE, "q", ("7",)) == "q.\"id\" > '7'::bigint"
    assert among(ONE, "q", [("1",), ("9",)]) == "q.\"id\" = ANY (ARRAY['1', '9']::bigint[])"


def test_several_key_columns_are_compared_as_one_row() -> None:
    low, high = ("x", "2024-01-01"), ("y'z", "2024-01-02")

    assert row(TWO, "q") == '(q."cust", q."a""s")'
    assert value(TWO, high) == "('y''z'::text, '2024-01-02'::date)"
    assert within(TWO, "q", KeyRange(low, high)) == (
        '(q."cust", q."a""s") >= (\'x\'::text, \'2024-01-01\'::date)'
        " AND (q.\"cust\", q.\"a\"\"s\") <= ('y''z'::text, '2024-01-02'::date)"
        " AND q.\"cust\" >= 'x'::text AND q.\"cust\" <= 'y''z'::text"
    )
    assert after(TWO, "q", low) == '(q."cust", q."a""s") > (\'x\'::text, \'2024-01-01\'::date)'
    assert among(TWO, "q", [low, high]) == (
        '(q."cust", q."a""s") IN (SELECT * FROM'
        " unnest(ARRAY['x', 'y''z']::text[], ARRAY['2024-01-01', '2024-01-02']::date[]))"
    )
    assert same_key(TWO, "p", "q") == 'p."cust" = q."cust" AND p."a""s" = q."a""s"'
    assert texts(TWO, "q") == 'q."cust"::text, btrim(to_json(q."a""s")::text, \'"\')'


def test_a_key_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        value(TWO, ("x",))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("SELECT 1", "(\nSELECT 1\n) AS q"),
        ("SELECT 1 -- end", "(\nSELECT 1 -- end\n) AS q"),
        ("SELECT 1;\n ; ", "(\nSELECT 1\n) AS q"),
    ],
)
def test_a_query_is_wrapped_so_that_its_end_cannot_swallow_the_bracket(query: str, wanted: str) -> None:
    assert subquery(query) == wanted


def test_our_quoting_agrees_with_the_driver() -> None:
    for text in ("a'b", 'a"b', "%", "ä", ""):
        adapted = psycopg2.extensions.QuotedString(text)
        adapted.encoding = "utf8"
        assert adapted.getquoted().decode() == literal(text)


def test_a_backslash_is_quoted_so_that_no_setting_reads_it_otherwise() -> None:
    assert literal("a\\'b") == r" E'a\\''b'".replace(r"''", "''")
