"""A run that drifted and is held: commands, the HTTP API and the Python API show why, and take the decision."""

import json

import pytest

import scorebeat as public
from scorebeat.core.errors import UsageError
from scorebeat.core.states import RunState
from scorebeat.producer.control.ticks.overdue import note_overdue
from tests.integration.drift.test_gates import WHOLE, mean_of_readers, shifted
from tests.support.api_fixtures import Client, client, opened
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.slow(quick=3)

__all__ = ["client", "opened", "points", "scorebeat", "shifted"]


def test_commands_show_the_drift_of_a_held_run_and_release_it(shifted: tuple[Points, int], scorebeat: Cli) -> None:
    points, run_id = shifted

    shown = scorebeat("drift", "points_job")
    head, compared, _, names, *rows = shown.stdout.splitlines()
    assert head == f"run {run_id} of job points_job, held, 1,000 rows of the sample"
    assert compared == "compared with run 1: 2 of 2 columns too far"
    assert names.split()[:2] == ["side", "name"]
    assert [row.split()[:2] for row in rows] == [["input", "x"], ["output", "value"]]
    assert "moved by" in rows[0]
    found = json.loads(scorebeat("drift", "points_job", "--run", str(run_id), "--json").stdout)
    assert (found["run"], found["state"], found["reference"]) == (run_id, "held", "run 1")
    assert found["findings"][0]["mean_now"] == pytest.approx(0.5, abs=0.1)

    first = scorebeat("drift", "points_job", "--run", "1").stdout
    assert "nothing was compared: later runs are compared with this one" in first
    assert "drift  compared with run 1: 2 of 2 columns too far" in " ".join(
        scorebeat("show", str(run_id)).stdout.split(" " * 5)
    )
    assert f"note: run {run_id} of job points_job is held by the gate" in scorebeat("jobs").stderr

    assert scorebeat("release", "1").exit_code == 2
    released = scorebeat("release", str(run_id), "--why", "the campaign began")
    assert released.stdout == f"run {run_id} of job points_job is succeeded: readers see it\n"
    assert mean_of_readers(points) == pytest.approx(1, abs=0.1)
    assert "note" not in scorebeat("jobs").stderr


def test_over_http_who_discards_a_held_run_and_why_is_recorded(shifted: tuple[Points, int], client: Client) -> None:
    points, run_id = shifted

    found = client.get(f"/runs/{run_id}/drift").json()
    assert [(f["side"], f["name"], bool(f["reasons"])) for f in found["findings"]] == [
        ("input", "x", True),
        ("output", "value", True),
    ]
    assert client.get("/runs", params={"state": "held"}).json()["runs"][0]["id"] == run_id
    assert client.get("/jobs").json()["jobs"][0]["held_run"] == run_id
    refused = client.post("/runs/1/release", json={})
    assert (refused.status_code, "no gate holds it" in refused.json()["error"]) == (409, True)
    assert client.post("/runs/99/discard").status_code == 404
    assert client.post(f"/runs/{run_id}/discard", json={"why": None}).status_code == 422

    dropped = client.post(f"/runs/{run_id}/discard", json={"by": "ann", "why": "a wrong load"})
    assert dropped.status_code == 200
    assert (dropped.json()["state"], "a wrong load" in dropped.json()["reason"]) == ("failed", True)
    assert points.sql("SELECT by, details ->> 'why' FROM scorebeat.actions WHERE action = 'run.discarded'") == [
        ("ann (api)", "a wrong load")
    ]


def test_a_held_run_that_keeps_others_from_beginning_is_a_conflict_over_http(points: Points, client: Client) -> None:
    points.fill(20)
    points.model({})
    run_id = points.scored(points.job(**WHOLE))
    refused = client.post("/runs", json={"job": "points_job"})
    assert refused.status_code == 409
    assert f"scorebeat release {run_id}" in refused.json()["error"]


def test_a_program_compares_and_releases_a_held_run(shifted: tuple[Points, int]) -> None:
    points, run_id = shifted
    settings = points.settings
    with public.connect(settings.database_url, artifacts=settings.artifacts, cache=settings.cache) as connected:
        run = connected.run(run_id)
        compared = run.drift()
        assert [finding.name for finding in compared.drifted] == ["x", "value"]
        assert connected.run(1).drift().findings is None
        with pytest.raises(public.RunNotSucceeded, match=f"scorebeat release {run_id}"):
            run.wait()
        assert run.release("the campaign began").state is RunState.SUCCEEDED
        with pytest.raises(UsageError, match="no gate holds it"):
            run.discard()


def test_a_job_without_profiles_names_the_setting_that_keeps_none(points: Points, scorebeat: Cli) -> None:
    points.fill(20)
    points.model({})
    run_id = points.scored(points.job(drift=None))
    assert "[jobs.points_job] has drift = false" in scorebeat("drift", "points_job", "--run", str(run_id)).stdout
    none = scorebeat("drift", "points_job")
    assert (none.exit_code, "no run of job points_job has a profile yet" in none.stderr) == (2, True)


def test_overdue_results_name_the_held_run_and_what_to_do(shifted: tuple[Points, int]) -> None:
    points, run_id = shifted
    spec = '{"schedule": "0 2 * * *", "results_by": "03:00"}'
    points.sql("UPDATE scorebeat.jobs SET spec = spec || CAST(:spec AS jsonb), applied_at = '2026-01-01'", spec=spec)
    points.sql("UPDATE scorebeat.runs SET created_at = '2026-01-02', finished_at = '2026-01-02' WHERE id = 1")

    assert note_overdue(points.producer) == 1
    (reason,) = points.sql("SELECT details ->> 'reason' FROM scorebeat.actions WHERE action = 'results.overdue'")
    assert f"run {run_id} of job points_job is held by the gate" in reason
    assert f"`scorebeat release {run_id}`" in reason
