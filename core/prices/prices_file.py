"""prices.toml: read and checked whole, every mistake with its line and what was expected."""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from scorebeat.core.errors import PricesFileError, near
from scorebeat.core.jobs.toml_lines import Document, Mistake, read, read_text, report, shown
from scorebeat.core.prices.price_list import ANY, UNITS, Price, PriceList, Unit

PRICES, CURRENCY = "prices", "currency"
MOST = 1_000_000_000
"""A greater price of an hour is a mistake."""
KEYS = [*UNITS, "since", "queue", "device"]
EXAMPLE = 'currency = "EUR" and a block such as [prices.cores] with core_hour = 0.04 and since = 2026-01-01'


def read_prices(path: Path) -> PriceList:
    """The prices of the file, in its order. Raises PricesFileError with all mistakes."""
    text = read_text(path, PricesFileError, f"write one with {EXAMPLE}, or name another by --file or SCOREBEAT_PRICES")
    documents, mistakes = read(text)
    first = documents[0]
    currency = first.data.get(CURRENCY)
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency):
        found = "is missing" if currency is None else f"is {shown(currency)}"
        what = f"{found}; expected three capital letters in quotes, such as 'EUR'"
        mistakes.append(Mistake(first.line((CURRENCY,)), CURRENCY, what))
    prices: dict[str, tuple[Price, int]] = {}
    for document in documents:
        for name, block in _blocks(document, mistakes).items():
            checked = _price(document, name, block, mistakes)
            if checked is not None:
                prices[name] = checked, document.line((PRICES, name))
    if not prices and not mistakes:
        mistakes.append(Mistake(1, PRICES, f"there is no price; expected {EXAMPLE}"))
    above: list[Price] = []
    for price, line in prices.values():
        hiding = next((one for one in above if one.hides(price)), None)
        if hiding is not None:
            what = (
                f"is never reached: the first price that fits counts, and [prices.{hiding.name}] above it fits the "
                "same and begins no later; put the newer or narrower one above"
            )
            mistakes.append(Mistake(line, f"{PRICES}.{price.name}", what))
        above.append(price)
    if mistakes:
        raise PricesFileError(report(path, mistakes))
    return PriceList(str(currency), tuple(price for price, _ in prices.values()))


def _blocks(document: Document, mistakes: list[Mistake]) -> dict[str, Mapping[str, Any]]:
    """Each `[prices.NAME]` of the document; what else it holds is added to `mistakes`."""
    for key in document.data:
        if key not in (PRICES, CURRENCY):
            what = f"is not known here; expected {CURRENCY} and [prices.NAME] blocks"
            mistakes.append(Mistake(document.line((key,)), key, what))
    found = document.data.get(PRICES, {})
    if not isinstance(found, dict):
        mistakes.append(Mistake(document.line((PRICES,)), PRICES, "is not a block; expected [prices.NAME]"))
        return {}
    blocks: dict[str, Mapping[str, Any]] = {}
    for name, block in found.items():
        if isinstance(block, dict):
            blocks[name] = block
        else:
            what = f"is not a block of its own; expected [prices.{name}] and its keys below"
            mistakes.append(Mistake(document.line((PRICES, name)), f"{PRICES}.{name}", what))
    return blocks


def _price(document: Document, name: str, block: Mapping[str, Any], mistakes: list[Mistake]) -> Price | None:
    """The price of a block; None if there are mistakes in it, which are added to `mistakes`."""
    is_damaged = (PRICES, name) in document.damaged
    found = list(_mistakes_of_keys(block))
    if not name.strip() or not name.isprintable():
        found.append(("", f"is a block called {name!r}; expected a name that can be printed"))
    units: list[Unit] = [unit for unit in UNITS if unit in block]
    since = block.get("since")
    if not is_damaged:
        if len(units) > 1 or (not units and not found):  # an unknown key may be the price, misspelt
            found.append(("", f"has {' and '.join(units) or 'no price'}; expected one of core_hour and gpu_hour"))
        if since is None:
            found.append(("", f"has no since; expected {_SINCE}"))
    if "device" in block and units == ["core_hour"]:
        found.append(("device", "goes with gpu_hour; the price of a core may differ by queue"))
    for key, what in found:
        path = (PRICES, name, key) if key else (PRICES, name)
        mistakes.append(Mistake(document.line(path), ".".join(path), what))
    if found or is_damaged or not isinstance(since, date):
        return None
    return Price(name, units[0], float(block[units[0]]), since, block.get("queue", ANY), block.get("device", ANY))


_SINCE = "the day from which on it counts, without quotes, such as since = 2026-01-01"


def _mistakes_of_keys(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key of the block that is unknown, or whose value cannot be used, with what is wrong."""
    for key, value in block.items():
        if key not in KEYS:
            yield key, f"is not a key of a price.{near(key, KEYS)}"
        elif key in UNITS:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value < MOST:
                yield key, f"is {shown(value)}; expected a number from 0 to {MOST:,}, such as 0.04"
        elif key == "since":
            if not isinstance(value, date) or isinstance(value, datetime):
                yield key, f"is {shown(value)}; expected {_SINCE}"
        elif not isinstance(value, str) or not value.strip() or "\0" in value:
            yield key, f"is {shown(value)}; expected a pattern in quotes, such as '*H200*'"
