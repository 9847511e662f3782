"""How the broker is reached: the URL that Celery takes, and the TLS options that go with it."""

import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scorebeat.core.process.paths import shown
from scorebeat.core.urls import parameters

TLS_SCHEME = "rediss"
_IN_URL = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
"""The parameter of the URL that names each file; `broker_use_ssl` has the same names."""


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files. Without `ca` only the system's CAs are trusted; without `cert` we show no certificate."""

    ca: Path | None = None
    """CAs that may have signed the server's certificate, beside the system's."""
    cert: Path | None = None
    """Our certificate, for a server that asks for one; the file may hold the key as well."""
    key: Path | None = None


def for_celery(url: str, files: TlsFiles) -> tuple[str, dict[str, Any] | None]:
    """The URL and the value of `broker_use_ssl`: with rediss:// the server and its name are verified.

    By default Celery and kombu verify nothing unless the URL asks for it.
    """
    if not _is_tls(url):
        return url, None
    paths = {_IN_URL[name]: None if path is None else str(path) for name, path in vars(_merged(url, files)).items()}
    # Flower reads the files from `broker_use_ssl` alone
    return url.partition("?")[0], {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **paths}


def tls_mistakes(url: str | None, files: TlsFiles) -> Iterator[str]:
    """What is wrong with the files, one sentence each."""
    variables = [f"SCOREBEAT_BROKER_{name.upper()}" for name, path in vars(files).items() if path is not None]
    if url is None or not _is_tls(url):
        if variables:
            beginning = "is not set" if url is None else f"begins with {urlsplit(url).scheme}://"
            yield f"{', '.join(variables)}: SCOREBEAT_BROKER_URL {beginning}; certificates need {TLS_SCHEME}://"
        return
    in_url = parameters(url)
    twice = [
        f"SCOREBEAT_BROKER_{name.upper()}"
        for name, path in vars(files).items()
        if path is not None and _IN_URL[name] in in_url
    ]
    if twice:
        yield f"{', '.join(twice)}: the same file is named in SCOREBEAT_BROKER_URL; name it once"
    context, used = ssl.create_default_context(), _merged(url, files)
    if used.ca is not None:
        yield from _load_mistakes("CA", used.ca, "certificates", lambda: context.load_verify_locations(used.ca))
    if used.cert is not None:

        def load() -> None:
            # an empty passphrase, or OpenSSL would ask for one at the terminal
            context.load_cert_chain(str(used.cert), used.key, password="")

        key = used.key or used.cert
        yield from _load_mistakes("key", key, "the certificate's key, without a passphrase", load, used.cert)
    elif used.key is not None:
        yield f"the broker's key {used.key} is given without its certificate: name both"


def _load_mistakes(what: str, path: Path, expected: str, load: Callable[[], None], *others: Path) -> Iterator[str]:
    for one in (*others, path):
        if not os.access(one, os.R_OK):
            yield f"the broker's {what} file {shown(one)} cannot be read; expected a PEM file with {expected}"
            return
    try:
        load()
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        yield f"the broker's {what} file {shown(path)} cannot be used ({reason}); expected a PEM file with {expected}"


def _merged(url: str, files: TlsFiles) -> TlsFiles:
    """The files with those that the URL names, which replace the settings' own."""
    in_url = parameters(url)
    named = {name: Path(in_url[parameter]) for name, parameter in _IN_URL.items() if parameter in in_url}
    return TlsFiles(**(vars(files) | named))


def _is_tls(url: str) -> bool:
    return urlsplit(url).scheme == TLS_SCHEME
