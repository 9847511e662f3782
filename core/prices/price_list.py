"""Prices: which one counts for a queue, a device and a day."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal

CPU = "cpu"
ANY = "*"
HOUR = 3600.0
Unit = Literal["core_hour", "gpu_hour"]
UNITS: tuple[Unit, ...] = ("core_hour", "gpu_hour")


@dataclass(frozen=True)
class Price:
    """One block of the file."""

    name: str
    unit: Unit
    price: float
    """For an hour of one core, or of one GPU with the machine around it."""
    since: date
    """It counts for runs that began on this day or later, in UTC."""
    queue: str = ANY
    """A pattern, such as `spot-*`."""
    device: str = ANY
    """A pattern for the model of a GPU, such as `*H200*`; upper and lower case are the same."""

    def fits(self, queue: str, device: str, day: date) -> bool:
        is_unit = self.unit == ("core_hour" if device == CPU else "gpu_hour")
        is_device = fnmatchcase(device.lower(), self.device.lower())
        return is_unit and is_device and fnmatchcase(queue, self.queue) and day >= self.since

    def hides(self, other: "Price") -> bool:
        """Whether `other`, below this one, is never reached."""
        is_wider = self.queue in (ANY, other.queue) and self.device.lower() in (ANY, other.device.lower())
        return self.unit == other.unit and is_wider and self.since <= other.since

    def __str__(self) -> str:
        where = [f"queue {self.queue}"] * (self.queue != ANY) + [f"device {self.device}"] * (self.device != ANY)
        return (
            f"{self.name}: {self.price:g} a {self.unit.replace('_', '-')}{', '.join(['', *where])}, since {self.since}"
        )


@dataclass(frozen=True)
class PriceList:
    """Prices in the order of the file."""

    currency: str
    prices: tuple[Price, ...]

    def find(self, queue: str, device: str, day: date) -> Price | None:
        """The first price that fits; None if none does."""
        return next((price for price in self.prices if price.fits(queue, device, day)), None)

    def cost(self, used: "Used") -> float | None:
        """What it cost; None without a price for it."""
        price = self.find(used.queue, used.device, used.day)
        return None if price is None else used.billed_seconds / HOUR * price.price


@dataclass(frozen=True)
class Used:
    """Time of one queue and device on one day."""

    queue: str
    device: str
    """`cpu`, or the model of a GPU."""
    day: date
    device_seconds: float
    cpu_seconds: float = 0.0
    billed: float | None = None
    """The billed seconds of several attempts, each by itself; None: of one."""

    @property
    def is_gpu(self) -> bool:
        return self.device != CPU

    @property
    def billed_seconds(self) -> float:
        """A process has a core while it has a batch, even if it waits; it has more if its threads use more.

        A GPU's price includes the machine around it.
        """
        if self.billed is not None:
            return self.billed
        return max(self.device_seconds, self.cpu_seconds) if not self.is_gpu else self.device_seconds


NO_PRICES = PriceList("", ())


@dataclass(frozen=True)
class Bill:
    """The cost of several uses."""

    cost: float | None
    """Of what has a price; None if nothing has one."""
    unpriced: tuple[Used, ...]
    """What took time and has no price."""


def bill(prices: PriceList, used: Iterable[Used]) -> Bill:
    """Add up what it cost."""
    cost, unpriced = None, []
    for one in used:
        part = prices.cost(one)
        if part is not None:
            cost = (cost or 0.0) + part
        elif one.billed_seconds > 0:
            unpriced.append(one)
    return Bill(cost, tuple(unpriced))


def money(amount: float) -> str:
    """`1,204.50`, `0.00042`: two digits after the point, or as many as a small amount needs."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.3g}"
