"""Flower's pages with our tab: what they show, how fast, and what they show if the database is away."""

import html
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import pytest
from flower.urls import handlers
from sqlalchemy import text

from scorebeat.core.settings import Settings
from scorebeat.db.reports.pages import job_lines
from scorebeat.monitor import flower as wiring
from tests.support.fixtures import wait_for
from tests.support.flower_fixtures import a_run, flower, guarded, s
from tests.support.flower_program import Flower, message_of, start_flower
from tests.support.system import System

__all__ = ["flower", "guarded", "s"]

PAGES = ("/", "/tasks", "/broker", "/runs")
MARKUP = "<script>alert('x')</script> \"&amp;"
AS_LONG = 12.0
"""Times what the page of a small run takes, at most, with 10,000 batches and 100,000 failed rows, and as many again of
other runs."""


@pytest.mark.parametrize("path", PAGES)
def test_the_tab_is_in_the_navigation_of_every_page(flower: Flower, path: str) -> None:
    found = flower.get(path)

    assert found.status_code == 200
    assert re.search(r'<a class="nav-link[^>]*href="/runs"', found.text)
    assert found.text.count('aria-current="page"') == 1


def test_the_tab_and_its_pages_are_under_flowers_prefix(s: System, guarded: Flower) -> None:
    run = a_run(s, "partial", "under_a_prefix", "dead")

    listed, page = guarded.get("/runs").text, guarded.get(f"/runs/{run}").text

    assert f'href="/watch/runs/{run}"' in listed
    assert f'data-act="/watch/runs/{run}/requeue"' in page
    assert guarded.get("/runs/static/runs.js").status_code == 200


def test_the_page_of_a_run_shows_what_it_cost(s: System, flower: Flower) -> None:
    run, unmeasured = (a_run(s, "succeeded", f"cost_{n}", "committed", "committed") for n in range(2))
    s.execute("UPDATE scorebeat.batches SET device_seconds = 90, cpu_seconds = 1 WHERE run_id = :run", run=run)
    s.execute(
        "INSERT INTO scorebeat.prices (position, name, unit, price, currency, since, queue, device)"
        " VALUES (0, 'cores', 'core_hour', 3600, 'EUR', '2020-01-01', '*', '*')"
    )

    assert '<dd id="cost">3 min 0 s of devices: 180.00 EUR</dd>' in flower.get(f"/runs/{run}").text
    assert 'id="cost"' not in flower.get(f"/runs/{unmeasured}").text


def test_no_other_site_frames_a_page_and_no_page_runs_a_foreign_script(
    s: System, flower: Flower, guarded: Flower
) -> None:
    run = a_run(s, "partial", "framed", "dead")
    ours = ("/runs", f"/runs/{run}", f"/runs/batch/{s.first_batch(run)}", "/runs/987654321", "/task/unknown")
    pages = (*ours, "/", "/workers", "/tasks", "/broker", "/nowhere")

    responses = [*map(flower.get, pages), flower.post(f"/runs/{run}/cancel"), Flower(guarded.url).get("/runs")]

    assert [response.status_code for response in responses] == [
        200,
        200,
        200,
        404,
        404,
        200,
        200,
        200,
        200,
        404,
        200,
        401,
    ]
    for response in responses:
        assert response.headers["x-frame-options"] == "SAMEORIGIN", response.url
        policy = response.headers["content-security-policy"]
        assert policy.startswith("frame-ancestors 'self'; script-src 'self' 'sha256-"), response.url
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    assert flower.get("/runs/static/runs.js").headers["x-content-type-options"] == "nosniff"


def test_the_page_of_an_open_run_shows_its_expected_end_or_why_there_is_none(s: System, flower: Flower) -> None:
    run = a_run(s, "running", "expected", "committed", "committed", "pending")
    s.execute("UPDATE scorebeat.batches SET queue = 'unserved' WHERE run_id = :run", run=run)
    s.execute('UPDATE scorebeat.runs SET spec = spec || \'{"queue": "unserved"}\' WHERE id = :run', run=run)
    s.execute(
        "UPDATE scorebeat.batches SET claimed_at = now() - interval '9 s', claimed_by = 'w1', rows_scored = 10,"
        " finished_at = now() WHERE run_id = :run AND state = 'committed'",
        run=run,
    )
    before = html.unescape(flower.get(f"/runs/{run}").text)
    s.execute("INSERT INTO scorebeat.workers (name, queues, processes) VALUES ('w1', '[\"unserved\"]', 2)")

    after = flower.get(f"/runs/{run}").text
    s.execute("DELETE FROM scorebeat.workers WHERE name = 'w1'")

    assert "not forecast: no worker listens on queue 'unserved'" in before
    assert re.search(r"\d\d:\d\d:\d\d, in \d+(\.\d)? m?s \(between \d\d:\d\d:\d\d and \d\d:\d\d:\d\d\)", after)


