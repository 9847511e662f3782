"""TLS to the broker: every process of ours verifies the server, and reports in one line why it cannot."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scorebeat.broker.app import make_app
from scorebeat.broker.send import require_broker
from scorebeat.core.errors import ServiceDown, SettingsError
from scorebeat.core.settings import Settings, load_settings
from scorebeat.core.states import RunState
from tests.support.certificates import Certificates, certificates
from tests.support.cli_fixtures import Cli
from tests.support.fixtures import wait_for
from tests.support.flower_program import knows_of_scored, start_flower
from tests.support.proxy import proxy_to
from tests.support.system import assert_scored_once, own_system, reached

pytestmark = pytest.mark.wide

Put = Callable[..., None]


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return certificates(tmp_path / "ours")


@contextmanager
def over_tls(broker: str, server: ssl.SSLContext, host: str = "localhost") -> Iterator[str]:
    """The session's broker behind this certificate; returns its URL, without a parameter."""
    with proxy_to(urlsplit(broker).path, server) as proxy:
        yield f"rediss://{host}:{proxy.port}/0"


def reach(settings: Settings, url: str, **files: Path) -> None:
    """As `check` and the enqueueing commands do."""
    app = make_app(settings.model_copy(update={"broker_url": url, **files}), lambda: "tls:")
    try:
        require_broker(app)
    finally:
        app.close()


def refusal(settings: Settings, url: str, **files: Path) -> str:
    with pytest.raises(ServiceDown) as caught:
        reach(settings, url, **files)
    text = str(caught.value)
    assert "\n" not in text
    assert "the broker at rediss://" in text
    assert "nothing was changed" in text
    return text


def test_every_process_does_its_part_of_a_run_over_mutual_tls(tmp_path: Path, ours: Certificates) -> None:
    certificate, key = ours.issue("scorebeat.worker")
    with own_system(tmp_path) as plain, proxy_to(plain.servers.broker_socket, ours.demanding_server()) as proxy:
        url = f"rediss://localhost:{proxy.port}/0"
        files = {"broker_ca": ours.ca, "broker_cert": certificate, "broker_key": key}
        with reached(plain, broker_url=url, **files) as s:
            job = s.job("over_tls")
            flower = start_flower(s)
            s.programs.control()
            s.programs.worker("cpu")
            run = s.enqueue(job)

            assert s.until_finished(run) is RunState.SUCCEEDED
            assert_scored_once(s, job)
            # Flower's own client requests the lengths, its events come by a subscription
            wait_for(lambda: "<td>cpu</td>" in flower.get("/broker").text)
            wait_for(lambda: knows_of_scored(flower))


