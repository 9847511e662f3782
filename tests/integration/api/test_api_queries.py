"""A part that would be ignored is refused, such as unknown query parameters and null: its sender expected an effect."""

from typing import Any

import pytest

from tests.support.api_fixtures import Client, client, opened, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_batch, add_run

pytestmark = pytest.mark.wide

__all__ = ["client", "ledger", "opened", "scored", "trained"]


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/data/all?limt=1", "query.limt: GET /data/all takes no such parameter. Did you mean 'limit'?"),
        ("GET", "/data/1?limit=1", "query.limit: GET /data/1 takes no such parameter. Known: job."),
        ("GET", "/runs?stat=failed", "Did you mean 'state'?"),
        ("GET", "/runs/1?job=x", "It takes none"),
        ("GET", "/runs/1/failures?limit=1&all", "query.all: "),
        ("GET", "/metrics?job=x", "It takes none"),
        ("GET", "/health?deep=1", "It takes none"),
        ("GET", "/ready?deep=1", "It takes none"),
        ("POST", "/runs?run_key=x", "It takes none"),
        ("POST", "/runs/1/cancel?force=1", "It takes none"),
        ("POST", "/predict/flowers?version=3", "It takes none"),
        ("GET", "/data/all?limit=1&limit=2", "query.limit stands 2 times; /data/all takes it once"),
        ("GET", "/runs?job=a&job=flowers_job", "query.job stands 2 times"),
    ],
)
def test_an_unknown_query_parameter_is_refused_and_the_known_ones_are_named(
    client: Client, method: str, path: str, expected: str
) -> None:
    bodies = {"/runs": {"job": "flowers_job"}, "/predict/flowers": {"rows": [{"a": 5, "b": 3}]}}
    arguments: dict[str, Any] = {"json": bodies.get(path.partition("?")[0])} if method == "POST" else {}

    refused = client.request(method, path, **arguments)

    assert refused.status_code == 422, refused.text
    assert expected in refused.json()["error"]
    if method == "GET":
        assert client.head(path).status_code == 422


@pytest.mark.parametrize("query", ["?group=0123456789abcdef0123456789abcdef", "?batch=1", "?all"])
def test_a_selection_in_the_address_is_refused_and_nothing_is_requeued(
    client: Client, ledger: Ledger, query: str
) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        dead = add_batch(connection, run_id, "dead")

    assert client.post(f"/runs/{run_id}/requeue{query}").status_code == 422
    assert ledger.batch(dead)["state"] == "dead"


@pytest.mark.parametrize(
    "body", ["null", " null ", '{"group": null}', '{"batch": null, "error": "oh"}', "null".encode("utf-16")]
)
def test_null_is_no_part_and_nothing_is_put_back(client: Client, ledger: Ledger, body: str | bytes) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        dead = add_batch(connection, run_id, "dead")

    refused = client.post(f"/runs/{run_id}/requeue", content=body, headers={"Content-Type": "application/json"})

    assert (refused.status_code, "null is no value here" in refused.json()["error"]) == (422, True)
    assert ledger.batch(dead)["state"] == "dead"


@pytest.mark.parametrize("arguments", [{}, {"json": {}}])
def test_no_part_means_the_whole_run(client: Client, ledger: Ledger, arguments: dict[str, Any]) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        dead = add_batch(connection, run_id, "dead")

    assert client.post(f"/runs/{run_id}/requeue", **arguments).json() == {"run": run_id, "batches": 1}
    assert ledger.batch(dead)["state"] == "pending"


@pytest.mark.parametrize("name", ["model", "limit", "where", "keys", "run_key"])
def test_null_bounds_no_new_run_and_opens_none(client: Client, scored: Ledger, name: str) -> None:
    before = scored.sql("SELECT count(*) FROM scorebeat.runs")

    refused = client.post("/runs", json={"job": "flowers_job", name: None})

    assert (refused.status_code, f"body.{name}: null is no value" in refused.json()["error"]) == (422, True)
    assert scored.sql("SELECT count(*) FROM scorebeat.runs") == before


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("path", "body", "position"),
    [
        ("/runs", '{"job": "a", "job": "flowers_job"}', "body.job"),
        ("/runs", '{"job": "flowers_job", "limit": 1, "limit": 2}', "body.limit"),
        ("/runs", '{"job": "flowers_job", "parameters": {"a": "1", "a": "1"}}', "body.parameters.a"),
        ("/runs/1/requeue", '{"error": "oh", "error": "o"}', "body.error"),
        ("/predict/flowers", '{"rows": [{"a": 5, "b": 3}, {"a": 5, "b": 3, "\\u0062": 4}]}', "body.rows.1.b"),
        ("/runs/1/cancel", '{"x": 1, "x": 1}', "body.x"),
    ],
)
def test_a_key_that_repeats_in_a_body_is_refused_with_its_position(
    client: Client, scored: Ledger, path: str, body: str, position: str
) -> None:
    runs = scored.sql("SELECT id, state FROM scorebeat.runs")

    refused = client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert (refused.status_code, refused.json()["error"]) == (422, f"{position}: the key stands twice in one object")
    assert scored.sql("SELECT id, state FROM scorebeat.runs") == runs


@pytest.mark.parametrize("body", ['{"x": 1}', "}{", "null", "[]", "0", "x=1"])
def test_a_body_is_refused_where_none_is_taken(client: Client, scored: Ledger, body: str) -> None:
    run_id = scored.planned(a_job())

    responses = [
        client.request(method, path, content=body)
        for method, path in (("POST", f"/runs/{run_id}/cancel"), ("GET", "/runs"), ("GET", f"/runs/{run_id}"))
    ]

    assert [one.status_code for one in responses] == [422] * 3
    assert f"body: POST /runs/{run_id}/cancel takes none" in responses[0].json()["error"]
    assert scored.run(run_id).state == "running"
    for empty in ("{}", " { } ", ""):
        assert client.post(f"/runs/{run_id}/cancel", content=empty).status_code == 200