def test_errors_and_tracebacks_that_hold_markup_are_shown_as_text(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "markup", "dead", "committed", error=MARKUP)
    s.execute(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
        " SELECT r.prediction_set_id, b.id, jsonb_build_array(CAST(:m AS text)), 'E', :m, :m FROM scorebeat.batches b"
        " JOIN scorebeat.runs r ON r.id = b.run_id WHERE r.id = :run AND b.state = 'committed'",
        run=run,
        m=MARKUP,
    )
    dead = s.first_batch(run)

    for page in (flower.get(f"/runs/{run}").text, flower.get(f"/runs/batch/{dead}").text):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_direction_controls_in_errors_and_reasons_are_shown_and_turn_nothing(s: System, flower: Flower) -> None:
    turned = "right\u2069\u202eleft"  # it would end the isolation of an element, and turn around what follows
    run = a_run(s, "partial", "turned", "dead", error=turned, claimed_by=turned)
    s.execute("UPDATE scorebeat.runs SET reason = :t WHERE id = :run", run=run, t=turned)
    s.execute("UPDATE scorebeat.jobs SET paused_at = now(), paused_by = :t WHERE name = 'turned'", t=turned)

    for path in ("/runs", f"/runs/{run}", f"/runs/batch/{s.first_batch(run)}"):
        page = flower.get(path).text
        assert not {"\u2069", "\u202e"} & set(page)
        assert "right[U+2069][U+202E]left" in page


def test_a_run_that_found_no_row_is_shown_as_nothing_to_do(s: System, flower: Flower) -> None:
    run = a_run(s, "succeeded", "nothing")

    row = flower.get("/runs?job=nothing").text.partition(f'<tr id="run-{run}">')[2].partition("</tr>")[0]
    page = flower.get(f"/runs/{run}").text

    assert "nothing to do" in row
    assert "Nothing to do: no row was pending." in page
    for shown in (row, page):
        assert "progressbar" not in shown
        assert not re.search(r"took \d", shown)


def test_buttons_of_a_run_and_of_its_job_are_apart_and_named_as_they_read(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "apart", "dead")

    page = flower.get(f"/runs/{run}").text

    groups = [page.partition(f'id="buttons-of-{of}" role="group"')[2].partition("</div>")[0] for of in ("run", "job")]
    assert [re.findall(r'data-verb="([^"]+)"', group) for group in groups] == [["Requeue"], ["Run now", "Pause"]]
    named = re.findall(r'<button[^>]*aria-label="([^"]+)"[^>]*>([^<]+)</button>', page + flower.get("/runs").text)
    assert len(named) > 3
    assert [(name, label) for name, label in named if label not in name] == []


def test_the_jobs_are_shown_with_what_the_command_shows_and_markup_in_them_is_text(s: System, flower: Flower) -> None:
    job = s.job("listed", rows=4, schedule="0 2 * * *", timezone="Europe/Berlin")
    run = a_run(s, "partial", "listed", "committed")
    s.execute("UPDATE scorebeat.runs SET reason = '1 of 5 batches are dead' WHERE id = :run", run=run)
    s.execute(
        "UPDATE scorebeat.jobs SET applied_at = now() - interval '3 days', paused_at = now(), paused_by = :m,"
        " paused_reason = :m WHERE name = 'listed'",
        m=MARKUP,
    )
    s.execute(
        "INSERT INTO scorebeat.actions (by, action, subject, details) VALUES ('beat', 'tick.skipped', 'job listed',"
        " jsonb_build_object('due_at', now() - interval '5 h 1 min', 'reason', CAST(:m AS text)))",
        m=MARKUP,
    )
    with s.engine.connect() as connection:
        (line,) = (one for one in job_lines.listing(connection) if one.name == job.name)

    page = flower.get("/runs").text
    row = page.partition('<tr id="job-listed">')[2].partition("</tr>")[0]
    shown = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", re.sub("</?bdi>", "", row))).split())

    assert line.next_due_at is not None
    assert line.last_end_at is not None
    assert line.last_skip_at is not None
    for at, distance in (
        (line.next_due_at, r"in \d+ (h|min|s)"),
        (line.last_skip_at, "5 h ago"),
        (line.last_end_at, r"\d+ (s|min) ago"),
    ):
        exact = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        assert re.search(f'<time datetime="[^"]+" title="{exact}" tabindex="0">{distance}</time>', row), row
    for words in (
        "flowers/1",
        "queue cpu",
        "0 2 * * * Europe/Berlin",
        f"run {run} partial",
        "overdue",
        f"by {MARKUP}: {MARKUP}",
    ):
        assert " ".join(words.split()) in shown, words
    assert "<script>" not in row


