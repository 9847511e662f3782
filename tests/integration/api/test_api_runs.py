"""`/runs` does what the command line does, and records it in the ledger."""

from typing import Any

import pytest

from scorebeat.core.jobs.parameters import Parameter
from scorebeat.core.states import RunState
from scorebeat.ops.cli.commands.jobs.jobs import PROMISED
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.settle import settle_all
from tests.support.api_fixtures import Client, Opener, client, opened, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_batch, add_run

pytestmark = pytest.mark.wide(quick=10)

__all__ = ["client", "ledger", "opened", "scored", "trained"]


def new_run(client: Client, **options: Any) -> Any:
    return client.post("/runs", json={"job": "flowers_job", **options})


def test_a_requested_run_is_opened_and_scored(client: Client, scored: Ledger) -> None:
    made = new_run(client)

    assert (made.status_code, made.json()["is_new"]) == (201, True)
    run_id = made.json()["run"]
    assert made.headers["location"] == f"/runs/{run_id}"
    plan(scored.producer, run_id)
    scored.score(run_id)
    shown = client.get(f"/runs/{run_id}").json()
    assert (shown["state"], shown["rows_scored"], shown["created_by"]) == ("succeeded", 5, "api")
    assert shown["states"] == [
        {"state": "committed", "batches": 1, "rows_planned": 5, "rows_scored": 5, "rows_failed": 0}
    ]


def test_a_run_takes_the_rows_that_were_requested(client: Client, scored: Ledger) -> None:
    made = new_run(client, where="a > 0", keys=[26, "27", ["28"]], limit=2, model="flowers/1").json()["run"]

    plan(scored.producer, made)
    assert scored.sql("SELECT sum(rows_planned)::int FROM scorebeat.batches WHERE run_id = :id", id=made) == [2]


@pytest.mark.parametrize("where", ["a > 0", "pg_read_file('/etc/passwd')::int = 1", ""])
def test_a_condition_in_sql_is_taken_only_where_the_server_allows_it(
    opened: Opener, scored: Ledger, where: str
) -> None:
    refused = new_run(opened(api_where=False), where=where)

    assert refused.status_code == 403
    assert "only where SCOREBEAT_API_WHERE=true is set" in refused.json()["error"]
    assert len(scored.sql("SELECT id FROM scorebeat.runs")) == 1


