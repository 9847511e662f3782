"""`cost` and `prices`: what runs cost by job and month, and the prices of a core-hour and a GPU-hour."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from scorebeat.core.prices.price_list import PriceList, money
from scorebeat.core.prices.prices_file import read_prices
from scorebeat.db.records import price_list
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami
from scorebeat.producer.costs.cost_report import NO_PRICES, Cost, Report, report

COLUMNS = ("job", "month", "runs", "rows", "device_seconds", "gpu_seconds", "cpu_seconds", "planning_seconds",
           "wasted_seconds", "cost", "a_million_rows", "wasted_cost")  # fmt: skip
WASTE_COLUMNS = ("month", "waste", "attempts", "rows", "device_seconds", "cost")
IDLE_COLUMNS = ("month", "device", "alive_seconds", "idle_seconds", "cost")
PRICE_COLUMNS = ("name", "price", "unit", "since", "queue", "device")


def _month(_context: click.Context, _option: click.Parameter, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        return datetime.strptime(value, "%Y-%m").date()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a month; expected a year and a month, such as 2026-07") from None


@click.command()
@click.argument("job", required=False)
@click.option("--month", metavar="YYYY-MM", callback=_month, help="Runs that began in this month only, in UTC.")
@output.as_json
def cost(job: str | None, month: date | None, as_json: bool) -> None:
    """Show what runs cost, by job and month: seconds of devices and CPUs, money, and what of it was waste.

    With a JOB also a recommendation for its batch_rows and processes, with the measurements that it comes from.

    \b
    Example:
        scorebeat cost
        scorebeat cost iris --month 2026-07
    """
    from scorebeat.producer.costs import advice  # noqa: PLC0415 -- loads NumPy

    with database() as producer, producer.engine.connect() as connection:
        found = report(connection, job, month)
        learned = advice.of_job(connection, job) if job is not None else None
    if as_json:
        months = [
            {"job": one.job, "month": f"{one.month:%Y-%m}", "runs": one.runs, "unmeasured_runs": one.unmeasured,
             "rows": one.cost.rows, **run_json(one.cost)}
            for one in found.months
        ]  # fmt: skip
        idle = [
            {"month": f"{one.month:%Y-%m}", "device": one.device, "alive_seconds": one.alive_seconds,
             "idle_seconds": one.idle_seconds, "cost": one.cost}
            for one in found.idle
        ]  # fmt: skip
        advised = {"advice": learned} if learned is not None else {}
        output.print_json({"months": months, "idle": idle} | _prices_json(found.prices) | advised)
        return
    _print_report(found)
    if learned is not None:
        click.echo()
        for kind, lines in (("measured", learned.measured), ("recommended", learned.recommended)):
            for line in lines or ("nothing",):
                click.echo(f"{kind}: {line}")
        for line in learned.unknown:
            click.echo(f"not known: {line}")


def _print_report(found: Report) -> None:
    months = [
        {
            "job": one.job,
            "month": f"{one.month:%Y-%m}",
            "runs": one.runs,
            "rows": one.cost.rows,
            "device_seconds": _number(one.cost.device_seconds),
            "gpu_seconds": _number(one.cost.gpu_seconds) if one.cost.gpu_seconds else None,
            "cpu_seconds": _number(one.cost.cpu_seconds),
            "planning_seconds": _number(one.cost.planning_seconds),
            "wasted_seconds": _number(one.cost.wasted_seconds),
            "cost": _money(one.cost.cost),
            "a_million_rows": _money(one.cost.a_million_rows),
            "wasted_cost": _money(one.cost.wasted_cost),
        }
        for one in found.months
    ]
    output.table(months, COLUMNS, "no run began then")
    waste = [
        {"month": f"{one.month:%Y-%m}", "waste": f"{one.job}: {part.reason}", "attempts": part.attempts,
         "rows": part.rows, "device_seconds": _number(part.device_seconds), "cost": _money(part.cost)}
        for one in found.months
        for part in one.cost.waste
    ]  # fmt: skip
    if waste:
        click.echo()
        output.table(waste, WASTE_COLUMNS, "")
    if found.idle:
        click.echo("\nworkers, of all jobs:")
        idle_rows = [
            {
                "month": f"{one.month:%Y-%m}",
                "device": one.device,
                "alive_seconds": _number(one.alive_seconds),
                "idle_seconds": None if one.idle_seconds is None else _number(one.idle_seconds),
                "cost": _money(one.cost),
            }
            for one in found.idle
        ]
        output.table(idle_rows, IDLE_COLUMNS, "")
    if found.prices.prices:
        click.echo(f"\nprices in {found.prices.currency}; the first that fits counts, by the day on which a run began:")
        for price in found.prices.prices:
            click.echo(f"  {price}")
    else:
        output.note(NO_PRICES)
    for one in found.months:
        if one.cost.unpriced:
            output.note(
                f"job {one.job}, {one.month:%Y-%m}: without a price, and left out: {', '.join(one.cost.unpriced)}"
            )
        if one.unmeasured:
            output.note(f"job {one.job}, {one.month:%Y-%m}: {one.unmeasured} runs of an older version measured no time")
    for idle in found.idle:
        if idle.idle_seconds is None:
            output.note(
                f"{idle.device}, {idle.month:%Y-%m}: idle time is not known, workers of an older version ran too"
            )


def of_run(of: Cost) -> dict[str, str]:
    """The cost of one run, as `show` prints it."""
    shown = {"device_time": f"{_number(of.device_seconds)} s, {_number(of.planning_seconds)} s of it for planning"}
    shown["cpu_time"] = f"{_number(of.cpu_seconds)} s"
    if of.waste:
        parts = (f"{_number(part.device_seconds)} s in {part.reason}" for part in of.waste)
        shown["wasted"] = f"{_number(of.wasted_seconds)} s: {'; '.join(parts)}"
    if of.cost is not None:
        each = f", {_money(of.a_million_rows)} a million rows" if of.a_million_rows is not None else ""
        left_out = f"; without a price, and left out: {', '.join(of.unpriced)}" if of.unpriced else ""
        shown["cost"] = f"{_money(of.cost)} {of.currency}{each}{left_out}"
    return shown


def run_json(of: Cost) -> dict[str, Any]:
    """The cost of one run in JSON; the names are a promise to programs."""
    return {
        "device_seconds": of.device_seconds,
        "gpu_seconds": of.gpu_seconds,
        "cpu_seconds": of.cpu_seconds,
        "planning_seconds": of.planning_seconds,
        "wasted_seconds": of.wasted_seconds,
        "waste": list(of.waste),
        "cost": of.cost,
        "currency": of.currency,
        "cost_a_million_rows": of.a_million_rows,
        "wasted_cost": of.wasted_cost,
        "unpriced": list(of.unpriced),
    }


@click.command()
@click.option("--file", "path", type=click.Path(path_type=Path), help="[default: SCOREBEAT_PRICES, or prices.toml]")
@click.option("--apply", "applies", is_flag=True, help="Store the prices of the file in the ledger.")
@click.option("--rewrite", is_flag=True, help="With --apply: also if runs of the past get another cost.")
@output.as_json
def prices(path: Path | None, applies: bool, rewrite: bool, as_json: bool) -> None:
    """Show the prices in the ledger, or store those of prices.toml.

    \b
    Example:
        scorebeat prices
        scorebeat prices --apply
    """
    if rewrite and not applies:
        raise click.UsageError("--rewrite goes with --apply")
    from scorebeat.producer.costs.apply_prices import apply  # noqa: PLC0415 -- only here

    with database() as producer:
        file = path or producer.settings.prices
        if applies:
            done = apply(producer, file, whoami(), rewrite=rewrite)
            stored, is_different = done.prices, False
        else:
            with producer.engine.connect() as connection:
                stored = price_list.read(connection)
            is_different = file.exists() and read_prices(file) != stored
    if as_json:
        output.print_json(_prices_json(stored))
    else:
        rows = [
            price | {"price": f"{price['price']:g}", "unit": f"a {price['unit'].replace('_', '-')}"}
            for price in _prices_json(stored)["prices"]
        ]
        output.table(rows, PRICE_COLUMNS, "there are no prices")
        if stored.prices:
            click.echo(f"in {stored.currency}; the first that fits counts, by the day on which a run began")
    if applies:
        output.note("stored" if done.is_new else "the ledger has these prices already")
        if done.rewritten:
            days = len({one.day for one in done.rewritten})
            output.note(f"what runs of {days} day{'s' * (days != 1)} of the past cost was changed; the audit has it")
    elif is_different:
        output.note(f"{file} has other prices; `scorebeat prices --apply` stores them")


def _prices_json(of: PriceList) -> dict[str, Any]:
    found = [{name: getattr(price, name) for name in PRICE_COLUMNS} for price in of.prices]
    return {"currency": of.currency or None, "prices": [one | {"since": one["since"].isoformat()} for one in found]}


def _money(amount: float | None) -> str | None:
    return None if amount is None else money(amount)


def _number(seconds: float) -> str:
    return f"{seconds:,.1f}"
