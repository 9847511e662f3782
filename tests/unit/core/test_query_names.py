"""`:name` in a query is found where PostgreSQL would read a parameter, and nowhere else."""

import pytest

from scorebeat.core.jobs.query_names import find, replace

FOUND = {
    "SELECT id FROM t WHERE day = :due_at::date": ["due_at"],
    "SELECT id FROM t WHERE x>:least AND y<:most OR z=:least": ["least", "most"],
    "SELECT :a, (:b), ARRAY[:c, :d], f(x => :e)": ["a", "b", "c", "d", "e"],
    "SELECT ARRAY[[:a], [:b]], a[(:i):(:j)], (a)[1: :k]": ["a", "b", "i", "j", "k"],
    "SELECT id FROM t LIMIT :n": ["n"],
    "SELECT 'it''s' || :a || $tag$ :b $x$ $tag$ || :c": ["a", "c"],
    "SELECT E'it\\'s :no' || :a": ["a"],
    "SELECT 'a\\' || :a || ' :no '": ["a"],
    "SELECT e'x'\n  '\\' :no' || :a": ["a"],
    "SELECT U&'\\0041' || :a": ["a"],
    "SELECT /* :no /* :no */ :no */ :a -- :no\n, :b": ["a", "b"],
    "SELECT json_object('k': :a, 'l' VALUE :b)": ["a", "b"],
    "SELECT :größe, :A1": ["größe", "A1"],
}
NOT_FOUND = [
    "SELECT ':x', E':x\\':x', $$:x$$, $a$ $$ :x $a$, \":x\", U&\":x\"",
    "SELECT x::text, x ::int, '1'::float8, a::int[], :: :",
    "SELECT a[1:n], a[lo:hi], a[:n], a[n:], (f(x))[i:j][k :l], a[b[1:c]:d]",
    "SELECT b$x$c:: text, x$$ FROM t",
    "SELECT f(a := 1, b:=c)",
    "SELECT json_object('a':b, c:d, key:value, (e):f), json_objectagg(k:v)",
    "SELECT 1 -- :x",
    "SELECT 1 /* :x",
    "SELECT ':x",
    "SELECT $x$ :x",
    'SELECT ":x"":y"',
    "SELECT 'a'\n-- :x\n':b'",
    "SELECT time '10:30', 1:1",
]


@pytest.mark.parametrize(("query", "names"), FOUND.items())
def test_names_are_found_in_their_order(query: str, names: list[str]) -> None:
    assert find(query) == names


@pytest.mark.parametrize("query", NOT_FOUND)
def test_a_query_without_names_stays_as_it_is(query: str) -> None:
    assert find(query) == []
    assert replace(query, {}) == query


def test_a_plain_literal_has_backslash_escapes_if_the_session_enables_them() -> None:
    query = r"SELECT 'it\'s :no', b'1', :a"

    assert find(query, backslashes=True) == ["a"]
    assert find(r"SELECT '\', :a, ' :no'") == ["a"]


def test_each_name_is_replaced_and_all_around_it_stays() -> None:
    query = "SELECT ':a' AS \":a\", :a::date, :b, :a -- :b"

    assert replace(query, {"a": "1", "b": "':a'"}) == "SELECT ':a' AS \":a\", 1::date, ':a', 1 -- :b"


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        replace("SELECT :a, :b", {"a": "1"})
