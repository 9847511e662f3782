"""Prices: the file is checked whole, with the line of each mistake, and the first price that fits counts."""

from datetime import date
from pathlib import Path

import pytest

from scorebeat.core.errors import PricesFileError
from scorebeat.core.prices.price_list import Price, PriceList, Used, bill
from scorebeat.core.prices.prices_file import read_prices

FILE = """
currency = "EUR"

[prices.h200_from_march]
gpu_hour = 3.4
since    = 2026-03-01
device   = "*h200*"

[prices.gpus]
gpu_hour = 3.9
since    = 2026-01-01

[prices.spot]
core_hour = 0.01
since     = 2026-01-01
queue     = "spot-*"

[prices.cores]
core_hour = 0.04
since     = 2026-01-01
"""
WRONG = {
    'currency = "euro"\n[prices.a]\ncore_hour = 1\nsince = 2026-01-01': (
        "line 1, currency: is 'euro'; expected three capital letters in quotes, such as 'EUR'"
    ),
    "[prices.a]\ncore_hour = 1\nsince = 2026-01-01": "currency: is missing; expected three capital letters",
    'currency = "EUR"': "line 1, prices: there is no price; expected currency = ",
    'currency = "EUR"\n[prices.a]\nsince = 2026-01-01': "line 2, prices.a: has no price; expected one of core_hour and",
    'currency = "EUR"\n[prices.a]\ncore_hour = 1\ngpu_hour = 2\nsince = 2026-01-01': (
        "line 2, prices.a: has core_hour and gpu_hour; expected one"
    ),
    'currency = "EUR"\n[prices.a]\ncore_hour = "1"\nsince = 2026-01-01': (
        "line 3, prices.a.core_hour: is '1'; expected a number from 0 to 1,000,000,000, such as 0.04"
    ),
    'currency = "EUR"\n[prices.a]\ncore_hour = -1\nsince = 2026-01-01': "line 3, prices.a.core_hour: is -1; expected",
    'currency = "EUR"\n[prices.a]\ncore_hour = nan\nsince = 2026-01-01': "line 3, prices.a.core_hour: is nan; expected",
    'currency = "EUR"\n[prices.a]\ncore_hour = 1': "line 2, prices.a: has no since; expected the day from which",
    'currency = "EUR"\n[prices.a]\ncore_hour = 1\nsince = "2026-01-01"': (
        "line 4, prices.a.since: is '2026-01-01'; expected the day from which on it counts, without quotes"
    ),
    'currency = "EUR"\n[prices.a]\ncore_hour = 1\nsince = 2026-01-01T00:00:00': "line 4, prices.a.since: is a date or",
    'currency = "EUR"\n[prices.a]\ncore_hours = 1\nsince = 2026-01-01': (
        "prices.a.core_hours: is not a key of a price. Did you mean 'core_hour'"
    ),
    'currency = "EUR"\n[prices.a]\ncore_hour = 1\nsince = 2026-01-01\ndevice = "*"': (
        "line 5, prices.a.device: goes with gpu_hour"
    ),
    'currency = "EUR"\n[prices.a]\ngpu_hour = 1\nsince = 2026-01-01\ndevice = ""': (
        "line 5, prices.a.device: is ''; expected a pattern"
    ),
    'currency = "EUR"\n[prices.a]\ncore_hour = 1\nsince = 2026-01-01\n[prices.b]\ncore_hour = 2\nsince = 2026-02-01': (
        "line 5, prices.b: is never reached: the first price that fits counts, and [prices.a] above it fits the same"
    ),
    'currency = "EUR"\nrate = 1\n[prices.a]\ncore_hour = 1\nsince = 2026-01-01': "line 2, rate: is not known here",
    'currency = "EUR"\n[prices]\na = 1': "line 3, prices.a: is not a block of its own; expected [prices.a]",
    'currency = "EUR"\nprices = 1': "line 2, prices: is not a block; expected [prices.NAME]",
    'currency = "EUR"\n[prices.a]\ncore_hour = \nsince = 2026-01-01': "line 3, prices.a.core_hour: this is no TOML",
}


@pytest.fixture
def prices(tmp_path: Path) -> PriceList:
    return read_prices(written(tmp_path, FILE))


def written(folder: Path, content: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("queue", "device", "day", "name"),
    [
        ("cpu", "cpu", date(2026, 5, 1), "cores"),
        ("spot-small", "cpu", date(2026, 5, 1), "spot"),
        ("gpu", "NVIDIA H200", date(2026, 2, 28), "gpus"),
        ("gpu", "NVIDIA H200", date(2026, 3, 1), "h200_from_march"),
        ("gpu", "NVIDIA A10", date(2026, 5, 1), "gpus"),
        ("cpu", "cpu", date(2025, 12, 31), None),
    ],
)
def test_the_first_price_that_fits_counts(
    prices: PriceList, queue: str, device: str, day: date, name: str | None
) -> None:
    found = prices.find(queue, device, day)

    assert (found.name if found is not None else None) == name


def test_a_process_costs_its_core_and_more_if_its_threads_use_more(prices: PriceList) -> None:
    day = date(2026, 5, 1)

    waits, computes = Used("cpu", "cpu", day, 3600.0, 360.0), Used("cpu", "cpu", day, 3600.0, 7200.0)

    assert prices.cost(waits) == pytest.approx(0.04)
    assert prices.cost(computes) == pytest.approx(0.08)
    assert prices.cost(Used("gpu", "NVIDIA H200", day, 1800.0, 7200.0)) == pytest.approx(1.7)


def test_time_without_a_price_is_named_and_left_out_of_the_sum(prices: PriceList) -> None:
    old, new = (Used("cpu", "cpu", date(year, 1, 1), 3600.0) for year in (2025, 2026))

    assert bill(prices, [old, new]).cost == pytest.approx(0.04)
    assert bill(prices, [old, new]).unpriced == (old,)
    assert bill(prices, [old]).cost is None


@pytest.mark.parametrize("content", WRONG)
def test_each_mistake_is_named_with_its_line_and_what_was_expected(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)

    with pytest.raises(PricesFileError) as raised:
        read_prices(path)

    assert str(raised.value).startswith(f"{path}: 1 mistake\n  line ")
    assert WRONG[content] in str(raised.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PricesFileError, match="5 mistakes"):
        read_prices(
            written(tmp_path, 'currency = 1\n[prices.a]\ncore_hour = "x"\nwhere = 1\n[prices.b]\nsince = 2026-01-01')
        )


def test_a_file_that_is_missing_or_no_text_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PricesFileError, match=r"no such file; write one with currency = .* SCOREBEAT_PRICES"):
        read_prices(tmp_path / "prices.toml")
    (tmp_path / "latin.toml").write_bytes(b'currency = "EUR"\n# \xe9\n')
    with pytest.raises(PricesFileError, match="line 2 is not UTF-8"):
        read_prices(tmp_path / "latin.toml")


def test_a_price_shows_where_and_from_when_it_counts() -> None:
    price = Price("spot", "gpu_hour", 1.5, date(2026, 1, 1), "spot-*", "*H200*")

    assert str(price) == "spot: 1.5 a gpu-hour, queue spot-*, device *H200*, since 2026-01-01"
