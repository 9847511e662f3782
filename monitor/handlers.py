"""What our handlers share: Flower's authentication, the XSRF token, and the pages for errors."""

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NoReturn

from flower.views import BaseHandler
from sqlalchemy import Connection
from tornado.web import HTTPError, RequestHandler, authenticated

from scorebeat.core.errors import ScorebeatError, UnknownName
from scorebeat.monitor import formatting, permissions
from scorebeat.monitor.ledger import Ledger, is_away

EVERY = 2000
"""Milliseconds after which an open page loads itself again."""
FLOWERS_OWN = ["\nvar autorefresh = 0;\n", "\nvar autorefresh = 1;\n"]
"""The one inline script of Flower's pages, in the list of workers, in its two forms."""
SCRIPTS = " ".join(
    ["'self'", *(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in FLOWERS_OWN)]
)
UNFRAMED = {
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": f"frame-ancestors 'self'; script-src {SCRIPTS}; object-src 'none'; base-uri 'self'",
}
"""With these headers no other site can show a page in a frame, where people would press buttons that they do not
see, and no injected script runs."""


WRONG = {HTTPStatus.BAD_REQUEST: "Wrong address", HTTPStatus.NOT_FOUND: "Not found"}
"""Titles of our error pages, by status."""


class Unframed(BaseHandler):  # type: ignore[misc]  # Flower publishes no types
    """Every response, errors too, is shown in no other site's frame and runs no script but those of its files.

    Flower itself forbids guessing the content type.
    """

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in UNFRAMED.items():
            self.set_header(name, value)

    def get_current_user(self) -> Any:
        """Flower's comparison raises TypeError for a name or password that is not ASCII; that login is never valid."""
        try:
            return super().get_current_user()
        except TypeError:
            raise HTTPError(HTTPStatus.UNAUTHORIZED) from None

    def check_xsrf_cookie(self) -> None:
        """Flower checks the origin of a request only if it has logins. A Flower that is open to all on purpose takes
        requests from everywhere."""
        if not self.unauthenticated_api:
            permissions.require_own_page(self.request)
        super().check_xsrf_cookie()


class LedgerHandler(Unframed):
    """A page or an action of ours inside Flower."""

    def initialize(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check_xsrf_cookie(self) -> None:
        """Check the token, too: Flower requires it with OAuth only, and on loopback we act without authentication.

        A page of another port of this host can set the token's cookie, but it cannot claim to be one of our pages.
        """
        permissions.require_own_page(self.request)
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    @property
    def refusal(self) -> str | None:
        """Why nobody may act here; None if they may."""
        return permissions.refusal(self.application.options, self.request, self.unauthenticated_api)

    @property
    def actor(self) -> str:
        checked = self.request.headers.get("Authorization", "") if self.application.options.basic_auth else ""
        return permissions.name_of(self.current_user, checked)


class Page(LedgerHandler):
    """A page with contents from the ledger."""

    async def show(self, template: str, look: Callable[[Connection], dict[str, Any]], *, unknown: str = "") -> None:
        """Fill the template with what `look` returns; 404 with `unknown` if it does not exist, 503 with the reason."""
        self.set_header("Cache-Control", "no-store")
        try:
            values = await self.ledger.read(look)
        except UnknownName:
            raise HTTPError(404, unknown) from None
        except ScorebeatError as error:
            if not is_away(error):
                raise
            self.set_status(503)
            template, values = "away.html", {"reason": str(error)}
        common = {"reason": None, "every": EVERY, "refusal": self.refusal, "formatting": formatting}
        self.render(template, **common | values)

    def write_error(self, status_code: int, **details: Any) -> None:
        """A wrong address gets a page in Flower's frame, with a link back; other errors get Flower's own page."""
        error = details.get("exc_info", (None, None))[1]
        if status_code not in WRONG or not isinstance(error, HTTPError):
            super().write_error(status_code, **details)
            return
        if not hasattr(self, "_current_user"):
            self.current_user = None  # a request that is refused before the login asks for no login
        self.render(
            "wrong.html", title=WRONG[HTTPStatus(status_code)], message=error.get_message() or "There is no such page."
        )

    def whole_number(self, name: str) -> int | None:
        """A parameter of the address; None if it is absent. 400 for anything but a whole number."""
        text = self.get_query_argument(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            self.bad_parameter(name, "a whole number")
        return int(text)

    def bad_parameter(self, name: str, expected: str) -> NoReturn:
        raise HTTPError(400, f"{name}: expected {expected}")


class NoPage(Page):
    """404 for every other address under `/runs`."""

    @authenticated
    def prepare(self) -> None:
        raise HTTPError(HTTPStatus.NOT_FOUND)
