"""The one log of many processes: each line has its time and its process, as text or as JSON."""

import json
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import IO, Literal, TextIO

LONGEST_LINE = 64 * 1024
"""Bytes; a longer line is shown in pieces, so that a process that never ends its line cannot fill memory."""
OWN_TIME = re.compile(r"(\d\d:\d\d:\d\d) ")
"""How `core.events` begins a line."""
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
"""ANSI foregrounds, assigned to the processes in the order of their first lines."""


class Log:
    """Writes whole lines, whichever thread they come from."""

    def __init__(
        self,
        stream: TextIO,
        form: Literal["text", "json"] = "text",
        width: int = 9,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """`width`: characters kept for a name."""
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not end the log
        self._stream = stream
        self._now = now
        self._width = width
        self._line = self._json if form == "json" else self._text
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closed = False

    def write(self, name: str, line: str) -> None:
        """Write one line of the process `name`; drop it if nobody reads any more."""
        with self._lock:
            if self._closed:
                return
            try:
                self._stream.write(self._line(name, line) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the pipe broke or the file is closed: supervising goes on
                self._closed = True

    def follow(self, name: str, output: IO[bytes]) -> threading.Thread:
        """Write what comes out of a process until it closes its output; the thread ends then."""

        def write_all() -> None:
            with output:
                for raw in iter(lambda: output.readline(LONGEST_LINE), b""):
                    self.write(name, raw.decode("utf-8", "replace").rstrip("\r\n"))

        thread = threading.Thread(target=write_all, name=f"log {name}", daemon=True)
        thread.start()
        return thread

    def _text(self, name: str, line: str) -> str:
        """`12:31:04 worker    | INFO  batch.committed`: the time is the line's own if it begins with one."""
        own = OWN_TIME.match(line)
        time = own.group(1) if own else f"{self._now():%H:%M:%S}"
        line = line[own.end() :] if own else line
        prefix = f"{time} {name:<{self._width}} |"
        if self._colour:
            colour = COLOURS[self._names.setdefault(name, len(self._names)) % len(COLOURS)]
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        return f"{prefix} {line}"

    def _json(self, name: str, line: str) -> str:
        """A JSON object with the process' name added; a line that is none becomes the message of one."""
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            time = self._now().astimezone(UTC).isoformat(timespec="milliseconds")
            event = {"time": time, "event": "log", "message": line}
        return json.dumps({"process": name} | event, ensure_ascii=False)
