"""Celery's logical clock, which follows the latest that it hears of, as long as somebody's own clock may say that."""

from kombu.clocks import LamportClock

LATEST = 2**62
"""Far from what is refused as no count, so that nobody can bring a clock there."""


class BoundedClock(LamportClock):
    """Goes on from its own count where it hears of a later one than any worker reaches by counting."""

    def adjust(self, other: int) -> int:
        """Take over the other's count, if it is later than this clock's, and count on."""
        return super().adjust(other) if other <= LATEST else self.forward()
