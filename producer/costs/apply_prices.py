"""Storing the prices of prices.toml in the ledger, which never changes silently what past runs cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from sqlalchemy import Connection

from scorebeat.core.errors import WouldRewritePast
from scorebeat.core.prices.price_list import Price, PriceList
from scorebeat.core.prices.prices_file import read_prices
from scorebeat.db.connect.engine import reachable
from scorebeat.db.records import audit, price_list
from scorebeat.db.reports import usage
from scorebeat.db.schema.ownership import as_owner
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class Rewritten:
    """Past use that would cost something else."""

    job: str
    day: date
    queue: str
    device: str
    before: Price
    after: Price | None


@dataclass(frozen=True)
class Applied:
    prices: PriceList
    is_new: bool
    """False: the ledger had just these prices."""
    rewritten: tuple[Rewritten, ...]


def apply(p: Producer, path: Path, by: str, *, rewrite: bool = False) -> Applied:
    """Store the prices of the file instead of those of the ledger, all or nothing.

    Raises PricesFileError, or WouldRewritePast if runs that had a price would have another one or none; with `rewrite`
    they get it, and the audit has how many days of use did. Use that had no price gets one without asking.
    """
    wanted = read_prices(path)
    with reachable(p.url), p.engine.begin() as connection, as_owner(connection, "change prices"):
        present = price_list.read(connection)
        if present == wanted:
            return Applied(wanted, is_new=False, rewritten=())
        changed = tuple(_rewritten(connection, present, wanted))
        if changed and not rewrite:
            first = changed[0]
            before = f"{first.before.price:g} {present.currency} ([prices.{first.before.name}])"
            after = "no price"
            if first.after is not None:
                after = f"{first.after.price:g} {wanted.currency} ([prices.{first.after.name}])"
            days = sorted({one.day for one in changed})
            raise WouldRewritePast(
                f"{path}: would change what was reported of {len(days)} day{'s' * (len(days) != 1)} from {days[0]} to "
                f"{days[-1]}, such as {first.job} on queue {first.queue}, {first.device}, on {first.day}: {before} "
                f"before, {after} now. Nothing was stored. A price that changes is a block of its own with a later "
                "`since`, above the old one; `--rewrite` changes the past, and is recorded"
            )
        price_list.replace(connection, wanted)
        details = {"prices": [str(price) for price in wanted.prices], "currency": wanted.currency}
        audit.record(
            connection, by, "prices.applied", "ledger", rewritten_days=len({one.day for one in changed}), **details
        )
    return Applied(wanted, is_new=True, rewritten=changed)


def _rewritten(connection: Connection, present: PriceList, wanted: PriceList) -> Sequence[Rewritten]:
    """Each day, queue and device with a price that would be another; months of workers as well."""
    found = [(one.job, one.used) for one in usage.by_day(connection)]
    found += [("idle workers", used) for one in usage.worker_time(connection) for used in one.alive]
    changed: dict[tuple[str, date, str, str], Rewritten] = {}
    for job, used in found:
        before = present.find(used.queue, used.device, used.day)
        if before is None:
            continue
        after = wanted.find(used.queue, used.device, used.day)
        if after is None or (after.price, wanted.currency) != (before.price, present.currency):
            at = job, used.day, used.queue, used.device
            changed[at] = Rewritten(*at, before, after)
    return list(changed.values())
