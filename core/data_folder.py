"""Finding the embedded stack of a data folder: the file that it leaves while it runs."""

import fcntl
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scorebeat.core.errors import SettingsError, UsageError
from scorebeat.core.settings import PREFIX, Settings

LOCK_FILE = "lock"
"""Held by flock for as long as someone runs servers on the folder; holds that process' id."""
STATE_FILE = "stack.json"
"""The URLs of the running servers; readable by the owner of the folder only."""


@dataclass(frozen=True)
class StackUrls:
    """Where the embedded servers listen."""

    database_url: str = field(repr=False)
    """Holds the password: keep it out of logs and of argv."""
    broker_url: str


def running_stack(data: Path) -> StackUrls | None:
    """The servers that run on this data folder; None if none run, or if they are not ready yet.

    Raises UsageError if the folder belongs to another user.
    """
    try:
        holder = lock_holder(data)
        if holder is None:
            return None
        state = json.loads((data / STATE_FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except PermissionError as error:
        raise UsageError(
            f"{data}: the embedded stack of this folder belongs to another user ({error.strerror}); "
            "set SCOREBEAT_DATA to a folder of your own"
        ) from None
    if state.get("pid") != holder:  # left by an earlier stack; the present one has not written its own yet
        return None
    return StackUrls(state["database_url"], state["broker_url"])


def lock_holder(data: Path) -> int | None:
    """Id of the process that runs servers on the folder; None if there is none. Raises FileNotFoundError."""
    with (data / LOCK_FILE).open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # dropped again when the file is closed
        except BlockingIOError:
            return int(file.read() or 0)
    return None


def joined(settings: Settings) -> Settings:
    """The settings with the URLs of the embedded stack that runs on their data folder; as they are if none does.

    URLs that are set take precedence. Raises SettingsError if only one of the two is set.
    """
    require_both_urls_or_none(settings)
    urls = running_stack(settings.data) if settings.database_url is None else None
    return settings if urls is None else settings.model_copy(update=asdict(urls))


def require_both_urls_or_none(settings: Settings) -> None:
    """Raises SettingsError if one URL is set and the other is not."""
    for present, missing in (("database_url", "broker_url"), ("broker_url", "database_url")):
        if getattr(settings, present) is not None and getattr(settings, missing) is None:
            raise SettingsError(
                f"{PREFIX}{missing.upper()} is not set, {PREFIX}{present.upper()} is: set both to use servers of your "
                "own, or neither to use the embedded ones"
            )
