"""When each check runs: a ring of slots for every interval.

A check with an interval of P slots sits in one bucket of the ring of size P and is due each
time the wheel comes by; nothing is re-inserted in steady state.  Slots are numbered from the
start of the engine and have a fixed length, so checks never drift.  Pure bookkeeping: knows
no clock and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["SLOT", "Bucket", "Wheel", "period_of"]

SLOT = 0.05
"""Length of a slot in seconds.  Each check keeps its phase, so this costs no latency; it
lets the checks of one slot share wake-ups, which halves their price at a few hundred servers."""

_FIRST_PASS = 20
"""Every check runs for the first time within so many slots (1 s), whatever its interval."""


def period_of(interval: float) -> int:
    """The interval in whole slots, at least one."""
    return max(1, round(interval / SLOT))


class Bucket:
    """The items that are due in the same slots."""

    __slots__ = ("items", "period")

    def __init__(self, period: int) -> None:
        self.period = period
        self.items: list[Any] = []


class _Scheduled(Protocol):
    bucket: Bucket | None
    """Where the item is scheduled; belongs to the wheel."""


T = TypeVar("T", bound=_Scheduled)


class Wheel(Generic[T]):
    """All checks by the slot in which they are due."""

    def __init__(self) -> None:
        self._rings: dict[int, list[Bucket]] = {}
        self._added: dict[int, int] = {}
        self._first: dict[int, list[T]] = {}

    def add(self, item: T, period: int, slot: int) -> None:
        """Schedule a new item; the current slot is `slot`.

        Items added one after the other are spread evenly over the period.  One whose turn
        is further off than the first pass runs once before, so that a server is not without
        a verdict for a long interval; at least the first pass lies between the two.
        """
        offset = self._next_offset(period)
        self._put(item, period, (slot + 1 + offset) % period)
        self._first.setdefault(slot + 1 + offset % _FIRST_PASS, []).append(item)

    def move(self, item: T, period: int, slot: int) -> None:
        """Change the period of a scheduled item.

        It is next due a period from `slot`, or earlier where the period grows: items that
        change together, as after an outage, are spread over it again.
        """
        if item.bucket is None or item.bucket.period == period:
            return
        grows = period > item.bucket.period
        self.discard(item)
        offset = 1 + self._next_offset(period) if grows else 0
        self._put(item, period, (slot + offset) % period)

    def discard(self, item: T) -> None:
        """Forget an item."""
        if item.bucket is not None:
            item.bucket.items.remove(item)
            item.bucket = None

    def due(self, slot: int) -> Iterator[T]:
        """Yield what is due in `slot`; call once for each slot, in order."""
        # Gathered first: what starts may end at once, and then move to a ring yet to come.
        due = [item for ring in self._rings.values() for item in ring[slot % len(ring)].items]
        if first := self._first.pop(slot, None):
            due = list(dict.fromkeys(due + first))  # some have their turn in this slot anyway
        yield from (item for item in due if item.bucket is not None)

    def skip(self, slot: int) -> int:
        """Leave out a slot that comes too late; return how many items it held."""
        late = self._first.pop(slot, [])
        if late:  # a first pass is put off, not left out
            self._first.setdefault(slot + _FIRST_PASS, []).extend(late)
        return sum(len(ring[slot % len(ring)].items) for ring in self._rings.values())

    def _put(self, item: T, period: int, bucket: int) -> None:
        ring = self._rings.get(period)
        if ring is None:
            ring = self._rings[period] = [Bucket(period) for _ in range(period)]
        item.bucket = ring[bucket]
        item.bucket.items.append(item)

    def _next_offset(self, period: int) -> int:
        # Multiples of the golden ratio fill an interval evenly at every length of the sequence.
        count = self._added.get(period, 0)
        self._added[period] = count + 1
        return int(count * 0.6180339887498949 % 1.0 * period)
