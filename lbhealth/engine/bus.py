"""Events to any number of subscribers, none of which can hold up another or the engine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from lbhealth.events import Event, EventsLost

__all__ = ["Bus"]

_BACKLOG = 1000
"""A subscriber that is further behind loses its oldest events and is told how many."""


class Bus:
    """Hands each event to every subscriber."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._subscribers: set[_Subscription] = set()
        self._closed = False

    def emit(self, event: Event) -> None:
        """Tell everybody; never blocks."""
        for subscriber in self._subscribers:
            subscriber.put(event)

    def subscribe(self) -> AsyncIterator[Event]:
        """Iterate over the events from now on, until the bus is closed."""
        subscription = _Subscription(self._clock)
        if self._closed:
            subscription.end()
        else:
            self._subscribers.add(subscription)
        return self._deliver(subscription)

    def close(self) -> None:
        """End every iteration once it has delivered what it holds."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.end()
        self._subscribers.clear()

    async def _deliver(self, subscription: _Subscription) -> AsyncIterator[Event]:
        try:
            while (event := await subscription.get()) is not None:
                yield event
        finally:
            self._subscribers.discard(subscription)


class _Subscription:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=_BACKLOG)
        self._lost = 0
        self._ended = False
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._events) == _BACKLOG:
            self._lost += 1
        self._events.append(event)
        self._filled.set()

    def end(self) -> None:
        self._ended = True
        self._filled.set()

    async def get(self) -> Event | None:
        while not self._events:
            if self._ended:
                return None
            self._filled.clear()
            await self._filled.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(self._clock(), lost)
        return self._events.popleft()
