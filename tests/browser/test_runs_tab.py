"""The Runs tab in a real browser: a run seen growing, its bad rows seen, put back by a click, and all green."""

from core.states import RunState
from tests.browser.chromium import Browser
from tests.browser.window import a_dead_batch, browser, flower, mend, partial_run, s, window
from tests.fixtures import wait_for
from tests.flower_program import Flower, poisoned_job
from tests.ledger_rows import add_batch
from tests.system import System

__all__ = ["browser", "flower", "s", "window"]


def done(browser: Browser) -> int:
    return int(browser.text("#rows-done").replace(",", "") or 0)


def test_a_run_is_seen_growing_its_bad_rows_are_seen_requeued_by_a_click_and_gone_green(
    s: System, flower: Flower, browser: Browser
) -> None:
    job = poisoned_job(s, "growing", 2_000, {"raise": [1_234]}, batch_rows=50, seconds_a_row=0.004, error_threshold=-1)
    browser.open(f"{flower.url}/runs")
    browser.press("#run-growing")
    browser.until("enqueued", "#toast-container")
    (run,) = (row[0] for row in s.ask("SELECT id FROM scorebeat.runs WHERE job = 'growing'"))
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


def test_one_error_group_is_requeued_by_its_button(s: System, flower: Flower, browser: Browser) -> None:
    run = a_dead_batch(s, "grouped", error='OSError: the "first" <b>disk</b> is full')
    with s.engine.begin() as connection:
        add_batch(connection, run, "dead", number=2, queue="nobody", error="MemoryError: no more")
    browser.open(f"{flower.url}/runs/{run}")

    browser.press('#groups button[aria-label*="first"]')
    browser.until("1 batch of run", "#toast-container")

    assert [state for state, *_ in s.batches(run)] == ["pending", "dead"]


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


def test_an_open_page_says_that_the_database_is_away_keeps_what_it_showed_and_recovers(
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
