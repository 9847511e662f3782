"""`/data` returns each row once, in key order, as PostgreSQL wrote it."""

import csv
import io
import json
from urllib.parse import quote

import pytest

from scorebeat.db.ledger.runs import Selection
from tests.support.api_fixtures import Client, client, numbers, opened, scored, walk
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide

__all__ = ["client", "ledger", "opened", "scored", "trained"]

WIDTH = 7
COMPOSITE = "CREATE TABLE visits (who text, day date, a float8 NOT NULL, b float8 NOT NULL, PRIMARY KEY (who, day))"
TEXT_KEYS = [
    "a/b",
    'with "quotes"',
    "it's",
    "Größe ☃",
    "all",
    '["x"]',
    "a b+c%20",
    "../up",
    "?q=1#f",
    "/slash/",
    "",
    "a\n",
    "a",
]


@pytest.mark.usefixtures("scored")
def test_pages_of_each_kind_give_every_row_once_in_key_order(client: Client) -> None:
    assert numbers(walk(client, "/data/all", limit=WIDTH)) == [*range(1, 31)]
    assert numbers(walk(client, "/data/predicted", limit=WIDTH)) == [*range(1, 26)]
    assert numbers(walk(client, "/data/unpredicted", limit=2)) == [*range(26, 31)]
    assert numbers(walk(client, "/data/predicted", limit=25)) == [*range(1, 26)]


def test_values_are_those_that_are_stored(client: Client, scored: Ledger) -> None:
    rows = walk(client, "/data/all")

    stored = scored.sql("SELECT label, p0, p1, p2 FROM predictions.flowers_job ORDER BY id")
    returned = [tuple(row["prediction"][name] for name in ("label", "p0", "p1", "p2")) for row in rows[:25]]
    assert returned == stored
    assert [row["prediction"] for row in rows[25:]] == [None] * 5
    assert [(row["row"]["a"], row["row"]["b"]) for row in rows] == scored.sql("SELECT a, b FROM items ORDER BY id")


def test_a_quarantined_row_is_in_all_and_neither_predicted_nor_unpredicted(client: Client, scored: Ledger) -> None:
    quarantine(scored, "26")

    assert numbers(walk(client, "/data/unpredicted")) == [*range(27, 31)]
    assert numbers(walk(client, "/data/all")) == [*range(1, 31)]
    assert client.get("/data/26").json() == {
        "job": "flowers_job", "key": ["26"], "state": "quarantined", "reason": "Odd: no", "prediction": None,
    }  # fmt: skip


def test_one_key_returns_its_prediction_or_the_reason_for_none(client: Client, scored: Ledger) -> None:
    found, waiting, nowhere = client.get("/data/25"), client.get("/data/26"), client.get("/data/31")

    stored = scored.sql("SELECT row_to_json(p) FROM predictions.flowers_job p WHERE id = 25")[0]
    assert found.json() == {
        "job": "flowers_job", "key": ["25"], "state": "predicted", "reason": None, "prediction": stored,
    }  # fmt: skip
    assert (waiting.json()["state"], waiting.json()["prediction"]) == ("pending", None)
    assert nowhere.status_code == 404
    assert "no row with the key '31'" in nowhere.json()["error"]


def test_a_prediction_outlives_its_source_row(client: Client, scored: Ledger) -> None:
    scored.sql("DELETE FROM items WHERE id = 3")

    assert client.get("/data/3").json()["state"] == "predicted"
    assert 3 in numbers(walk(client, "/data/predicted"))
    assert 3 not in numbers(walk(client, "/data/all"))


