"""`up`, `demo`: the whole system in one terminal."""

import click

from scorebeat.core.settings import load_settings
from scorebeat.ops.local.up import up as run_all


@click.command()
def up() -> None:
    """Run everything in this terminal: servers, beat, workers, Flower.

    Ends with Ctrl-C. With SCOREBEAT_DATABASE_URL and SCOREBEAT_BROKER_URL set it starts no servers. jobs.toml is
    applied if there is one.

    \b
    Example:
        scorebeat up
    """
    from scorebeat.ops.local.prepare import prepare  # noqa: PLC0415 -- only here; the rest of this module loads quickly

    run_all(load_settings(), prepare)


@click.command()
@click.option(
    "--drift", is_flag=True, help="Another one: data that shift, and a run that is held until it is released."
)
def demo(drift: bool) -> int:
    """Score 65,322 flowers from beginning to end, and stop.

    Everything happens in a data folder of its own, `.scorebeat/demo`; each demo starts afresh.

    \b
    Example:
        scorebeat demo
        scorebeat demo --drift
    """
    if drift:
        from scorebeat.ops.cli.commands.installation.demo_drift import demo as run_drift  # noqa: PLC0415

        return run_drift(load_settings())
    from scorebeat.ops.cli.commands.installation.demo import demo as run_demo  # noqa: PLC0415

    return run_demo(load_settings())