def test_a_server_that_the_systems_authorities_signed_needs_no_further_setting(
    settings: Settings, ours: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with over_tls(settings.broker(), ours.server()) as url:
        unknown = refusal(settings, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(ours.ca))  # OpenSSL's own name for the system's

        reach(settings, url)

    assert "certificate verify failed: unable to get local issuer certificate" in unknown


def test_a_server_of_another_authority_or_another_name_or_time_is_refused(
    settings: Settings, ours: Certificates, tmp_path: Path
) -> None:
    theirs = certificates(tmp_path / "theirs")

    with over_tls(settings.broker(), theirs.server()) as url:
        assert "unable to get local issuer certificate" in refusal(settings, url, broker_ca=ours.ca)
    with over_tls(settings.broker(), ours.server("cache.example.org")) as url:
        assert "Hostname mismatch" in refusal(settings, url, broker_ca=ours.ca)
    with over_tls(settings.broker(), ours.server(), host="127.0.0.1") as url:
        assert "IP address mismatch" in refusal(settings, url, broker_ca=ours.ca)
    with over_tls(settings.broker(), ours.server(expired=True)) as url:
        assert "certificate has expired" in refusal(settings, url, broker_ca=ours.ca)


def test_a_server_that_requires_our_certificate_is_shown_it_and_no_strangers(
    settings: Settings, ours: Certificates, tmp_path: Path
) -> None:
    certificate, key = ours.issue("scorebeat.worker")
    other_certificate, other_key = certificates(tmp_path / "theirs").issue("scorebeat.worker")
    with over_tls(settings.broker(), ours.demanding_server()) as url:
        reach(settings, f"{url}?ssl_ca_certs={ours.ca}&ssl_certfile={certificate}&ssl_keyfile={key}")

        stranger = {"broker_cert": other_certificate, "broker_key": other_key}
        for shown in ({}, stranger):
            assert "if the server asks for a certificate, SCOREBEAT_BROKER_CERT" in refusal(
                settings, url, broker_ca=ours.ca, **shown
            )


def test_a_server_that_speaks_no_tls_is_refused_within_a_persons_patience(settings: Settings) -> None:
    began = time.monotonic()
    with proxy_to(urlsplit(settings.broker()).path) as proxy:
        text = refusal(settings, f"rediss://localhost:{proxy.port}/0")

    assert "Timeout connecting" in text
    assert time.monotonic() - began < 40  # two tries of 5 s, on a busy machine; a worker's patience is 30 s each


def test_check_names_a_server_that_it_cannot_verify(
    scorebeat: Cli, settings: Settings, ours: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with over_tls(settings.broker(), ours.server()) as url:
        monkeypatch.setenv("SCOREBEAT_BROKER_URL", url.replace("//", "//:s3cr3t@"))
        found = scorebeat("check")

    (line,) = [line for line in found.output.splitlines() if " broker:" in line]
    assert line.startswith("problem")
    assert "certificate verify failed" in line
    assert "s3cr3t" not in found.output
    assert found.exit_code == 2


def test_a_worker_reports_an_unverified_server_in_a_line_and_recovers(tmp_path: Path, ours: Certificates) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(certificates(tmp_path / "theirs").ca.read_bytes())
    with own_system(tmp_path) as plain, proxy_to(plain.servers.broker_socket, ours.server()) as proxy:
        url = f"rediss://localhost:{proxy.port}/0"
        worker = plain.programs.worker("cpu", SCOREBEAT_BROKER_URL=url, SCOREBEAT_BROKER_CA=str(trusted))
        wait_for(lambda: "certificate verify failed" in plain.programs.log(worker))
        log = plain.programs.log(worker)
        trusted.write_bytes(ours.ca.read_bytes())
        wait_for(lambda: "Connected to rediss://" in plain.programs.log(worker))

    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("url", "files", "mistake"),
    [
        ("redis://cache:6379/0", {"CA": "ca.pem"}, "begins with redis://; certificates need rediss://"),
        ("rediss://cache/0", {"CA": "none.pem"}, "the broker's CA file none.pem cannot be read"),
        ("rediss://cache/0", {"CA": "words.pem"}, "the broker's CA file words.pem cannot be used"),
        ("rediss://cache/0?ssl_ca_certs=none.pem", {}, "the broker's CA file none.pem cannot be read"),
        ("rediss://cache/0?ssl_ca_certs=ca.pem", {"CA": "ca.pem"}, "SCOREBEAT_BROKER_CA: the same file is named"),
        ("rediss://cache/0", {"KEY": "one.key"}, "one.key is given without its certificate"),
        ("rediss://cache/0", {"CERT": "one.crt"}, "the broker's key file one.crt cannot be used"),
        ("rediss://cache/0", {"CERT": "one.crt", "KEY": "two.key"}, "the broker's key file two.key cannot be used"),
        ("rediss://cache/0", {"CERT": "one.crt", "KEY": "locked.key"}, "locked.key cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(
    url: str, files: dict[str, str], mistake: str, ours: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ours.folder)
    _ = ours.ca, ours.issue("one"), ours.issue("two")
    Path("words.pem").write_text("these are words\n")
    Path("locked.key").write_bytes(ours.locked_key())
    monkeypatch.setenv("SCOREBEAT_BROKER_URL", url)
    for name, file in files.items():
        monkeypatch.setenv(f"SCOREBEAT_BROKER_{name}", file)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert mistake in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