def test_text_keys_of_any_characters_are_found_by_path_and_by_page(client: Client, ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE words (word text PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL)")
    for word in TEXT_KEYS:
        ledger.sql("INSERT INTO words VALUES (:word, 5, 3)", word=word)
    ledger.scored(a_job(query="SELECT word, a, b FROM words", key="word", batch_rows=100))
    in_order = ledger.sql("SELECT word FROM words ORDER BY word")

    assert [row["key"][0] for row in walk(client, "/data/all", limit=1)] == in_order
    assert [row["key"][0] for row in walk(client, "/data/predicted", limit=2)] == in_order
    for word in TEXT_KEYS:
        as_list = client.get(f"/data/{quote(as_json(word), safe='')}")
        assert as_list.json()["prediction"]["word"] == word, as_list.text
    for word in ("a/b", 'with "quotes"', "it's", "Größe ☃", "a b+c%20", "?q=1#f", "/slash/", "a\n", "a"):
        assert client.get(f"/data/{quote(word, safe='')}").json()["prediction"]["word"] == word


def test_keys_of_several_columns_are_lists_and_compared_as_rows(client: Client, ledger: Ledger) -> None:
    ledger.sql(COMPOSITE)
    ledger.sql("INSERT INTO visits SELECT 'p/' || n % 4, date '2026-01-01' + n, 5, 3 FROM generate_series(1, 20) AS n")
    job = a_job(query="SELECT who, day, a, b FROM visits", key=("who", "day"), batch_rows=100)
    ledger.scored(job)
    in_order = [list(key) for key in ledger.sql("SELECT who, day::text FROM visits ORDER BY who, day")]

    for path in ("/data/all", "/data/predicted"):
        assert [row["key"] for row in walk(client, path, limit=3)] == in_order
    one = client.get(f"/data/{quote(as_json(in_order[7]), safe='')}")
    assert (one.status_code, one.json()["key"]) == (200, in_order[7])
    for wrong in ("p/1", '["p/1"]', '["p/1", "2026-01-02", "x"]'):
        refused = client.get(f"/data/{quote(wrong, safe='')}")
        assert refused.status_code == 400, refused.text
        assert "who (text), day (date)" in refused.json()["error"]


@pytest.mark.parametrize("kind", ["all", "predicted", "unpredicted"])
def test_csv_has_the_same_rows_as_json(client: Client, ledger: Ledger, kind: str) -> None:
    ledger.sql("CREATE TABLE notes (id int PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL, note text)")
    ledger.sql("INSERT INTO notes SELECT n, 5, 3, E'say \"hi\", \\n' || n FROM generate_series(1, 4) AS n")
    ledger.sql("INSERT INTO notes VALUES (5, 5, 3, NULL)")
    run_id = ledger.planned(a_job(query="SELECT id, a, b, note FROM notes", batch_rows=2), selection=Selection(limit=2))
    ledger.score(run_id)

    response = client.get(f"/data/{kind}", headers={"Accept": "text/csv, application/json;q=0.5"})

    assert response.headers["content-type"].startswith("text/csv")
    read_rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    rows = walk(client, f"/data/{kind}")
    assert [row["id"] for row in read_rows] == [row["key"][0] for row in rows]
    if kind != "predicted":
        assert [row["note"] or None for row in read_rows] == [row["row"]["note"] for row in rows]
    if kind == "all":
        assert [bool(row["prediction.label"]) for row in read_rows] == [True, True, False, False, False]


def test_csv_distinguishes_null_from_an_empty_text_as_copy_does(client: Client, ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE notes (id int PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL, note text)")
    ledger.sql("INSERT INTO notes VALUES (1, 5, 3, NULL), (2, 5, 3, ''), (3, 5, 3, 'NULL'), (4, 5, 3, E'a,\"b\"\r\n')")
    ledger.scored(a_job(query="SELECT id, a, b, note FROM notes"))

    response = client.get("/data/all", headers={"Accept": "text/csv"}).text

    head, _, rows = response.partition("\n")
    names = [name.replace(".", "_") for name in next(csv.reader([head]))]
    ledger.sql(f"CREATE TABLE copied ({', '.join(f'{name} text' for name in names)})")
    raw = ledger.engine.raw_connection()
    raw.cursor().copy_expert("COPY copied FROM STDIN (FORMAT csv)", io.StringIO(rows, newline=""))
    raw.commit()
    raw.close()
    assert ledger.sql("SELECT note FROM copied ORDER BY id") == [None, "", "NULL", 'a,"b"\r\n']


@pytest.mark.usefixtures("scored")
def test_json_is_returned_unless_csv_is_preferred(client: Client) -> None:
    for accept in (
        *("*/*", "application/json, text/csv", "text/html,*/*;q=0.8", "text/csv;q=0.1, */*", "image/png"),
        *("", ",;,", "text/csv;q=0", "text/csv;q=x", "text/*, text/csv;q=0.1, */*;q=0.2"),
    ):
        kind = client.get("/data/all", headers={"Accept": accept}).headers["content-type"]
        assert kind == "application/json", accept
    for accept in ("text/csv", "TEXT/CSV; q=0.3", "text/*;q=0.5, */*;q=0.1", "*/*, application/json;q=0"):
        kind = client.get("/data/all", headers={"Accept": accept}).headers["content-type"]
        assert kind.startswith("text/csv"), accept


def test_the_job_may_be_left_out_only_when_there_is_one(client: Client, scored: Ledger) -> None:
    scored.apply(a_job(name="second"))

    for path in ("/data/all", "/data/predicted", "/data/unpredicted", "/data/1"):
        refused = client.get(path)
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            "there are several jobs: add ?job= and one of flowers_job, second",
        )
        assert client.get(path, params={"job": "flowers_job"}).status_code == 200
        unknown = client.get(path, params={"job": "flower_job"})
        assert unknown.status_code == 404
        assert "Did you mean 'flowers_job'?" in unknown.json()["error"]
    assert numbers(walk(client, "/data/unpredicted", job="second")) == [*range(1, 31)]
    assert walk(client, "/data/predicted", job="second") == []


def quarantine(ledger: Ledger, key: str) -> None:
    ledger.sql(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
        " SELECT r.prediction_set_id, b.id, jsonb_build_array(CAST(:key AS text)), 'Odd', 'no'"
        " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id LIMIT 1",
        key=key,
    )


def as_json(key: str | list[str]) -> str:
    parts = key if isinstance(key, list) else [key]
    return json.dumps(parts, ensure_ascii=False)
