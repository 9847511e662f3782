"""What our handlers share: Flower's authentication, the XSRF token, and what is said when there is nothing to show."""

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NoReturn

from flower.views import BaseHandler
from sqlalchemy import Connection
from tornado.web import HTTPError, RequestHandler, authenticated

from scorebeat.core.errors import ScorebeatError, UnknownName
from scorebeat.monitor import chart, formatting, permissions
from scorebeat.monitor.ledger import Ledger, is_away

EVERY = 2000
"""Milliseconds after which an open page asks for itself again."""
FLOWERS_OWN = ["\nvar autorefresh = 0;\n", "\nvar autorefresh = 1;\n"]
"""The one script that stands in a page of Flower's, in the list of workers, as it is sent."""
SCRIPTS = " ".join(
    ["'self'", *(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in FLOWERS_OWN)]
)
UNFRAMED = {
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": f"frame-ancestors 'self'; script-src {SCRIPTS}; object-src 'none'; base-uri 'self'",
}
"""No other site shows a page with these in a frame of its own, where people press buttons that they do not see; and
no markup that came from elsewhere runs."""


WRONG = {HTTPStatus.BAD_REQUEST: "Wrong address", HTTPStatus.NOT_FOUND: "Not found"}
"""What is the matter with an address that is answered so."""


class Unframed(BaseHandler):  # type: ignore[misc]  # Flower publishes no types
    """Whatever it answers, errors too, is shown in no other site's frame and runs no script but those of its files.

    Flower itself forbids guessing the type.
    """

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in UNFRAMED.items():
            self.set_header(name, value)

    def get_current_user(self) -> Any:
        """Flower's comparison raises for a name or password that is not ASCII: none that it takes is such a one."""
        try:
            return super().get_current_user()
        except TypeError:
            raise HTTPError(HTTPStatus.UNAUTHORIZED) from None

    def check_xsrf_cookie(self) -> None:
        """Flower looks at where a request comes from only if it has logins; a Flower that is open to all on purpose
        takes its own calls from everywhere."""
        if not self.unauthenticated_api:
            permissions.require_own_page(self.request)
        super().check_xsrf_cookie()


class LedgerHandler(Unframed):
    """A page or an action of ours inside Flower."""

    def initialize(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check_xsrf_cookie(self) -> None:
        """Always the token too: Flower asks for it with OAuth only, and we act without authentication on loopback.

        A page of another port of this host can plant the token's cookie, but not say that it is one of ours.
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
    """A page that is read from the ledger."""

    async def show(self, template: str, look: Callable[[Connection], dict[str, Any]], *, unknown: str = "") -> None:
        """Fill the template with what `look` finds; 404 with `unknown` where it is not there, 503 with the reason."""
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
        usual = {"reason": None, "every": EVERY, "refusal": self.refusal, "formatting": formatting, "chart": chart}
        self.render(template, **usual | values)

    def write_error(self, status_code: int, **given: Any) -> None:
        """A wrong address is answered in Flower's frame, with the way back; all else as Flower does."""
        error = given.get("exc_info", (None, None))[1]
        if status_code not in WRONG or not isinstance(error, HTTPError):
            super().write_error(status_code, **given)
            return
        if not hasattr(self, "_current_user"):
            self.current_user = None  # what is refused before anybody logged in asks for no login
        self.render(
            "wrong.html", title=WRONG[HTTPStatus(status_code)], said=error.get_message() or "There is no such page."
        )

    def whole_number(self, name: str) -> int | None:
        """A parameter of the address; None when it is not given. 400 for anything but a whole number."""
        given = self.get_query_argument(name, "")
        if not given:
            return None
        if not given.isascii() or not given.isdecimal() or len(given) > 18:
            self.bad_parameter(name, "a whole number")
        return int(given)

    def bad_parameter(self, name: str, expected: str) -> NoReturn:
        raise HTTPError(400, f"{name}: expected {expected}")


class NoPage(Page):
    """Whatever else stands under `/runs`."""

    @authenticated
    def prepare(self) -> None:
        raise HTTPError(HTTPStatus.NOT_FOUND)