def test_a_run_key_returns_the_run_that_it_made(client: Client, scored: Ledger) -> None:
    first, again = (new_run(client, run_key="tonight") for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {"run": first.json()["run"], "is_new": False}
    assert len(scored.sql("SELECT id FROM scorebeat.runs WHERE run_key = 'tonight'")) == 1


def test_a_second_run_beside_an_open_one_is_a_conflict(client: Client, scored: Ledger) -> None:
    opened_run = new_run(client).json()["run"]

    refused = new_run(client)

    assert refused.status_code == 409
    assert f"run {opened_run} is planning" in refused.json()["error"]
    assert len(scored.sql("SELECT id FROM scorebeat.runs")) == 2


@pytest.mark.parametrize(
    ("options", "status", "expected"),
    [
        ({"job": "flower_job"}, 404, "Did you mean 'flowers_job'?"),
        ({"model": "flowers/9"}, 404, "there is no model flowers/9"),
        ({"model": "roses/1"}, 400, "uses 'flowers'"),
        ({"model": "newest"}, 400, "expected one such as flowers/4"),
        ({"where": "id <"}, 400, "where 'id <' is not one condition"),
        ({"where": "true); DROP TABLE items; --"}, 400, "is not one condition"),
        ({"keys": ["ten"]}, 400, "keys.0 ['ten'] is not a key"),
        ({"keys": [26, ["1", "2"]]}, 400, "keys.1 has 2 columns; expected 1 (id)"),
        ({"limit": 0}, 422, "greater than or equal to 1"),
        ({"limit": 10**30}, 422, "less than or equal to"),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_nothing_is_changed(
    client: Client, scored: Ledger, options: dict[str, Any], status: int, expected: str
) -> None:
    refused = new_run(client, **options)

    assert refused.status_code == status, refused.text
    assert expected in refused.json()["error"]
    assert scored.sql("SELECT count(*) FROM scorebeat.runs") == [1]
    assert scored.sql("SELECT count(*) FROM items") == [30]


def test_runs_are_listed_newest_first_by_job_state_and_page(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        made = [add_run(connection, "succeeded") for _ in range(5)]
        failed = add_run(connection, "failed")
        other = add_run(connection, "running", job="other")

    def ids(**parameters: Any) -> tuple[list[int], int | None]:
        response = client.get("/runs", params=parameters).raise_for_status().json()
        return [run["id"] for run in response["runs"]], response["next"]

    assert ids() == ([other, failed, *reversed(made)], None)
    assert ids(job="other") == ([other], None)
    assert ids(state=["failed", "running"]) == ([other, failed], None)
    first, following = ids(job="flowers_job", limit=4)
    assert (first, ids(job="flowers_job", limit=4, before=following)) == (
        [failed, *made[:1:-1]],
        (made[1::-1], None),
    )
    assert client.get("/runs", params={"state": "done"}).status_code == 422


@pytest.mark.parametrize(("run", "status"), [("999", 404), ("ten", 422), ("0", 422), (str(10**30), 422), ("-1", 422)])
def test_a_run_that_is_not_there_is_404_and_what_is_no_number_422(client: Client, run: str, status: int) -> None:
    responses = [client.get(f"/runs/{run}"), client.get(f"/runs/{run}/failures")]
    responses += [client.post(f"/runs/{run}/requeue"), client.post(f"/runs/{run}/cancel")]

    assert {response.status_code for response in responses} == {status}
    assert all(list(response.json()) == ["error"] for response in responses)


def test_failures_are_grouped_and_one_group_is_requeued_by_its_id(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        for number in range(1, 4):
            add_batch(connection, run_id, "dead", number=number, error="Broken: <b>oh</b>")
        add_batch(connection, run_id, "dead", number=4, error="Other: no")

    groups = client.get(f"/runs/{run_id}/failures", params={"limit": 1}).json()
    assert (groups["groups"][0]["count"], groups["groups"][0]["error"], groups["next"]) == (
        3,
        "Broken: <b>oh</b>",
        f"3-b{ledger.sql('SELECT min(id) FROM scorebeat.batches')[0]}",
    )
    following = client.get(f"/runs/{run_id}/failures", params={"after": groups["next"]}).json()
    assert ([group["error"] for group in following["groups"]], following["next"]) == (["Other: no"], None)
    assert client.get(f"/runs/{run_id}/failures", params={"after": "20"}).status_code == 422
    put_back = client.post(f"/runs/{run_id}/requeue", json={"group": groups["groups"][0]["id"]})

    assert put_back.json() == {"run": run_id, "batches": 3}
    assert ledger.run(run_id).state is RunState.RUNNING
    assert ledger.sql("SELECT by, details ->> 'batches' FROM scorebeat.actions WHERE action = 'run.requeued'") == [
        ("api", "3")
    ]
    again = client.post(f"/runs/{run_id}/requeue", json={"group": groups["groups"][0]["id"]})
    assert again.json() == {"run": run_id, "batches": 0}


def test_requeue_of_one_batch_leaves_the_others(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        one, two = (add_batch(connection, run_id, "dead", number=n) for n in (1, 2))

    assert client.post(f"/runs/{run_id}/requeue", json={"batch": two}).json()["batches"] == 1
    assert (ledger.batch(one)["state"], ledger.batch(two)["state"]) == ("dead", "pending")
    assert client.post(f"/runs/{run_id}/requeue", json={"batch": two + 1}).status_code == 404


def test_a_text_may_mean_several_groups_and_a_group_means_one(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        for number, error in enumerate(("Broken: oh", "Broken: oh dear", "Other: no"), 1):
            add_batch(connection, run_id, "dead", number=number, error=error)
    groups = client.get(f"/runs/{run_id}/failures").json()["groups"]
    one = next(group["id"] for group in groups if group["match"] == "Broken: oh")

    def requeued(**part: str) -> int:
        return int(client.post(f"/runs/{run_id}/requeue", json=part).json()["batches"])

    assert (
        requeued(group=one, error="dear"),
        requeued(group=one),
        requeued(group=one),
        requeued(error="roken: o"),
    ) == (0, 1, 0, 1)
    assert ledger.sql("SELECT error FROM scorebeat.batches WHERE state = 'dead'") == ["Other: no"]


@pytest.mark.parametrize("part", [{"error": ""}, {"group": ""}, {"group": "Broken: oh"}, {"batch": 0}, {"bach": 1}])
def test_a_part_that_is_none_is_refused_and_nothing_is_put_back(
    client: Client, ledger: Ledger, part: dict[str, Any]
) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "partial")
        dead = add_batch(connection, run_id, "dead")

    assert client.post(f"/runs/{run_id}/requeue", json=part).status_code == 422
    assert ledger.batch(dead)["state"] == "dead"


@pytest.mark.parametrize("part", ["batch", "error", "group"])
def test_a_part_of_a_failed_run_that_is_shown_whole_is_a_conflict(client: Client, ledger: Ledger, part: str) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "failed")
        dead = add_batch(connection, run_id, "dead")
    ledger.sql("UPDATE scorebeat.runs SET spec = jsonb_set(spec, '{on_failure}', '\"retry-run\"')")
    value = {"batch": dead, "error": "oh", "group": "0" * 32}[part]

    refused = client.post(f"/runs/{run_id}/requeue", json={part: value})

    assert (refused.status_code, "requeue the whole run" in refused.json()["error"]) == (409, True)
    assert ledger.batch(dead)["state"] == "dead"


def test_requeue_of_a_run_that_is_running_puts_its_failed_part_back(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "running")
        for number, state in enumerate(("dead", "claimed", "pending"), 1):
            add_batch(connection, run_id, state, number=number)

    responses = [client.post(f"/runs/{run_id}/requeue").json() for _ in range(2)]

    assert responses == [{"run": run_id, "batches": 1}, {"run": run_id, "batches": 0}]
    assert ledger.run(run_id).state is RunState.RUNNING


def test_requeue_of_a_cancelled_run_is_a_conflict(client: Client, ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        run_id = add_run(connection, "cancelled")

    refused = client.post(f"/runs/{run_id}/requeue")

    assert (refused.status_code, "was cancelled" in refused.json()["error"]) == (409, True)


def test_cancel_stops_an_open_run_once(client: Client, scored: Ledger) -> None:
    run_id = scored.planned(a_job())

    responses = [client.post(f"/runs/{run_id}/cancel").json()["cancelled"] for _ in range(2)]

    assert responses == [True, False]
    assert scored.run(run_id).reason == "cancelled by api"
    settle_all(scored.producer)
    assert client.get(f"/runs/{run_id}").json()["state"] == "cancelled"


def test_the_jobs_are_those_that_scorebeat_jobs_prints(client: Client, scored: Ledger) -> None:
    scored.apply(a_job().model_copy(update={"schedule": "0 2 * * *", "timezone": "Europe/Berlin"}))

    response = client.get("/jobs").raise_for_status().json()
    (shown,) = response["jobs"]
    (note,) = response["notes"]

    assert set(shown) == set(PROMISED)
    assert (shown["name"], shown["schedule"], shown["model_version"]) == ("flowers_job", "0 2 * * *", 1)
    assert shown["next_due_at"].endswith((":00:00Z", ":00:00+00:00"))
    assert (shown["last_run"], shown["last_state"], shown["is_overdue"]) == (1, "succeeded", False)
    assert note.startswith("no control worker")
    scored.apply(a_job())
    assert client.get("/jobs").raise_for_status().json()["notes"] == []  # nothing is to be due


def test_a_run_takes_its_due_time_and_parameters(client: Client, scored: Ledger) -> None:
    query = "SELECT id, a, b FROM items WHERE id > :least AND :due_at < now()"
    scored.apply(a_job(query=query).model_copy(update={"parameters": {"least": Parameter.of(1)}}))

    made = new_run(client, due_at="2026-07-01T02:00:00+02:00", parameters={"least": "27"})
    wrong = [new_run(client, due_at="soon"), new_run(client, parameters={"leest": "1"}), new_run(client, due_at=None)]

    assert made.status_code == 201
    plan(scored.producer, made.json()["run"])
    assert scored.sql("SELECT sum(rows_planned)::int FROM scorebeat.batches WHERE number > 0 AND run_id = 2") == [3]
    assert client.get("/runs/2").json()["due_at"] == "2026-07-01T00:00:00Z"
    assert [one.status_code for one in wrong] == [400, 400, 422]
    scored.apply(a_job(query=query.replace(":least", "1")).model_copy(update={"timezone": "Europe/Berlin"}))
    settle_all(scored.producer)
    scored.score(2)
    local = [new_run(client, due_at=at) for at in ("2026-03-29T02:30", "2026-07-02T02:00")]
    assert [one.status_code for one in local] == [400, 201]  # the first is skipped by Berlin's clocks
    assert client.get("/runs/3").json()["due_at"] == "2026-07-02T00:00:00Z"
    assert "'soon' is no time" in wrong[0].json()["error"]
