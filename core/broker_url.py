"""How the broker is reached: the URL that Celery takes, and the TLS options that go with it."""

import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scorebeat.core.paths import shown
from scorebeat.core.urls import parameters

TLS_SCHEME = "rediss"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files by path; what is not given is the system's CAs, and no certificate of ours."""

    ca: Path | None = None
    """CAs that may have signed the server's certificate, beside the system's."""
    cert: Path | None = None
    """Our certificate, for a server that asks for one; the file may hold the key as well."""
    key: Path | None = None


def for_celery(url: str, files: TlsFiles) -> tuple[str, dict[str, Any] | None]:
    """The URL and the value of `broker_use_ssl`: with rediss:// the server and its name are verified.

    Left to themselves, Celery and kombu would verify nothing where the URL does not ask for it.
    """
    if not _is_tls(url):
        return url, None
    both = _both(url, files)
    return url.partition("?")[0], {  # Flower reads the files from `broker_use_ssl` alone
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": _text(both.ca),
        "ssl_certfile": _text(both.cert),
        "ssl_keyfile": _text(both.key),
    }


def tls_mistakes(url: str | None, files: TlsFiles) -> Iterator[str]:
    """What is wrong with the files, one sentence each."""
    given = [f"SCOREBEAT_BROKER_{name.upper()}" for name, path in vars(files).items() if path is not None]
    if url is None or not _is_tls(url):
        if given:
            begins = "is not set" if url is None else f"begins with {urlsplit(url).scheme}://"
            yield f"{', '.join(given)}: SCOREBEAT_BROKER_URL {begins}; certificates need {TLS_SCHEME}://"
        return
    twice = [f"SCOREBEAT_BROKER_{name.upper()}" for name in vars(files) if _twice(name, url, files)]
    if twice:
        yield f"{', '.join(twice)}: the same file is named in SCOREBEAT_BROKER_URL; name it in one place"
    yield from _file_mistakes(_both(url, files))


def _file_mistakes(files: TlsFiles) -> Iterator[str]:
    context = ssl.create_default_context()
    if files.ca is not None:
        yield from _tried("CA", files.ca, "certificates", lambda: context.load_verify_locations(files.ca))
    if files.cert is not None:

        def load() -> None:
            # an empty passphrase, or OpenSSL would ask for one at the terminal
            context.load_cert_chain(str(files.cert), files.key, password="")

        key = files.key or files.cert
        yield from _tried("key", key, "the certificate's key, without a passphrase", load, files.cert)
    elif files.key is not None:
        yield f"the broker's key {files.key} is given without its certificate: name both"


def _tried(what: str, path: Path, expected: str, load: Callable[[], None], *others: Path) -> Iterator[str]:
    for one in (*others, path):
        if not os.access(one, os.R_OK):
            yield f"the broker's {what} file {shown(one)} cannot be read; expected a PEM file with {expected}"
            return
    try:
        load()
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        yield f"the broker's {what} file {shown(path)} cannot be used ({reason}); expected a PEM file with {expected}"


_IN_URL = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}


def _both(url: str, files: TlsFiles) -> TlsFiles:
    """The files that the URL names, and the others."""
    in_url = parameters(url)
    named = {name: Path(in_url[parameter]) for name, parameter in _IN_URL.items() if parameter in in_url}
    return TlsFiles(**(vars(files) | named))


def _twice(name: str, url: str, files: TlsFiles) -> bool:
    return getattr(files, name) is not None and _IN_URL[name] in parameters(url)


def _is_tls(url: str) -> bool:
    return urlsplit(url).scheme == TLS_SCHEME


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
