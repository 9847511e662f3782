"""Nothing is read, written or scored without the token, and no request is larger than it may be."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from scorebeat.core.settings import Settings
from tests.support.api_fixtures import BEARER, SCORED, TOKEN, Client, Opener, client, opened, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained

pytestmark = pytest.mark.wide(slow=10)

__all__ = ["client", "ledger", "opened", "scored", "trained"]

OPEN = ("/health", "/ready", "/openapi.json")
READ = ("/data/all", "/data/1", "/jobs", "/runs", "/runs/1", "/runs/1/failures", "/costs", "/metrics", "/no/such/path")
PUBLIC = ("/data/all", "/data/1", "/jobs", "/runs", "/runs/1", "/costs", "/metrics")
FAILURES = "/runs/1/failures"
WRITE = ("/runs", "/runs/1/requeue", "/runs/1/cancel", "/predict/flowers")
JSON = {"Content-Type": "application/json"}
WRONG: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
]


def test_without_the_token_only_health_responds(scored: Ledger, opened: Opener) -> None:
    stranger = opened(headers={})
    before = scored.sql("SELECT count(*) FROM scorebeat.actions")

    for path in OPEN:
        assert stranger.get(path).status_code == 200, path
    for headers in WRONG:
        refused = [stranger.get(path, headers=headers) for path in READ]
        refused += [stranger.post(path, headers=headers, content=b"no json") for path in WRITE]
        for response in refused:
            assert response.status_code == 401, response.url
            assert response.headers["www-authenticate"] == "Bearer"
            assert "expected the header 'Authorization: Bearer TOKEN'" in response.json()["error"]
            assert TOKEN not in response.text
    assert scored.sql("SELECT count(*) FROM scorebeat.actions") == before


def test_a_token_of_other_letters_than_ascii_is_wrong_and_no_failure(opened: Opener) -> None:
    response = opened(headers={}).get("/runs", headers=[(b"authorization", b"Bearer \xe9\xff")])

    assert response.status_code == 401


@pytest.mark.usefixtures("scored")
def test_a_server_without_a_token_is_closed_and_names_the_variable_that_opens_it(opened: Opener) -> None:
    tokenless = opened(api_token=None)

    for response in (*map(tokenless.get, READ), *map(tokenless.post, WRITE)):
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert "the server has no token; set SCOREBEAT_API_TOKEN" in response.json()["error"]
    assert tokenless.get("/ready").status_code == 200


@pytest.mark.usefixtures("scored")
def test_public_reading_opens_predictions_and_runs_but_no_failures_or_writes(opened: Opener) -> None:
    for options in ({}, {"api_token": None}):
        stranger = opened(headers={}, api_read_public=True, **options)
        assert [stranger.get(path).status_code for path in READ if path in PUBLIC] == [200] * 7
        assert {stranger.get(path).status_code for path in READ if path not in PUBLIC} == {401}
        assert {stranger.post(path, json={}).status_code for path in WRITE} == {401}
        for path in ("/runs/1/failures/", "/runs//failures", "//runs/1/failures", "/runs/1%2Ffailures", "/runs/"):
            assert "traceback" not in stranger.get(path).text
            assert stranger.get(path).status_code in (401, 404), path
    public = opened(api_read_public=True)
    assert public.get(FAILURES).status_code == 200
    assert public.get("/data/").json() == public.get("/data/", headers={"Authorization": ""}).json()


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("options", [{}, {"api_read_public": True}, {"api_token": None}])
def test_the_description_lists_for_each_setting_what_takes_the_token(opened: Opener, options: dict[str, Any]) -> None:
    stranger = opened(headers={}, **options)
    described = stranger.get("/openapi.json").json()

    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            status = stranger.request(method, re.sub("{[a-z]+}", "1", path)).status_code
            refused = status == 401
            assert refused == ("security" in operation), (method, path, status)
            assert refused == ("401" in operation["responses"]), (method, path)
    assert ("the rest is open" in described["info"]["description"]) == ("api_read_public" in options)


@pytest.mark.usefixtures("scored")
def test_head_returns_what_get_does_without_its_body(client: Client, opened: Opener) -> None:
    for path in (*OPEN, *READ):
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert opened(headers={}).head("/runs").status_code == 401


def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(opened: Opener) -> None:
    client = opened(api_max_body=10_000)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 1_000
            yield b"x" * 1_000

    announced = client.post("/runs", content=b"x" * 10_001)
    assert (announced.status_code, announced.json()["error"]) == (
        413,
        "the body has more than 10,000 bytes; send less at once",
    )
    chunked = client.post("/runs", content=iter([b"x" * 5_000, b"x" * 5_001]))
    assert (chunked.status_code, chunked.json()) == (413, announced.json())
    with suppress(httpx.TransportError):  # the server hangs up while the client still sends
        assert client.post("/runs", content=endless()).status_code == 413
    assert sent < 50_000_000
    assert client.get("/health").status_code == 200


def test_a_body_of_just_the_size_is_read(opened: Opener) -> None:
    client = opened(api_max_body=10_000)

    assert client.post("/runs", content=b"x" * 10_000, headers=JSON).status_code == 422
    assert client.post("/runs", content=iter([b"x" * 5_000] * 2), headers=JSON).status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/runs", b"{", "the body is not JSON"),
        ("/runs", b"", "body: Field required"),
        ("/runs", b"[]", "valid dictionary"),
        ("/runs", b"\xff\xfe", "the body"),
        ("/runs", b"[" * 100_000, "the body"),
        ("/runs", b'{"jbo": "x"}', "body.job: Field required; body.jbo: Extra inputs are not permitted"),
        ("/runs", b'{"job": "x", "limit": "5"}', "body.limit: Input should be a valid integer, got '5'"),
        ("/runs", b'{"job": "x", "limit": true}', "body.limit: Input should be a valid integer"),
        ("/runs", b'{"job": "x\\u0000"}', "pattern"),
        ("/runs", b'{"job": "\\ud800"}', "valid string"),
        ("/runs", b'{"job": "x", "keys": []}', "at least 1 item"),
        (
            "/runs",
            b'{"job": "x", "keys": [1.5]}',
            '"body.keys.0: expected a text, a whole number, or a list of them, got 1.5"',
        ),
        ("/runs", b'{"job": "x", "keys": [null]}', '"body.keys.0: expected a text, a whole number, or a list of them"'),
        ("/predict/flowers", b'{"rows": []}', "at least 1 item"),
        ("/predict/flowers", b'{"rows": [1]}', "valid dictionary"),
        ("/predict/flowers", b'{"rows": [{"a": ' + b"9" * 5000 + b"}]}", "the body"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_in_one_shape(
    client: Client, path: str, body: bytes, expected: str
) -> None:
    refused = client.post(path, content=body, headers=JSON)

    assert refused.status_code in (400, 422), refused.text
    assert list(refused.json()) == ["error"]
    assert expected in json.dumps(refused.json()["error"], ensure_ascii=False)


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/json", "json"])
@pytest.mark.parametrize("path", ["/runs", "/runs/1/requeue", "/predict/flowers"])
def test_a_body_that_is_not_json_is_refused_with_the_header_to_send(
    client: Client, path: str, content_type: str | None
) -> None:
    refused = client.post(path, content=b'{"job": "x"}', headers={"Content-Type": content_type} if content_type else {})

    assert refused.status_code == 415
    assert "expected the header 'Content-Type: application/json'" in refused.json()["error"]


def test_a_million_rows_are_refused_quickly_with_the_limit(client: Client) -> None:
    body = json.dumps({"rows": [{"amount": 1}] * 1_000_000}).encode()
    assert client.post("/predict/flowers", content=body).status_code == 413  # 15 MB

    small = b'{"rows":[' + b"{}," * 999_999 + b"{}]}"
    refused = client.post("/predict/flowers", content=small, headers=JSON)
    assert (refused.status_code, refused.elapsed.total_seconds() < 10) == (422, True)
    assert "at most 10000 items" in refused.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/none", 404), ("DELETE", "/runs", 405), ("OPTIONS", "/runs", 405)]
)
def test_paths_and_methods_that_are_not_there_have_the_same_shape(
    client: Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)

    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert response.headers.get("allow") == (None if status == 404 else "GET, HEAD, POST")


@pytest.mark.usefixtures("scored")
def test_metrics_are_in_the_form_that_prometheus_reads(client: Client) -> None:
    response = client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert samples["scorebeat_rows_scored_total"] == SCORED


def test_the_token_is_in_no_text_that_settings_are_shown_by(settings: Settings) -> None:
    values: dict[str, Any] = settings.model_dump(exclude_none=True) | {"api_token": TOKEN}
    shown = Settings(_env_file=None, **values)

    assert shown.api_token is not None
    assert BEARER["Authorization"].endswith(shown.api_token.get_secret_value())
    assert TOKEN not in f"{shown!r} {shown} {shown.model_dump()} {shown.model_dump_json()}"
