"""From what should be to what is: keeps the kernel's table equal to the decisions.

Level-triggered: a pass decides on whole services, compares them with the last known table
and applies the difference.  It runs for services marked dirty at once, and for all of them
after each re-sync with the kernel, which heals drift made by others.  A driver that fails
stops nothing but the passes; they resume with a fresh dump when it works again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

from lbhealth.drivers.base import Driver
from lbhealth.engine.services import ServiceRuntime
from lbhealth.engine.slices import Breather, drain, sliced
from lbhealth.errors import DriverError
from lbhealth.events import (
    DriftHealed,
    DriverChanged,
    Event,
    FallbackChanged,
    OperationRefused,
    StrangerFound,
)
from lbhealth.model import DestinationKey, ServiceEntry, ServiceKey, host_port
from lbhealth.plan import Op, OpKind, apply_one, describe, diff_service, order
from lbhealth.policy import DesiredService, decide_in_steps

__all__ = ["Owner", "Reconciler"]

_BATCH = 2048
"""Operations handed to the driver at once."""

_BACKOFF = 1.0
"""Seconds before the first retry after a driver failure; doubled up to the re-sync interval."""

_SHARE = 3
"""After a pass of t seconds the next waits 3 t: decisions take at most a quarter of the CPU,
which matters only where one service has thousands of servers that change all the time."""


class Owner(Protocol):
    """What the reconciler asks of the director."""

    @property
    def services(self) -> Mapping[ServiceKey, ServiceRuntime]:
        """The services to keep right, and no others."""

    @property
    def prune(self) -> bool:
        """Whether rows that nobody configured are removed from them."""

    @property
    def resync(self) -> float:
        """Seconds between two full comparisons."""


class Reconciler:
    """Owns the driver and the last known table of our services."""

    def __init__(
        self,
        driver: Driver,
        owner: Owner,
        emit: Callable[[Event], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self.actual: dict[ServiceKey, ServiceEntry] | None = None
        self.failure: DriverError | None = None
        self._driver = driver
        self._owner = owner
        self._emit = emit
        self._wall_clock = wall_clock
        self._dirty: dict[ServiceKey, None] = {}
        self._coming: frozenset[ServiceKey] = frozenset()
        self._retired: dict[ServiceKey, None] = {}
        self._refused: dict[tuple[ServiceKey, DestinationKey | None], str] = {}
        self._strangers: dict[ServiceKey, set[DestinationKey]] = {}
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._next_read = 0.0

    def mark(self, keys: Iterable[ServiceKey]) -> None:
        """Ask for a pass over these services."""
        for key in keys:
            self._dirty[key] = None
        self._wake.set()

    def retire(self, key: ServiceKey) -> None:
        """Ask for a service of ours that is configured no more to be deleted."""
        self._retired[key] = None
        self._wake.set()

    async def read(self) -> None:
        """Read our services from the kernel; raises DriverError."""
        keys = {*self._owner.services, *self._coming, *self._retired}
        self.actual = await self._dump(keys)
        self._next_read = time.monotonic() + self._owner.resync

    async def learn(self, keys: Iterable[ServiceKey]) -> None:
        """Read services that are about to become ours, so that they are adopted as found."""
        async with self._busy:
            self._coming = frozenset(keys)
            if self.actual is None or not self._coming:
                return
            try:
                self.actual |= await self._dump(self._coming)
            except DriverError as error:
                self.failed(error)

    async def _dump(self, keys: Collection[ServiceKey]) -> dict[ServiceKey, ServiceEntry]:
        with _driver_errors():
            table = await self._driver.dump(keys)
        return {
            key: ServiceEntry(entry.service, dict(entry.destinations))
            async for key, entry in sliced(table.items())
        }

    async def run(self) -> None:
        """Keep the table right until cancelled."""
        backoff = _BACKOFF
        while True:
            await self._pause()
            begun = time.monotonic()
            try:
                async with self._busy:
                    with _driver_errors():
                        await self._pass()
            except DriverError as error:
                self.failed(error)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, max(self._owner.resync, _BACKOFF))
                continue
            backoff = _BACKOFF
            self._works()
            await asyncio.sleep(min(1.0, _SHARE * (time.monotonic() - begun)))

    async def remove(self, keys: Iterable[ServiceKey]) -> None:
        """Delete services of ours from the kernel; raises DriverError."""
        await self.read()  # the last pass may have been cut off
        assert self.actual is not None
        await self._apply(
            [
                Op(OpKind.DELETE_SERVICE, self.actual[key].service)
                for key in keys
                if key in self.actual
            ]
        )

    async def _pause(self) -> None:
        """Wait for work or for the next re-sync."""
        if self.actual is None:
            return
        try:
            async with asyncio.timeout(max(0.0, self._next_read - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pass(self) -> None:
        self._wake.clear()
        services = self._owner.services
        drift: set[ServiceKey] = set()
        if self.actual is None:
            await self.read()
            self.mark(services)
            self._wake.clear()
        elif time.monotonic() >= self._next_read:
            await self.read()
            drift = set(services) - set(self._dirty)
            self._dirty.update(dict.fromkeys(services))
        dirty, self._dirty = self._dirty, {}
        try:
            await self._settle(dirty, drift)
        except BaseException:
            self._dirty = {**dirty, **self._dirty}  # nothing that was asked for is lost
            raise

    async def _settle(self, dirty: Iterable[ServiceKey], drift: set[ServiceKey]) -> None:
        ops: list[Op] = []
        breather = Breather()
        assert self.actual is not None
        for key in dirty:
            await breather.breathe()
            service = self._owner.services.get(key)
            if service is None:
                continue
            wanted = await self._differences(service)
            if key in drift and key not in self._dirty:
                self._tell_drift(wanted)
            ops += wanted
            if len(ops) >= _BATCH:
                await self._apply(order(ops))
                ops = []
        doomed = [key for key in self._retired if key not in self._owner.services]
        ops += [
            Op(OpKind.DELETE_SERVICE, self.actual[key].service)
            for key in doomed
            if key in self.actual
        ]
        await self._apply(order(ops))
        for key in doomed:
            if key not in self.actual:  # what was refused is tried again
                self._retired.pop(key, None)

    async def _differences(self, service: ServiceRuntime) -> list[Op]:
        """Decide on one service and compare it with the table, in slices."""
        assert self.actual is not None
        config, key = service.config, service.config.key
        # They may change between two slices: decide on those of this moment.
        states = {key: service.states()}
        desired = await drain(decide_in_steps(config, states, time.monotonic()))
        self._tell_fallback(service, desired.fallback_active)
        async for server in sliced(service.servers.values()):
            server.decision = desired.decisions[server.key]
        entry = self.actual.get(key)
        steps = diff_service(entry, desired, prune=self._owner.prune)
        wanted = [op async for op in sliced(steps) if op is not None]
        if entry is not None and not self._owner.prune:
            self._tell_strangers(key, entry, desired)
        return wanted

    async def _apply(self, ops: list[Op]) -> None:
        assert self.actual is not None
        for start in range(0, len(ops), _BATCH):
            batch = ops[start : start + _BATCH]
            with _driver_errors():
                outcomes = await self._driver.apply(batch)
            async for outcome in sliced(outcomes):
                place = _place(outcome.op)
                if outcome.error is None:
                    self._refused.pop(place, None)
                    apply_one(self.actual, outcome.op)
                elif self._refused.get(place) != outcome.error:
                    self._refused[place] = outcome.error
                    self._tell_refused(outcome.op, outcome.error)

    def failed(self, error: DriverError) -> None:
        """Take note that the driver does not work; the next pass begins with a dump."""
        self.actual = None
        if self.failure is None or str(self.failure) != str(error):
            self._emit(DriverChanged(self._wall_clock(), False, str(error)))
        self.failure = error

    def _works(self) -> None:
        if self.failure is not None:
            self.failure = None
            self._emit(DriverChanged(self._wall_clock(), True, "works again"))

    def _tell_drift(self, ops: Iterable[Op]) -> None:
        for op in ops:
            if _place(op) not in self._refused:
                self._emit(DriftHealed(self._wall_clock(), str(op.service.key), describe(op)))

    def _tell_refused(self, op: Op, error: str) -> None:
        key = str(op.service.key)
        self._emit(OperationRefused(self._wall_clock(), key, describe(op), error))

    def _tell_strangers(
        self, key: ServiceKey, entry: ServiceEntry, desired: DesiredService
    ) -> None:
        found = {row for row in entry.destinations if row not in desired.decisions}
        for row in found - self._strangers.get(key, set()):
            self._emit(StrangerFound(self._wall_clock(), str(key), host_port(*row)))
        self._strangers[key] = found

    def _tell_fallback(self, service: ServiceRuntime, active: bool | None) -> None:
        fallback = service.config.fallback
        if fallback is None or active is None or active == service.fallback_active:
            return
        service.fallback_active = active
        why = "no server is up" if active else "a server is up, or none has failed"
        self._emit(
            FallbackChanged(self._wall_clock(), str(service.config.key), fallback.name, active, why)
        )


def _place(op: Op) -> tuple[ServiceKey, DestinationKey | None]:
    return (op.service.key, op.destination.key if op.destination else None)


@contextlib.contextmanager
def _driver_errors() -> Iterator[None]:
    """Take whatever goes wrong for a driver's failure: drivers may be plug-ins, with bugs."""
    try:
        yield
    except DriverError:
        raise
    except Exception as bug:
        message = f"{type(bug).__name__}: {bug}"
        raise DriverError(message, remedy="please report this bug") from bug