def test_flowers_task_page_includes_the_batch_and_its_list_shows_job_run_and_rows(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "tasked", "dead", rows_planned=1234, first_key='["17"]', last_key='["4711"]')
    batch = s.first_batch(run)

    part = flower.get(f"/runs/batch/{batch}").text

    assert f"Run {run} of job tasked" in part
    assert "keys from <bdi>17</bdi> to <bdi>4711</bdi>" in part
    assert f'data-act="/runs/{run}/requeue" data-fields="{{&quot;batch&quot;: &quot;{batch}&quot;}}"' in part
    assert 'data-column="args"' in flower.get("/tasks").text


@pytest.mark.wide
def test_a_page_of_10_000_batches_and_100_000_failed_rows_stays_fast(s: System, flower: Flower) -> None:
    small = a_run(s, "partial", "small", "dead", "committed")
    runs = [_large(s, f"large_{n}") for n in range(3)]
    s.execute("ANALYZE scorebeat.batches, scorebeat.quarantine, scorebeat.runs")

    paths = ("/runs", f"/runs/{runs[1]}", f"/runs/{runs[1]}?after=9000&rows_after=9000-1&groups_after=2000-r1")
    took = _seconds(flower, f"/runs/{small}", *paths)

    print(took)  # noqa: T201 -- pytest shows it where a test failed
    assert max(took.values()) < AS_LONG * took[f"/runs/{small}"]
    assert f'rel="next" href="/runs/{runs[1]}?batches=failed#batches"' in flower.get(f"/runs/{runs[1]}").text


def test_a_page_reports_an_unavailable_database_and_recovers_with_it(s: System, flower: Flower) -> None:
    run = a_run(s, "succeeded", "while_away", "committed")
    s.servers.stop("database")
    try:
        away = flower.get(f"/runs/{run}")
        act = flower.post(f"/runs/{run}/requeue")
        own = flower.get("/tasks")
    finally:
        s.servers.start("database")

    assert (away.status_code, act.status_code, own.status_code) == (503, 503, 200)
    assert "cannot be used" in away.text
    assert "cannot be used" in message_of(act)
    wait_for(lambda: flower.get(f"/runs/{run}").status_code == 200)


def test_a_ledger_that_lets_a_page_wait_does_not_hold_up_flowers_own_pages(s: System, flower: Flower) -> None:
    with s.engine.connect() as holder, ThreadPoolExecutor() as pool:
        holder.execute(text("LOCK TABLE scorebeat.runs IN ACCESS EXCLUSIVE MODE"))
        waiting = pool.submit(flower.get, "/runs")
        wait_for(lambda: s.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
        own = flower.get("/tasks")
        still = not waiting.done()
        holder.rollback()

    assert (own.status_code, still) == (200, True)
    assert waiting.result().status_code == 200


def test_flower_starts_without_the_database(s: System) -> None:
    s.servers.stop("database")
    try:
        early = start_flower(s)
        away = early.get("/runs").status_code
    finally:
        s.servers.start("database")

    assert away == 503
    wait_for(lambda: early.get("/runs").status_code == 200)


@pytest.mark.parametrize("version", ["1.2.0", "2.3.0", "3.0.0rc1"])
def test_another_version_of_flower_gets_no_tab_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    monkeypatch.setattr(wiring, "version", lambda _: version)
    monkeypatch.setattr(wiring, "configure_logging", lambda _: None)  # it would replace what listens here
    before = list(handlers)

    with caplog.at_level(logging.WARNING):
        assert not wiring.install(Settings(_env_file=None))

    assert handlers == before
    assert "flower.no_tab" in caplog.text


def _large(s: System, name: str) -> int:
    """A finished run of 10,000 batches, each with ten rows quarantined for one of many errors."""
    run = a_run(s, "partial", name)
    s.execute(
        "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, rows_scored, rows_failed, attempt,"
        " attempts_left, first_key, last_key, claimed_by, claimed_at, finished_at)"
        " SELECT :run, n, 'cpu', 'committed', 1000, 990, 10, 1, 5, '[\"1\"]', '[\"10\"]', 'w1',"
        " now() + n * interval '1 ms', now() + n * interval '2 ms' FROM generate_series(1, 10000) n",
        run=run,
    )
    s.execute(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
        " SELECT r.prediction_set_id, b.id, jsonb_build_array(b.number * 10 + n), 'ValueError',"
        " 'bad value of kind ' || b.number % 50, repeat('/srv/scorebeat/worker/narrow.py:75 in _halves' || n, 5)"
        " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id, generate_series(1, 10) n"
        " WHERE b.run_id = :run",
        run=run,
    )
    return run


def _seconds(flower: Flower, *paths: str) -> dict[str, float]:
    """The best of several, by turns: what each page takes, and not what else the machine does."""

    def once(path: str) -> float:
        began = time.perf_counter()
        assert flower.get(path).status_code == 200
        return time.perf_counter() - began

    rounds = [{path: once(path) for path in paths} for _ in range(15)]
    return {path: min(took[path] for took in rounds) for path in paths}
