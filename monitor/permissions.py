"""Who may act from Flower's pages, and by which name the ledger records them."""

from base64 import b64decode
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import click
from tornado.httputil import HTTPServerRequest
from tornado.options import OptionParser
from tornado.web import HTTPError

from scorebeat.core.errors import LONGEST_SHOWN, shortened

NOBODY = "flower"
"""Recorded if Flower has no logins."""


def refusal(options: OptionParser, request: HTTPServerRequest, unauthenticated_api: bool) -> str | None:
    """Why nobody may act here; None if they may.

    As with Flower's own buttons, authentication must be configured, or done without on purpose by
    FLOWER_UNAUTHENTICATED_API. Beyond that, a Flower that listens on this machine only may be used on it: the
    request's host is looked at too, for a page of another site may point its own name at 127.0.0.1.
    """
    if options.read_only:
        return "Flower is in read-only mode."
    if options.basic_auth or options.auth or unauthenticated_api:
        return None
    if not options.unix_socket and _is_here(options.address) and _is_here(urlsplit(f"//{request.host}").hostname or ""):
        return None
    return (
        "Flower asks nobody who they are, and others can reach it: start it with --basic-auth or --auth, or with "
        "--address=127.0.0.1 and open it by that address."
    )


def require_own_page(request: HTTPServerRequest) -> None:
    """Raises HTTPError, 403, for what a browser sends from a page of another host, port or scheme.

    The browser itself writes Sec-Fetch-Site, and no page can. Browsers older than 2023 send Origin alone. A request
    with neither is not from a browser.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_own = site == "same-origin" if site else origin is None or urlsplit(origin).netloc == request.host
    if not is_own:
        raise HTTPError(HTTPStatus.FORBIDDEN, "This page is of another site: nothing was done.")


def require_logins(options: OptionParser) -> None:
    """Raises click.UsageError for an entry of `--basic-auth` that lets in anybody without a password, or nobody."""
    if not all(name and password for name, _, password in (login.partition(":") for login in options.basic_auth or ())):
        raise click.UsageError(
            "--basic-auth (FLOWER_BASIC_AUTH) has an entry without a name or without a password, which would let "
            "anybody in; expected name:password, several with commas between, and no comma in a password. Flower was "
            "not started."
        )
    if not all(login.isascii() for login in options.basic_auth or ()):
        raise click.UsageError(
            "--basic-auth (FLOWER_BASIC_AUTH) has a name or password with a character that is not ASCII, such as an "
            "umlaut: Flower cannot compare it, so nobody could log in with it. Choose ASCII characters. Flower was not "
            "started."
        )


def name_of(user: object, authorization: str) -> str:
    """The person who is logged in: with OAuth the mail address, with basic authentication the name.

    `authorization` is the request's header if Flower has checked it, and empty if anyone may write it.
    """
    if isinstance(user, str):
        return shortened(user, LONGEST_SHOWN)
    kind, _, credentials = authorization.partition(" ")
    if kind != "Basic":
        return NOBODY
    return shortened(b64decode(credentials).decode().partition(":")[0], LONGEST_SHOWN) or NOBODY


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
