"""Settings: every mistake at once, and never a password."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from scorebeat.core.errors import SettingsError
from scorebeat.core.settings import _KUBERNETES, PREFIX, Settings, load_settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"
Put = Callable[..., None]


@pytest.fixture(autouse=True)
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """Sets variables without their prefix, in an empty working directory and none of ours before."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{field.upper()}", raising=False)

    def put_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"{PREFIX}{name}", value)

    return put_all


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings()

    assert (settings.database_url, settings.jobs, settings.window) == (None, Path.cwd() / "jobs.toml", 1000)


def test_every_mistake_is_reported_at_once(put: Put) -> None:
    put(
        DATABASE_URL="mysql://ann:s3cr3t@db/app",
        BROKER_URL="cache:6379",
        LOG_FORMAT="xml",
        WINDOW="many",
        MAX_ATTEMPTS="0",
        CLAIM_TTL="soon",
        TIME_LIMIT="1.5",
        HEARTBEET="4",
    )

    assert refusal().splitlines() == [
        "settings cannot be used:",
        "  SCOREBEAT_HEARTBEET is not a setting. Did you mean SCOREBEAT_HEARTBEAT?",
        (
            "  SCOREBEAT_DATABASE_URL: begins with mysql://, not postgresql or postgresql+psycopg2; "
            "expected postgresql://user:password@host:5432/database"
        ),
        "  SCOREBEAT_BROKER_URL: is not a URL; expected redis://host:6379/0",
        "  SCOREBEAT_LOG_FORMAT: expected 'text' or 'json', got 'xml'",
        "  SCOREBEAT_CLAIM_TTL: 'soon' is not a duration; expected a number and s, m, h or d, such as '45m'",
        "  SCOREBEAT_WINDOW: expected a whole number of at least 1, got 'many'",
        "  SCOREBEAT_MAX_ATTEMPTS: expected a whole number of at least 1, got '0'",
        "  SCOREBEAT_TIME_LIMIT: '1.5' is not a whole number of seconds",
    ]


def test_settings_that_contradict_each_other_are_refused_together(put: Put) -> None:
    put(HEARTBEAT="10", BACKOFF="10m", SOFT_TIME_LIMIT="1h")

    text = refusal()
    assert "SCOREBEAT_HEARTBEAT is 10s and SCOREBEAT_CLAIM_TTL 15s: a claim must outlast two heartbeats" in text
    assert "SCOREBEAT_BACKOFF is 10m and SCOREBEAT_BACKOFF_CAP 5m" in text
    assert "SCOREBEAT_SOFT_TIME_LIMIT is 3600s and SCOREBEAT_TIME_LIMIT 3600s" in text


def test_an_unset_url_is_refused_with_the_next_step() -> None:
    settings = load_settings()

    with pytest.raises(
        SettingsError, match=r"SCOREBEAT_DATABASE_URL is not set: set it to postgresql://.*scorebeat up"
    ):
        settings.database()
    with pytest.raises(SettingsError, match=r"SCOREBEAT_BROKER_URL is not set: set it to redis://.*scorebeat up"):
        settings.broker()


def test_an_empty_variable_counts_as_unset(put: Put) -> None:
    put(DATABASE_URL="", WINDOW="", NO_SUCH_SETTING="")

    assert (load_settings().database_url, load_settings().window) == (None, 1000)


def test_settings_are_read_from_dotenv_and_the_environment_wins(put: Put) -> None:
    Path(".env").write_text("SCOREBEAT_WINDOW=7\nSCOREBEAT_MAX_ATTEMPTS=9\nOTHER=1\n")
    put(WINDOW="8")

    assert (load_settings().window, load_settings().max_attempts) == (8, 9)


def test_a_mistyped_variable_in_dotenv_is_not_passed_over() -> None:
    Path(".env").write_text("SCOREBEAT_DATABSE_URL=postgresql://ann:s3cr3t@db/app\n")

    assert "SCOREBEAT_DATABSE_URL is not a setting. Did you mean SCOREBEAT_DATABASE_URL?" in refusal()


def test_a_dotenv_that_is_not_text_is_refused() -> None:
    Path(".env").write_bytes(b"SCOREBEAT_WINDOW=\xff\n")

    assert ".env: is not UTF-8" in refusal()


def test_variables_that_kubernetes_sets_for_a_service_are_no_mistakes(put: Put) -> None:
    put(
        SERVICE_HOST="10.0.0.1",
        API_SERVICE_PORT_HTTP="80",
        PORT="tcp://10.0.0.1:80",
        API_PORT_80_TCP_ADDR="10.0.0.1",
    )

    load_settings()
    assert not any(_KUBERNETES.fullmatch(f"{PREFIX}{field}".upper()) for field in Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15", 15), ("15s", 15), ("0.5", 0.5), (" 2m ", 120), ("1h", 3600), ("1d", 86400)]
)
def test_a_duration_is_plain_seconds_or_has_a_unit(put: Put, text: str, seconds: float) -> None:
    put(RESEND_AFTER=text)

    assert load_settings().resend_after == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["0", "-1", "0s", "1.2.3", ".", "2 weeks", "1e3", "99999999d", "PT5S"])
def test_a_wrong_duration_is_refused_with_the_expected_form(put: Put, text: str) -> None:
    put(RESEND_AFTER=text)

    assert re.search("SCOREBEAT_RESEND_AFTER: .*expected", refusal())


def test_a_time_limit_may_have_a_unit(put: Put) -> None:
    put(TIME_LIMIT="20m", SOFT_TIME_LIMIT="600")

    assert (load_settings().time_limit, load_settings().soft_time_limit) == (1200, 600)


def test_a_tilde_is_the_home_folder(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    put(DATA="~/stack")

    assert load_settings().data == Path("/home/ann/stack")


def test_every_setting_is_in_its_reference_page() -> None:
    headings = re.findall(r"^### `(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert headings == [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
