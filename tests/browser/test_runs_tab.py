"""The Runs tab in a real browser: a run seen growing, its bad rows seen, put back by a click, and all green."""

from pathlib import Path

import pytest

from scorebeat.core.states import RunState
from tests.browser.chromium import Browser
from tests.browser.window import a_dead_batch, browser, flower, mend, partial_run, s, window
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower, poisoned_job
from tests.support.system import System

pytestmark = pytest.mark.wide

__all__ = ["browser", "flower", "s", "window"]

ODD = 'the "first" <b>line</b>\n\tand \x01 more'
"""A text that a form's field would change."""
QUARANTINED = (
    "SELECT z.key ->> 0 FROM scorebeat.quarantine z JOIN scorebeat.batches b ON b.id = z.batch_id WHERE b.run_id = :run"
)


def done(browser: Browser) -> int:
    return int(browser.text("#rows-done").replace(",", "") or 0)


def test_a_run_is_seen_growing_and_a_click_requeues_its_bad_rows(s: System, flower: Flower, browser: Browser) -> None:
    job = poisoned_job(s, "growing", 2_000, {"raise": [1_234]}, batch_rows=50, seconds_a_row=0.004, error_threshold=-1)
    browser.open(f"{flower.url}/runs")
    browser.press("#run-growing")
    browser.until("enqueued", "#toast-container")
    (run,) = (row[0] for row in s.query("SELECT id FROM scorebeat.runs WHERE job = 'growing'"))
    browser.find(f"#run-{run} a").click()

    first = wait_for(lambda: done(browser))
    wait_for(lambda: first < done(browser) < 1_999)
    browser.until("partial", "h1")
    assert (browser.text("#rows-done"), browser.text("#rows-failed")) == ("1,999", "1")
    assert "ValueError: the model does not like a row" in browser.text("#groups")

    mend(s, job, 1_234)
    browser.press("#requeue-run")
    browser.until("succeeded", "h1")

    assert (browser.text("#rows-done"), browser.text("#rows-failed")) == ("2,000", "0")
    assert "text-bg-success" in str(browser.find("h1 .badge").get_attribute("class"))
    assert browser.all("#groups") == browser.all("#requeue-run") == []
    assert "flower: run.requeued" in browser.text("#actions")


def test_a_batch_that_was_killed_is_shown_as_dead_and_its_button_requeues_it(
    s: System, flower: Flower, browser: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "needed"
    folder.mkdir()
    job = poisoned_job(s, "homeless", 20, {}, batch_rows=10, placed=folder / "loaded")
    folder.rename(tmp_path / "gone")
    run = s.enqueue(job)
    browser.open(f"{flower.url}/runs/{run}")
    browser.until("failed", "h1")
    one, two = (row[0] for row in s.query("SELECT id FROM scorebeat.batches WHERE run_id = :run ORDER BY id", run=run))
    dead = browser.text(f"#batches-{one}").split()
    assert ("dead" in dead, str(s.settings.max_attempts) in dead) == (True, True)
    assert "FileNotFoundError" in browser.text("#groups")

    (tmp_path / "gone").rename(folder)
    browser.press(f"#batches-{one} button")
    browser.until("1 batch of run", "#toast-container")
    wait_for(lambda: not browser.all(f"#batches-{one}"))  # it is no longer among those that failed
    browser.open(f"{flower.url}/runs/{run}?batches=all")
    browser.until("committed", f"#batches-{one}")
    browser.until("partial", "h1")
    assert "text-bg-success" in str(browser.find(f"#batches-{one} .badge").get_attribute("class"))
    assert "dead" in browser.text(f"#batches-{two}")

    browser.press(f"#batches-{two} button")
    browser.until("succeeded", "h1")
    assert s.query("SELECT count(*), count(DISTINCT id) FROM predictions.homeless") == [(20, 20)]
    assert browser.all("#groups") == browser.all("#requeue-run") == []


def test_one_error_group_is_requeued_by_its_button_and_the_other_stays(
    s: System, flower: Flower, browser: Browser
) -> None:
    job = poisoned_job(s, "grouped", 40, {"raise": [7, 8, 17]}, batch_rows=10, error_threshold=-1)
    run = s.enqueue(job)
    assert s.until_finished(run) is RunState.PARTIAL
    for row in (7, 8):
        s.execute("UPDATE scorebeat.quarantine SET error = :error WHERE key ->> 0 = :row", error=ODD, row=str(row))
    s.execute("UPDATE scorebeat.quarantine SET error = :error WHERE key ->> 0 = '17'", error=f"{ODD} and more")
    for row in (7, 8, 17):
        mend(s, job, row)
    browser.open(f"{flower.url}/runs/{run}")
    assert len(browser.all("#groups tbody tr")) == 2

    browser.press('#groups button[aria-label^="Requeue 2 quarantined rows"]')
    browser.until("1 batch of run", "#toast-container")
    browser.until("1", "#rows-failed")

    assert s.until_finished(run) is RunState.PARTIAL
    assert s.query(QUARANTINED, run=run) == [("17",)]
    wait_for(lambda: len(browser.all("#groups tbody tr")) == 1)
    assert "and more" in browser.text("#groups")


def test_flowers_task_page_of_a_failed_batch_leads_to_its_run_and_puts_it_back(
    s: System, flower: Flower, browser: Browser
) -> None:
    job, run = partial_run(s, "from_tasks")
    browser.open(f"{flower.url}/tasks")
    browser.until(f"batch {s.first_batch(run)} of run {run}, job from_tasks, 10 rows", "#tasks-table")
    row = f"//tr[contains(., 'batch {s.first_batch(run)} of run {run},')]//a[contains(@href, '/task/')]"
    browser.driver.find_element("xpath", row).click()

    browser.until(f"Run {run} of job from_tasks", "#task-page")
    assert "keys from 1 to 10" in browser.text("#batch-part")
    assert "7: ValueError: the model does not like a row" in browser.text("#batch-part")
    mend(s, job, 7)
    browser.press("#requeue-batch")

    browser.until("succeeded", "#batch-part")
    assert s.until_finished(run) is RunState.SUCCEEDED


def test_an_open_page_reports_an_unavailable_database_keeps_its_rows_and_recovers(
    s: System, flower: Flower, browser: Browser
) -> None:
    run = a_dead_batch(s, "lost_sight")
    browser.open(f"{flower.url}/runs/{run}")
    assert browser.find("#requeue-run").is_displayed()

    s.servers.stop("database")
    try:
        browser.until("cannot be used", "#away")
        assert "Not live" in browser.text("#live")
        assert browser.text("h1").startswith(f"Run {run}")
        browser.press("#requeue-run")
        browser.until("cannot be used", "#toast-container")
    finally:
        s.servers.start("database")

    wait_for(lambda: not browser.find("#away").is_displayed())
    assert "Not live" not in browser.text("#live")
    assert [state for state, *_ in s.batches(run)] == ["dead"]
