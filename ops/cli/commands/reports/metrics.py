"""`metrics`: the ledger's numbers, for Prometheus."""

import click

from scorebeat.ops.cli.context import database


@click.command()
def metrics() -> None:
    """Print the metrics of the ledger in Prometheus' text form.

    The HTTP API serves the same at /metrics. In a file, it is what node_exporter's textfile collector reads.

    \b
    Example:
        scorebeat metrics > scorebeat.prom
    """
    from scorebeat.producer.metrics import exposition  # noqa: PLC0415 -- only here; other commands start without the client

    with database() as producer:
        text = exposition(producer.engine)
    click.echo(text.decode(), nl=False)
