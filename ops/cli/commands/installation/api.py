"""`api`: the HTTP API, served until it is stopped."""

import errno
import os
import signal
import socket
import sys

import click
import uvicorn

from scorebeat.core.errors import UsageError
from scorebeat.core.events import configure_logging
from scorebeat.ops.cli.context import found_settings
from scorebeat.ops.cli.options import Whole


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=Whole(0, 65535), default=8000, show_default=True, help="0 for any free one.")
def api(host: str, port: int) -> None:
    """Serve results, runs and predictions over HTTP until it is stopped.

    Callers need the token of SCOREBEAT_API_TOKEN.

    \b
    Example:
        scorebeat api --port 8000
    """
    settings = found_settings()
    settings.database(), settings.broker()
    configure_logging(settings.log_format)
    from scorebeat.api.app import make  # noqa: PLC0415 -- seconds for other commands' help

    with _listening(host, port) as listener:
        name, open_port = listener.getsockname()[:2]
        click.echo(f"serving http://{f'[{name}]' if ':' in name else name}:{open_port}")
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn finishes open requests, then raises the signal again: a stop is no failure
            signal.signal(number, lambda _number, _frame: sys.exit(0))
        config = uvicorn.Config(
            make(settings),
            http="scorebeat.api.slow_clients:Patient",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=30,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno is None:
            reason = str(error.strerror or error)
        else:
            reason = os.strerror(error.errno)  # without the address that Python appends: the message has it already
        other = "; choose another by --port, 0 takes any free one" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"cannot listen on {host} port {port}: {reason}{other}") from None
