"""Celery's logical clock: it follows a received count only if a worker can reach that count."""

from kombu.clocks import LamportClock

LATEST = 2**62
"""Far below the counts that are refused, so that no message can push a clock up to those."""


class BoundedClock(LamportClock):
    """Continues from its own count if it receives one that no worker reaches by counting."""

    def adjust(self, other: int) -> int:
        """Take over the other's count if it is later than this clock's, then count on."""
        return super().adjust(other) if other <= LATEST else self.forward()
