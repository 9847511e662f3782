"""`/data` refuses what cannot be a page or a key, and never loses a row in silence."""

from typing import Any

import pytest
from httpx import HTTPStatusError

from tests.support.api_fixtures import Client, client, numbers, opened, scored, walk
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(slow=10, quick=20)

__all__ = ["client", "ledger", "opened", "scored", "trained"]


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("parameters", "status", "expected"),
    [
        ({"limit": 10**9}, 422, "less than or equal to 10000, got '1000000000'"),
        ({"limit": 0}, 422, "greater than or equal to 1"),
        ({"limit": "ten"}, 422, "valid integer"),
        ({"after": "ten"}, 400, 'id (bigint): invalid input syntax for type bigint: "ten"'),
        ({"after": '["1", "2"]'}, 400, "the key has 2 columns; expected id (bigint)"),
        ({"after": "[null]"}, 400, "a key holds null"),
        ({"after": "[" * 9000}, 400, "is not a key"),
        ({"after": '["\\ud800"]'}, 400, "half of a character"),
        ({"after": '["\\u0000"]'}, 400, "NUL character"),
        ({"after": "1\0"}, 422, "pattern"),
        ({"job": "x\0"}, 422, "pattern"),
    ],
)
def test_an_impossible_page_is_refused_with_the_expected_form(
    client: Client, parameters: dict[str, Any], status: int, expected: str
) -> None:
    for path in ("/data/all", "/data/predicted", "/data/unpredicted"):
        refused = client.get(path, params=parameters)
        assert refused.status_code == status, refused.text
        assert list(refused.json()) == ["error"]
        assert expected in refused.json()["error"]


@pytest.mark.usefixtures("scored")
def test_an_impossible_key_is_refused_with_the_expected_form(client: Client) -> None:
    for key, expected in (("ten", "id (bigint)"), ("9" * 30, "out of range"), ("%00", "NUL"), ("[true]", "bigint")):
        refused = client.get(f"/data/{key}")
        assert refused.status_code == 400, refused.text
        assert expected in refused.json()["error"]


def loose_rows(ledger: Ledger, *keys: str) -> None:
    """The job reads a table without a primary key: rows 1 to 6, and these as well."""
    ledger.sql(
        "CREATE TABLE loose AS SELECT n::bigint AS id, 5::float8 AS a, 3::float8 AS b FROM generate_series(1, 6) n"
    )
    for key in keys:
        ledger.sql(f"INSERT INTO loose VALUES ({key}, 5, 3)")
    ledger.apply(a_job(query="SELECT id, a, b FROM loose"))


@pytest.mark.parametrize("path", ["/data/all", "/data/unpredicted"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("key", ["1", "4", "6", "NULL"])
def test_pages_over_keys_that_repeat_or_are_null_end_with_their_names(
    client: Client, ledger: Ledger, path: str, limit: int, key: str
) -> None:
    loose_rows(ledger, key)

    found: list[int] = []
    after: dict[str, str] = {}
    for _ in range(8):
        page = client.get(path, params={"limit": limit, **after})
        if page.is_error:
            break
        found += numbers(page.json()["rows"])
        after = {"after": page.json()["next"][0]}  # a last page in silence would have none

    assert page.status_code == 409
    assert f"key must be unique and not NULL; the query returns ({key}) more than once" in page.json()["error"]
    assert found == [*range(1, len(found) + 1)]


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_a_null_in_one_of_several_key_columns_is_not_passed_over(client: Client, ledger: Ledger, limit: int) -> None:
    ledger.sql("CREATE TABLE visits (who text, day int, a float8 NOT NULL, b float8 NOT NULL)")
    ledger.sql("INSERT INTO visits VALUES ('a', 1, 5, 3), ('a', NULL, 5, 3), ('b', 1, 5, 3), ('b', 2, 5, 3)")
    ledger.apply(a_job(query="SELECT who, day, a, b FROM visits", key=("who", "day")))

    for path in ("/data/all", "/data/unpredicted"):
        with pytest.raises(HTTPStatusError, match="409"):
            walk(client, path, limit=limit)
        last = client.get(path, params={"limit": limit, "after": '["b", "1"]'})
        assert (last.status_code, "returns (a, NULL) more than once, or without" in last.json()["error"]) == (409, True)


def test_pages_over_a_table_without_a_primary_key_give_every_row_once(client: Client, ledger: Ledger) -> None:
    loose_rows(ledger)

    assert numbers(walk(client, "/data/all", limit=4)) == [*range(1, 7)]
    assert numbers(walk(client, "/data/unpredicted", limit=3)) == [*range(1, 7)]


def test_a_query_that_fails_on_a_row_is_reported_as_the_jobs_fault(client: Client, scored: Ledger) -> None:
    scored.apply(a_job(query="SELECT id, 1 / (id - 3) AS a, b FROM items"))

    response = client.get("/data/all")

    assert (response.status_code, response.json()["error"]) == (
        409,
        "jobs.flowers_job.query fails in PostgreSQL: division by zero",
    )


def test_a_query_cannot_write_while_it_is_read(client: Client, scored: Ledger) -> None:
    scored.sql(
        "CREATE FUNCTION spoil(n float8) RETURNS float8 LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM items; RETURN n; END $$"
    )
    scored.apply(a_job(query="SELECT id, spoil(a) AS a, b FROM items"))

    assert client.get("/data/all").status_code == 500
    assert scored.sql("SELECT count(*) FROM items") == [30]
