"""Long work in short slices, so that no check waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterable
from typing import TypeVar

__all__ = ["SLICE", "Breather", "drain", "sliced"]

SLICE = 0.004
"""Seconds that a slice may take before the event loop gets its turn."""

_LOOK = 32
"""Steps between two looks at the clock."""

T = TypeVar("T")


class Breather:
    """For work in many small parts: await it after each, and it gives way when it is time."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE

    async def breathe(self) -> None:
        """Give way to the event loop if the slice is used up."""
        if time.monotonic() > self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE


async def sliced(items: Iterable[T], look: int = _LOOK) -> AsyncIterator[T]:
    """Iterate, giving way to the event loop whenever a slice is used up.

    The clock is looked at after every `look` items.
    """
    end = time.monotonic() + SLICE
    for count, item in enumerate(items):
        yield item
        if count % look == look - 1 and time.monotonic() > end:
            await asyncio.sleep(0)
            end = time.monotonic() + SLICE


async def drain(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end in slices and return what it returns."""
    end = time.monotonic() + SLICE
    count = 0
    try:
        while True:
            next(steps)
            count += 1
            if count % _LOOK == 0 and time.monotonic() > end:
                await asyncio.sleep(0)
                end = time.monotonic() + SLICE
    except StopIteration as stop:
        value: T = stop.value
        return value
