"""URLs of the database and the broker: which are taken, what is refused, and that no password is ever shown."""

import pytest

from scorebeat.core.settings import load_settings
from scorebeat.core.urls import redact
from tests.unit.core.test_settings import Put, put, refusal

__all__ = ["put"]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:s3cr3t@db/app",
        "ann:s3cr3t@db/app",
        "s3cr3t",
        "postgresql://ann:s3cr3t@db:port/app",
        "postgresql://ann:s3cr3t@db:99999/app",
        "postgresql://ann:x/s3cr3t@db/app",
        "postgresql://ann:1/s3cr3t@db/app",
        "postgresql://ann:1#s3cr3t@db/app",
        "postgresql://ann:1?s3cr3t@db/app",
        "postgresql://ann:x@s3cr3t@db/app",
        "postgresql://ann:x s3cr3t@db/app",
        "postgresql://ann:[s3cr3t@db/app",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(put: Put, url: str) -> None:
    put(DATABASE_URL=url)

    text = refusal()
    assert "SCOREBEAT_DATABASE_URL" in text
    assert "expected postgresql://user:password@host:5432/database" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://ann:s3cr3t@db:5432/app"),
        ("DATABASE_URL", "postgresql+psycopg2://ann:p%40ss@[::1]/app?options=-csearch_path%3Dx"),
        ("DATABASE_URL", "postgresql:///app?host=/run/postgresql&user=ann"),
        ("BROKER_URL", "redis://:s3cr3t@cache:6379/0"),
        ("BROKER_URL", "rediss://cache"),
        ("BROKER_URL", "rediss://ann:s3cr3t@cache:6380/0?ssl_cert_reqs=required"),
        ("BROKER_URL", "redis+socket:///run/redis.sock?virtual_host=1"),
    ],
)
def test_a_usual_url_is_taken_as_it_is(put: Put, name: str, url: str) -> None:
    put(**{name: url})

    assert getattr(load_settings(), name.lower()) == url


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("sentinel", "Redis Sentinel is not supported"),
        ("redis+sentinel", "Redis Sentinel is not supported"),
        ("amqp", "RabbitMQ is not supported"),
        ("amqps", "RabbitMQ is not supported"),
    ],
)
def test_a_broker_that_is_not_supported_is_refused_with_the_reason(put: Put, scheme: str, reason: str) -> None:
    put(BROKER_URL=f"{scheme}://ann:s3cr3t@host:26379/0")

    text = refusal()
    assert f"SCOREBEAT_BROKER_URL: begins with {scheme}://: {reason}; what becomes of lost and repeated" in text
    assert "Expected redis://, rediss:// (TLS) or redis+socket:// (a Unix socket)" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://cache/0?socket_timeout=5", "has the parameter socket_timeout; none is allowed here"),
        ("redis://cache/0?ssl_ca_certs=/ca.pem", "has the parameter ssl_ca_certs; none is allowed here"),
        ("rediss://cache/0?sslmode=require", "has the parameter sslmode; allowed are ssl_ca_certs, ssl_certfile"),
        ("redis+socket:///run/redis.sock?db=1", "has the parameter db; allowed are virtual_host"),
        ("rediss://cache/0?ssl_cert_reqs=none", "the server would not be verified"),
        ("rediss://cache/0?ssl_cert_reqs=optional", "the server would not be verified"),
        ("rediss://cache/0?ssl_cert_reqs=", "the server would not be verified"),
        ("rediss://cache/0?ssl_check_hostname=false", "has the parameter ssl_check_hostname; allowed are"),
    ],
)
def test_an_unknown_or_unsafe_parameter_of_the_brokers_url_is_refused(put: Put, url: str, reason: str) -> None:
    put(BROKER_URL=url)

    assert f"SCOREBEAT_BROKER_URL: {'has ssl_cert_reqs' if 'verified' in reason else reason}" in refusal()
    assert reason in refusal()


def test_no_password_is_shown_with_the_settings(put: Put) -> None:
    put(DATABASE_URL="postgresql://ann:s3cr3t@db/app", BROKER_URL="redis://:s3cr3t@cache")

    settings = load_settings()
    assert "s3cr3t" not in f"{settings!r} {settings}"
    assert "postgresql://ann:***@db/app" in repr(settings)
    assert "s3cr3t" in settings.database()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("at postgresql://ann:s3cr3t@db/app now", "at postgresql://ann:***@db/app now"),
        ("redis://:s3c/r@3t@cache/0", "redis://:***@cache/0"),
        ("postgresql://db/app?user=ann&password=s3cr3t&x=1", "postgresql://db/app?user=ann&password=***&x=1"),
        ("host=db password='s3c r3t' user=ann", "host=db password=*** user=ann"),
        (
            "rediss://h/0?ssl_keyfile=/k&ssl_keyfile_password=s3c",
            "rediss://h/0?ssl_keyfile=/k&ssl_keyfile_password=***",
        ),
        ("postgresql://h/d?sslkey=/k&sslpassword=s3cr3t", "postgresql://h/d?sslkey=/k&sslpassword=***"),
        ("redis://s3cr3t@cache:6379/0", "redis://***@cache:6379/0"),
        ("redis://cache:6379/0 and a@b", "redis://cache:6379/0 and a@b"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
    ],
)
def test_redacting_hides_the_password_and_leaves_the_rest(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact(redact(text)) == safe
