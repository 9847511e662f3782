"""One key at a time: what is published now, whatever was remembered of before."""

import pyarrow as pa
import pytest

from scorebeat.producer.versions.publish import publish_anyway, rollback_anyway
from scorebeat.worker.scoring.score import score_batch
from tests.integration.publishing.test_views import with_outputs
from tests.support.api_fixtures import BEARER, Client, Opener, client, opened, scored
from tests.support.fixtures import wait_for
from tests.support.ledger_fixtures import Ledger, ledger, migrated, trained
from tests.support.ledger_rows import MODEL, a_job
from tests.support.own_servers import own_servers

__all__ = ["client", "ledger", "opened", "scored", "trained"]


@pytest.mark.slow
def test_a_key_is_looked_up_in_the_version_that_is_published_now(client: Client, scored: Ledger) -> None:
    assert client.get("/data/1").json()["state"] == "predicted"
    scored.new_version(2)

    publish_anyway(scored.producer, MODEL, 2, "ann")
    assert client.get("/data/1").json()["state"] == "pending"
    scored.scored(a_job())
    assert client.get("/data/1").json()["prediction"]["batch_id"] > 3
    rollback_anyway(scored.producer, MODEL, "ann")

    assert client.get("/data/1").json()["prediction"]["batch_id"] <= 3


@pytest.mark.slow
def test_a_view_with_other_columns_is_shown_with_them(client: Client, scored: Ledger) -> None:
    assert set(client.get("/data/1").json()["prediction"]) == {"id", "label", "p0", "p1", "p2", "batch_id", "scored_at"}
    scored.new_version(2, with_outputs(other=pa.float64()))

    publish_anyway(scored.producer, MODEL, 2, "ann")
    scored.sql("INSERT INTO predictions.flowers_job__flowers_v2 (id, other, batch_id) VALUES (1, 0.5, 1)")

    assert set(client.get("/data/1").json()["prediction"]) == {"id", "other", "batch_id", "scored_at"}
    assert client.get("/data/2").json()["state"] == "pending"


def test_a_job_whose_key_changed_with_its_version_is_read_by_the_new_key(client: Client, scored: Ledger) -> None:
    assert client.get("/data/1").json()["state"] == "predicted"
    scored.sql("ALTER TABLE items ADD COLUMN name text")
    scored.sql("UPDATE items SET name = 'n' || id")
    scored.new_version(2)
    scored.apply(a_job(query="SELECT name, a, b FROM items", key="name"))
    publish_anyway(scored.producer, MODEL, 2, "ann")
    scored.scored(a_job(query="SELECT name, a, b FROM items", key="name"))

    assert client.get("/data/n1").json()["prediction"]["name"] == "n1"
    assert client.get("/data/1").status_code == 404


def test_a_job_that_left_the_file_is_unknown_at_once(client: Client, scored: Ledger) -> None:
    assert client.get("/data/1", params={"job": "flowers_job"}).status_code == 200
    assert client.get("/data/1").status_code == 200

    scored.sql("UPDATE scorebeat.jobs SET removed_at = now()")

    assert client.get("/data/1", params={"job": "flowers_job"}).status_code == 404
    assert client.get("/data/1").status_code == 404


def test_a_second_job_makes_the_only_one_ambiguous_at_once(client: Client, scored: Ledger) -> None:
    assert client.get("/data/1").status_code == 200

    scored.apply(a_job(name="second"))

    assert client.get("/data/1").status_code == 400


def test_a_job_without_a_model_has_pending_rows_and_no_predictions(client: Client, scored: Ledger) -> None:
    scored.apply(a_job(name="bare", model="roses"))

    assert client.get("/data/1", params={"job": "bare"}).json()["state"] == "pending"
    assert client.get("/data/31", params={"job": "bare"}).status_code == 404
    assert client.get("/data/predicted", params={"job": "bare"}).json()["rows"] == []
    for kind in ("all", "unpredicted"):
        rows = client.get(f"/data/{kind}", params={"job": "bare"}).json()["rows"]
        assert [int(row["key"][0]) for row in rows] == [*range(1, 31)]


def test_a_run_that_is_shown_whole_is_not_read_before_its_end(client: Client, scored: Ledger) -> None:
    run_id = scored.planned(a_job(name="whole", on_failure="retry-run"))
    *first, last = scored.batch_ids(run_id)
    for batch_id in first:
        score_batch(batch_id, scored.runtime)

    assert client.get("/data/1", params={"job": "whole"}).json()["prediction"] is None
    assert client.get("/data/predicted", params={"job": "whole"}).json()["rows"] == []
    score_batch(last, scored.runtime)
    assert client.get("/data/1", params={"job": "whole"}).json()["prediction"]["id"] == 1
    assert len(client.get("/data/predicted", params={"job": "whole"}).json()["rows"]) == 30


@pytest.mark.slow
def test_each_response_reports_an_unavailable_database_and_it_recovers(
    opened: Opener, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with own_servers(tmp_path_factory.mktemp("own") / "data") as servers:
        migrated(servers.urls.database_url).dispose()
        client = opened(database_url=servers.urls.database_url, broker_url=servers.urls.broker_url)
        assert (client.get("/ready").status_code, client.get("/runs").json()) == (200, {"runs": [], "next": None})

        servers.stop("database")
        responses = [client.get(path) for path in ("/ready", "/runs", "/runs/1", "/data/1", "/data/all?job=x")]
        responses += [client.post("/runs", json={"job": "x"}), client.post("/runs/1/cancel")]

        for response in responses:
            assert response.status_code == 503, response.text
            assert response.headers["retry-after"] == "5"
            assert "database does not answer" in response.json()["error"]
            assert "postgres" not in response.text
        assert client.get("/health", headers=BEARER).status_code == 200
        servers.start("database")
        assert wait_for(lambda: client.get("/runs").status_code == 200)


def test_a_database_without_a_ledger_is_not_ready(opened: Opener, empty_database: str) -> None:
    response = opened(database_url=empty_database).get("/ready")

    assert (response.status_code, "scorebeat migrate" in response.json()["error"]) == (503, True)
