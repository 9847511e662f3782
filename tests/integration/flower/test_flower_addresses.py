"""Addresses of the tab's pages that are wrong, or that lie beyond what there is."""

import re
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.flower_fixtures import a_run, flower, guarded, s
from tests.support.flower_program import Flower
from tests.support.system import System

__all__ = ["flower", "guarded", "s"]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/987654321", 404),
        ("/runs/one", 404),
        ("/runs/9999999999999999999999", 404),
        ("/runs?before=x", 400),
        ("/runs?state=sleeping", 400),
        ("/runs?job=nobody%27s", 200),
        ("/runs/batch/987654321", 404),
        ("/runs/static/%2e%2e/handlers.py", 403),
        ("/runs?job=a%00b", 200),
        ("/runs?job=%ff", 400),
    ],
)
def test_an_address_that_is_wrong_is_reported_as_such(flower: Flower, path: str, status: int) -> None:
    found = flower.get(path)

    assert found.status_code == status
    assert "Traceback" not in found.text


WRONG = {
    "rows_after": (
        "1",
        "1-",
        "-1",
        "1-x123456789",
        f"1-{10**18}",
        f"{10**9}-1",
        "1-1 OR 1=1",
        "\u0661-\u0661",
        "1-1-1",
    ),
    "groups_after": ("20", "1-9", "1-x9", f"1-r{10**18}", f"{10**18}-r1", "1-r-9"),
    "after": ("x", "-1", "1.5", "\u0661", str(10**18)),
    "batches": ("asleep", "DEAD", "dead,pending"),
}


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, several in WRONG.items() for one in several])
def test_a_part_of_a_run_that_cannot_be_is_refused_with_what_was_expected(
    s: System, flower: Flower, name: str, value: str
) -> None:
    run = a_run(s, "partial", f"queried_{name}", "dead")

    refused = flower.get(f"/runs/{run}?{urlencode({name: value})}")

    assert (refused.status_code, f'id="wrong">{name}: expected' in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/runs/987654321", 404, "There is no run 987654321."),
        ("/runs/batch/987654321", 404, "There is no batch 987654321; it may have been pruned."),
        ("/runs/one", 404, "There is no such page."),
        ("/runs/", 404, "There is no such page."),
        ("/runs?state=sleeping", 400, "state: expected open or succeeded or partial or failed or cancelled or held"),
        ("/runs?before=x%25d", 400, "before: expected a whole number"),
    ],
)
def test_a_wrong_address_is_reported_in_flowers_frame_with_the_way_back(
    guarded: Flower, path: str, status: int, message: str
) -> None:
    found = guarded.get(path)

    assert (found.status_code, found.headers["content-type"]) == (status, "text/html; charset=UTF-8")
    assert f'id="wrong">{message}</p>' in found.text
    assert re.search(r'<a class="nav-link active"\s+href="/watch/runs"', found.text)
    assert '<a class="btn btn-sm btn-outline-primary" href="/watch/runs">All runs</a>' in found.text


def test_a_wrong_address_requires_the_login_first(guarded: Flower) -> None:
    assert [Flower(guarded.url).get(path).status_code for path in ("/runs/one", "/runs/7", "/runs?before=x")] == [
        401
    ] * 3


def test_an_unreadable_body_is_reported_without_a_login_too(guarded: Flower) -> None:
    found = httpx.request("GET", f"{guarded.url}/runs", headers={"Content-Type": "multipart/form-data"}, content=b"x")

    assert (found.status_code, 'id="wrong">Invalid body' in found.text) == (400, True)


def test_a_job_that_no_name_can_be_is_not_there(flower: Flower) -> None:
    for job, status in (("a%00b", 404), ("%ff", 400), ("nobody", 404), ("a%2Fb", 404)):
        assert flower.post(f"/runs/job/{job}/pause").status_code == status, job


@pytest.mark.parametrize(
    "part", [f"after={10**18 - 1}", f"rows_after={10**9 - 1}-{10**18 - 1}", f"groups_after={10**18 - 1}-r{10**18 - 1}"]
)
def test_a_part_beyond_the_end_of_a_run_is_empty(s: System, flower: Flower, part: str) -> None:
    run = a_run(s, "partial", "beyond", "dead")

    assert flower.get(f"/runs/{run}?{part}").status_code == 200
