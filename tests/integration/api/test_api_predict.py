"""`/predict` returns what a batch would have stored, and stores nothing."""

import json
from typing import Any

import pytest

from scorebeat.producer.versions.publish import publish_anyway
from tests.support.api_fixtures import Client, client, opened, scored
from tests.support.ledger_fixtures import OUTPUTS, Ledger, ledger, trained
from tests.support.ledger_rows import MODEL

__all__ = ["client", "ledger", "opened", "scored", "trained"]


def predict(client: Client, rows: Any, model: str = MODEL) -> Any:
    body = json.dumps({"rows": rows})  # ASCII: a client would not send half of a character
    return client.post(f"/predict/{model}", content=body, headers={"Content-Type": "application/json"})


def test_rows_are_scored_as_a_batch_scores_them(client: Client, scored: Ledger) -> None:
    rows = [{"a": a, "b": b} for a, b in scored.sql("SELECT a, b FROM items WHERE id <= 25 ORDER BY id")]

    response = predict(client, rows)

    assert response.json()["model"] == "flowers/1", response.text
    returned = [tuple(row[name] for name in OUTPUTS) for row in response.json()["predictions"]]
    stored = scored.sql("SELECT label, p0, p1, p2 FROM predictions.flowers_job ORDER BY id")
    assert [row[0] for row in returned] == [row[0] for row in stored]
    for mine, theirs in zip(returned, stored, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)
    assert scored.sql("SELECT count(*) FROM predictions.flowers_job") == [25]


def test_the_published_version_scores_unless_one_is_named(client: Client, scored: Ledger) -> None:
    scored.new_version(2)
    assert predict(client, [{"a": 5, "b": 3}]).json()["model"] == "flowers/1"

    publish_anyway(scored.producer, MODEL, 2, "ann")

    assert predict(client, [{"a": 5, "b": 3}]).json()["model"] == "flowers/2"
    assert predict(client, [{"a": 5, "b": 3}], "flowers/1").json()["model"] == "flowers/1"


@pytest.mark.wide(quick=6)
@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("model", "rows", "status", "expected"),
    [
        ("roses", [{"a": 5, "b": 3}], 404, "there is no model 'roses'"),
        ("flowers/9", [{"a": 5, "b": 3}], 404, "flowers/9"),
        ("flowers/x", [{"a": 5, "b": 3}], 400, "flowers/x"),
        ("flowers", [{"a": 5}], 400, "b is missing"),
        ("flowers", [{"a": 5, "b": 3, "c": 1}], 400, "'c' is no input"),
        ("flowers", [{"a": 5, "b": 3}, {"a": "five", "b": 3}], 400, "row 1: a is 'five'"),
        ("flowers", [{"a": 5, "b": None}], 400, ""),
        ("flowers", [{"\ud800": [1]}], 400, "row 0: \\ud800 has 1 elements"),
        ("flowers", [{"a": 10**400, "b": 3}], 400, "row 0: a is 1000"),
        ("flowers", [{"a": "\ud800", "b": 3}], 400, "row 0: a is '\\ud800'"),
        ("flowers", [{"a": 5, "b": 3}] * 10_001, 422, "at most 10000 items"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_what_was_expected(
    client: Client, model: str, rows: Any, status: int, expected: str
) -> None:
    refused = predict(client, rows, model)

    assert refused.status_code == status, refused.text
    assert expected in refused.json()["error"]
