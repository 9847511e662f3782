"""Requeue from Flower's pages: what a button requeues, its message, and when there is none."""

import re
from html import unescape

import pytest

from tests.support.flower_fixtures import a_run, flower, recorded, s, states
from tests.support.flower_program import Flower, message_of
from tests.support.system import System

__all__ = ["flower", "s"]


def group(flower: Flower, run: int, error: str) -> str:
    """The id of a group of failures as the run's page has it, by words of its error."""
    rows = re.findall(r'<tr id="group-([0-9a-f]{32})">(.*?)</tr>', flower.get(f"/runs/{run}").text, re.DOTALL)
    (found,) = (found for found, row in rows if error in unescape(row))
    return str(found)


@pytest.mark.slow
def test_a_requeue_of_one_batch_or_of_one_error_leaves_the_others(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "in_part", "dead", "dead", "dead")
    ids = [row[0] for row in s.query("SELECT id FROM scorebeat.batches WHERE run_id = :run ORDER BY id", run=run)]
    s.execute("UPDATE scorebeat.batches SET error = 'OSError: <away> & gone' WHERE id = :id", id=ids[2])

    flower.post(f"/runs/{run}/requeue", batch=str(ids[0]))
    assert f'data-question="Put all that failed in run {run} back' in flower.get(f"/runs/{run}").text
    assert states(s, run) == ["pending", "dead", "dead"]
    flower.post(f"/runs/{run}/requeue", group=group(flower, run, "OSError: <away> &"))

    assert states(s, run) == ["pending", "dead", "pending"]


def test_a_requeue_that_is_pressed_twice_puts_back_once(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "twice", "dead")

    once, again = (flower.post(f"/runs/{run}/requeue") for _ in range(2))

    assert message_of(once).startswith("1 batch ")
    assert (again.status_code, "Nothing was changed" in message_of(again)) == (200, True)
    assert recorded(s, f"run {run}") == [("run.requeued", "flower")] * 2


def test_a_requeue_of_a_running_run_requeues_its_failed_part_and_reports_it(s: System, flower: Flower) -> None:
    run = a_run(s, "running", "still_running", "dead", "pending", "claimed")

    once, again = (flower.post(f"/runs/{run}/requeue") for _ in range(2))

    assert (once.status_code, message_of(once)) == (200, f"1 batch of run {run} put back.")
    assert (again.status_code, f"Nothing of that is left to put back in run {run}" in message_of(again)) == (200, True)
    assert states(s, run) == ["pending", "pending", "claimed"]
    assert s.query("SELECT state FROM scorebeat.runs WHERE id = :run", run=run) == [("running",)]


def test_a_requeue_of_a_run_in_planning_is_refused_until_the_plan_ends(s: System, flower: Flower) -> None:
    run = a_run(s, "planning", "still_planned", "dead")

    response = flower.post(f"/runs/{run}/requeue")

    assert (response.status_code, "is still being planned; nothing was put back" in message_of(response)) == (409, True)
    assert states(s, run) == ["dead"]
    assert recorded(s, f"run {run}") == []


def test_a_failed_run_that_is_shown_whole_has_one_button_and_comes_back_whole(s: System, flower: Flower) -> None:
    run = a_run(s, "failed", "all_or_nothing", "dead", "cancelled")
    s.execute(
        "UPDATE scorebeat.runs SET spec = jsonb_set(spec, '{on_failure}', '\"retry-run\"') WHERE id = :run", run=run
    )
    s.execute("ALTER TABLE predictions.all_or_nothing__t ADD COLUMN batch_id bigint")
    batch = s.first_batch(run)

    page, part = flower.get(f"/runs/{run}").text, flower.get(f"/runs/batch/{batch}").text
    refused = flower.post(f"/runs/{run}/requeue", batch=str(batch))

    assert page.count('data-verb="Requeue"') == 1
    assert "shown whole or not at all" in page
    assert f'data-question="Score all of run {run} again?' in page
    assert "Put all that failed" not in page
    assert "requeue-batch" not in part
    assert (refused.status_code, "requeue the whole run" in message_of(refused)) == (409, True)
    assert states(s, run) == ["dead", "cancelled"]
    assert message_of(flower.post(f"/runs/{run}/requeue")) == f"2 batches of run {run} put back."


def test_failed_batches_beyond_the_first_eight_are_a_link_away(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "many_failed", *["committed", "dead"] * 60)

    page = flower.get(f"/runs/{run}").text
    first = flower.get(f"/runs/{run}?batches=failed").text
    second = flower.get(f"/runs/{run}?batches=failed&after=100").text

    assert page.count('<tr id="batches-') == 8
    assert f'href="/runs/{run}?batches=failed#batches"' in page
    assert (first.count('<tr id="batches-'), second.count('<tr id="batches-')) == (50, 10)
    assert f'rel="next" href="/runs/{run}?batches=failed&amp;after=100#batches"' in first
    assert 'rel="next"' not in second
