"""A network that a test can break: a TCP proxy before a server's socket, in a thread of its own."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CHUNK = 64 * 1024
LONGEST_WORDS = 200
NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing sends a reset, and what was not sent is lost."""

Fault = Callable[["Proxy"], None]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(eq=False)  # each is itself, in a set
class _Link:
    """One connection of a client, and the one to the server; None while the network is stalled."""

    client: asyncio.StreamWriter
    flowing: asyncio.Event
    """Cleared while not a byte comes through."""
    server: asyncio.StreamWriter | None = None
    sent: int = 0
    """Bytes that went from client to server since a fault was last armed."""
    has_reply: bool = True
    """Whether the server has replied to everything that the client sent."""

    def close(self) -> None:
        for end in (self.client, self.server):
            if end is not None:
                end.transport.abort()

    def reset(self) -> None:
        raw: socket.socket | None = self.client.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.close()


Admit = Callable[[_Link, bytes], Awaitable[bytes]]


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes bytes on; its methods may be called from any thread."""

    def __init__(self, connect: Connect, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.accepted = 0
        """Connections that clients have opened so far."""
        self.round_trips: list[bytes] = []
        """The beginning of each text that clients sent after the server had replied."""
        self.faults_done = 0
        """Faults armed by `when_sent` that have happened."""
        self._connect = connect
        self._tls = tls
        """Ends the clients' TLS here; the server behind speaks plainly."""
        self._links: set[_Link] = set()
        self._armed: tuple[int, Fault] | None = None
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._stalled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def drop(self) -> None:
        """Close every connection, on both sides; new ones are welcome."""
        self._each(_Link.close)

    def reset(self) -> None:
        """Like drop, but the clients see a reset."""
        self._each(_Link.reset)

    def stall(self) -> None:
        """Connections stay and new ones are accepted, and not a byte comes through."""
        self._stalled = True
        self.strand()

    def strand(self) -> None:
        """The connections that there are fall silent, half-open; new ones work."""
        self._each(lambda link: link.flowing.clear())

    def resume(self) -> None:
        """End both, and pass on what was held back."""
        self._stalled = False
        self._each(lambda link: link.flowing.set())

    def delay(self, seconds: float) -> None:
        """Each chunk, of at most 64 KiB, comes so much later, in both directions."""
        self._delay = seconds

    def when_sent(self, size: int, fault: Fault) -> None:
        """Do the fault once, when a client has sent `size` bytes from now over one connection; not one byte more."""
        self._each(lambda link: setattr(link, "sent", 0))
        self._armed = (size, fault)

    def _each(self, act: Callable[[_Link], None]) -> None:
        """Do it to every connection, in the proxy's thread; returns when it is done."""
        if threading.current_thread() is self._thread:
            self._each_here(act)
        else:
            asyncio.run_coroutine_threadsafe(self._each_soon(act), self._loop).result(10)

    async def _each_soon(self, act: Callable[[_Link], None]) -> None:
        self._each_here(act)

    def _each_here(self, act: Callable[[_Link], None]) -> None:
        for link in tuple(self._links):
            act(link)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        for link in tuple(self._links):
            link.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next round

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(writer, asyncio.Event())
        if not self._stalled:
            link.flowing.set()
        self.accepted += 1
        self._links.add(link)
        self._tasks.add(task)
        try:
            await self._pass(link, reader)
        except (OSError, asyncio.CancelledError):  # either side is gone, or the test is over
            pass
        finally:
            link.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pass(self, link: _Link, from_client: asyncio.StreamReader) -> None:
        """Both directions until either side ends."""
        await link.flowing.wait()
        from_server, link.server = await self._connect()
        pumps = [
            asyncio.ensure_future(self._pump(link, from_client, link.server, self._count)),
            asyncio.ensure_future(self._pump(link, from_server, link.client, _reply)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admit: Admit
    ) -> None:
        while data := await reader.read(CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await link.flowing.wait()
            writer.write(await admit(link, data))
            await writer.drain()
        await link.flowing.wait()  # of a silent connection nobody learns the end

    async def _count(self, link: _Link, data: bytes) -> bytes:
        """The part of the data that still goes out; the armed fault is done where its byte is reached."""
        if link.has_reply:
            self.round_trips.append(data[:LONGEST_WORDS])
            link.has_reply = False
        if self._armed is None or link.sent + len(data) <= self._armed[0]:
            link.sent += len(data)
            return data
        size, fault = self._armed
        self._armed = None
        assert link.server is not None
        allowed = size - link.sent
        link.server.write(data[:allowed])
        await link.server.drain()
        fault(self)
        self.faults_done += 1
        await link.flowing.wait()
        return data[allowed:]


async def _reply(link: _Link, data: bytes) -> bytes:
    link.has_reply = True
    return data


@contextmanager
def proxy_to(path: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy before the server that listens on a Unix socket."""
    proxy = Proxy(lambda: asyncio.open_unix_connection(path), tls)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
