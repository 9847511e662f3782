"""What every step of the producer needs: the ledger, the broker and the settings."""

import getpass
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from scorebeat.broker.app import make_app
from scorebeat.core.errors import LONGEST_SHOWN, shortened
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger.runs import BEAT
from scorebeat.db.schema.installation import broker_prefix

if TYPE_CHECKING:
    from scorebeat.broker.installation_app import InstallationApp


@dataclass(frozen=True)
class Producer:
    """Connects when it is first used; call `close` at the end."""

    settings: Settings
    name: str = "producer"
    """The name that is recorded for the planner, and shown in PostgreSQL's list of sessions."""

    @cached_property
    def url(self) -> str:
        return self.settings.database()

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.url, f"scorebeat {self.name}", pool_size=3)

    @cached_property
    def app(self) -> "InstallationApp":
        made = make_app(self.settings, lambda: broker_prefix(self.engine))
        # fail soon if the broker is away: a plan must not wait 6 s for each group of messages, nor rescue 30 s for a
        # reply that was lost with its connection
        fail_soon = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1, "socket_timeout": 5}
        made.conf.broker_transport_options |= fail_soon
        return made

    def close(self) -> None:
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "app" in self.__dict__:
            self.app.close()


def whoami() -> str:
    """The user whom the ledger records."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
    name = shortened(name, LONGEST_SHOWN)  # it may come from an environment variable, which may hold anything
    return f"user {name}" if name == BEAT else name  # an account of that name is not the scheduler
