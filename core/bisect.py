"""The halving search: finds the items for which something fails, and does it for all others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[T]):
    """A part of the items, by position, and what the attempt returned for it."""

    part: range
    result: T


@dataclass(frozen=True)
class Failed:
    """The position of an item that fails alone, and its error."""

    index: int
    error: Exception


def bisect(
    count: int,
    attempt: Callable[[range], T],
    is_about_items: Callable[[Exception], bool] = lambda error: True,  # noqa: ARG005
    failed: Exception | None = None,
) -> Iterator[Done[T] | Failed]:
    """Attempt `count` items, in their order, halving each part that fails, until the failing items are alone.

    `attempt` gets the positions of a part. `failed` is the error of all items, if they were attempted before. Raises an
    error that `is_about_items` says is not caused by single items, and the error of an attempt at no item. Each attempt
    is made when the part before it was consumed, so that a caller who looks for one failure can stop early.
    """
    parts = [range(count)]
    while parts:
        part, error = parts.pop(), failed
        if error is None:
            try:
                result = attempt(part)
            except Exception as caught:
                if not is_about_items(caught):
                    raise
                error = caught
            else:
                yield Done(part, result)
                continue
        failed = None
        if not part:
            raise error
        if len(part) == 1:
            yield Failed(part.start, error)
        else:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
