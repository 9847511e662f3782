"""The URLs of the two services: what is accepted of each, why another is refused, and what is never printed."""

import os
import re
from urllib.parse import parse_qsl, urlsplit

DATABASE_URL = "postgresql://user:password@host:5432/database"
BROKER_URL = "redis://host:6379/0"

DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg2")
BROKER_PARAMETERS = {
    "redis": (),
    "rediss": ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"),
    "redis+socket": ("virtual_host",),
}
"""What may follow the `?` of a broker's URL, by scheme; any other could change how the client library behaves."""
VERIFYING = ("required", "CERT_REQUIRED")
"""The values of `ssl_cert_reqs` that verify the server."""
_OTHER_BROKERS = {
    "sentinel": "Redis Sentinel is not supported",
    "amqp": "RabbitMQ is not supported",
    "amqps": "RabbitMQ is not supported",
    "pyamqp": "RabbitMQ is not supported",
    "librabbitmq": "RabbitMQ is not supported",
}
_WHY_ONE_REDIS = (
    "what becomes of lost and repeated messages was tried on one Redis or Valkey only. Expected redis://, "
    "rediss:// (TLS) or redis+socket:// (a Unix socket)"
)

_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.\-]*://[^\s:/@]*:)\S*@", re.IGNORECASE)
_BROKERS_LONE_WORD = re.compile(r"(\brediss?://)[^\s:/@]+@", re.IGNORECASE)
"""A name without a password, or a password whose colon was forgotten."""
_NAMED_PASSWORD = re.compile(
    r"(\b\w*(?:password|passphrase|passwd|pwd|secret|token|api_?key|access_?key)(?:[\"']\s*:|[\"']?\s*=)\s*)"
    r"('[^']*'|\"[^\"]*\"|[^&\s'\",;)}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9+/=._~-]{8,}")


def redact(text: str) -> str:
    """The text with `***` for passwords of URLs and values named as a password or token; rather too much is hidden than
    too little."""
    without = _BROKERS_LONE_WORD.sub(r"\1***@", _URL_PASSWORD.sub(r"\1***@", text))
    return _BEARER.sub(r"\1***", _NAMED_PASSWORD.sub(r"\1***", without))


def database_url(url: str) -> str:
    """The URL, unchanged. Raises ValueError, which never shows the value."""
    _require_form(url, DATABASE_URL, DATABASE_SCHEMES)
    return url


def broker_url(url: str) -> str:
    """The URL, unchanged. Raises ValueError, which never shows the value."""
    scheme, _, rest = url.partition("://")
    for part in scheme.split("+"):
        if rest and part in _OTHER_BROKERS:
            raise ValueError(f"begins with {scheme}://: {_OTHER_BROKERS[part]}; {_WHY_ONE_REDIS}")
    _require_form(url, BROKER_URL, tuple(BROKER_PARAMETERS))
    allowed, options = BROKER_PARAMETERS[scheme], parameters(url)
    if unknown := sorted(set(options) - set(allowed)):
        may = f"allowed are {', '.join(allowed)}" if allowed else "none is allowed here"
        raise ValueError(f"has the parameter {', '.join(unknown)}; {may}")
    if options.get("ssl_cert_reqs", VERIFYING[0]) not in VERIFYING:
        raise ValueError(
            "has ssl_cert_reqs other than required: the server would not be verified, and anybody on the way could "
            "read and send messages. Leave it out, and name the CA of the server by SCOREBEAT_BROKER_CA"
        )
    return url


def parameters(url: str) -> dict[str, str]:
    """What follows the `?`."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def exposed(url: str) -> str | None:
    """Why somebody on the way to the service could read or forge its messages; None if nobody could."""
    parts, options = urlsplit(url), parameters(url)
    hosts = (options.get("host") or parts.hostname or "").split(",")
    stays_on_this_machine = all(
        not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1") for host in hosts
    )
    if stays_on_this_machine or parts.scheme == "rediss":
        return None
    if parts.scheme == "redis":
        return "redis:// is not encrypted; expected rediss://"
    mode = options.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if mode == "verify-full":
        return None
    return f"sslmode is {mode}, which does not verify the server; expected sslmode=verify-full and sslrootcert=FILE"


def _require_form(url: str, expected: str, schemes: tuple[str, ...]) -> None:
    """Raises ValueError unless the URL has one of the schemes, and a host and port that can be read."""
    scheme, _, rest = url.partition("://")
    if not rest:
        raise ValueError(f"is not a URL; expected {expected}")
    if scheme not in schemes:
        raise ValueError(f"begins with {scheme}://, not {' or '.join(schemes)}; expected {expected}")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is no number
    except ValueError:
        is_readable = False
    else:
        password_cut_short = "@" in parts.path + parts.fragment or ("@" in parts.query and "@" not in parts.netloc)
        is_readable = not (password_cut_short or parts.netloc.count("@") > 1 or re.search(r"\s", url))
    if not is_readable:
        raise ValueError(
            f"has no readable host and port; expected {expected}, each of : / ? # @ [ ] % in the password "
            "written as % and two digits, such as %40 for @"
        )
