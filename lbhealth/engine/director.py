"""The director: what other programs import.

It owns one monitor (checks), one reconciler (kernel table) and the facts in between.  It sets
no signal handlers, configures no logging and keeps no globals, so a process may have several.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from lbhealth.drivers.base import Driver
from lbhealth.engine.bus import Bus
from lbhealth.engine.monitor import Lag, Monitor
from lbhealth.engine.names import find_servers
from lbhealth.engine.operators import Operators
from lbhealth.engine.ownership import Ownership, find_ldirectord
from lbhealth.engine.reconciler import Reconciler
from lbhealth.engine.running import RunningCheck
from lbhealth.engine.services import ServerRuntime, ServiceRuntime, adopt, adopted_health
from lbhealth.engine.slices import Breather, sliced
from lbhealth.engine.snapshot import (
    DriverStatus,
    ServerStatus,
    ServiceStatus,
    Snapshot,
    server_statuses,
    service_status,
)
from lbhealth.errors import DriverError, TableOwnedError
from lbhealth.events import CheckerTrouble, ConfigReloaded, Event, ServerTransition
from lbhealth.health import Health, Transition
from lbhealth.model import (
    Admin,
    AdminState,
    Check,
    Config,
    HealthState,
    ServiceKey,
    VirtualService,
)

__all__ = ["Director"]


class Director:
    """Keeps a data plane in step with the health of real servers.

    Use it as an asynchronous context manager; everything runs in the entering event loop.
    Raises TableOwnedError on entry when another program drives one of the services.
    """

    def __init__(
        self, config: Config, driver: Driver, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.services: dict[ServiceKey, ServiceRuntime] = {}
        self._config = config
        self._driver = driver
        self._wall_clock = wall_clock
        self._bus = Bus(wall_clock)
        self._monitor = Monitor(self._check_changed)
        self._reconciler = Reconciler(driver, self, self._bus.emit, wall_clock)
        self._ownership = Ownership()
        self._operators = Operators(self._refresh, self._bus.emit, wall_clock)
        self._reloading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._unjudged = 0

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        """Adopt the table that is found and begin to check."""
        async with self._reloading:  # a reload that comes early waits
            try:
                await self._begin()
            except BaseException:
                await self._release()
                raise
        return self

    async def _begin(self) -> None:
        self._claim(self._config)
        for service in self._config.virtual:
            self.services[service.key] = ServiceRuntime(service)
        try:
            await self._reconciler.read()
        except DriverError as error:
            self._reconciler.failed(error)  # the checks go on; it is tried again
        for runtime in self.services.values():
            await self._populate(runtime)
        # Not before all checks have their slots, or the first pass would take longer.
        self._monitor.start()
        self._reconciler.mark(self.services)
        self._task = asyncio.create_task(self._reconciler.run(), name="lbhealth reconciler")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; the table stays as it is, but for services whose `clean_stop` is set."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        doomed = [key for key, service in self.services.items() if service.config.clean_stop]
        try:
            if doomed:
                await self._reconciler.remove(doomed)
        except DriverError as failure:
            self._reconciler.failed(failure)
        finally:
            await self._release()

    async def _release(self) -> None:
        self._operators.close()
        await self._monitor.aclose()
        await self._driver.aclose()
        self._ownership.close()
        self._bus.close()

    def _claim(self, config: Config) -> None:
        if not self._driver.shared:
            return
        pid = find_ldirectord()
        if pid is not None:
            raise TableOwnedError(
                "the IPVS table",
                f"ldirectord (process {pid})",
                remedy="stop it first (`systemctl stop ldirectord` or `ldirectord stop`); "
                "with cleanstop=no it leaves the table for lbhealth to adopt",
            )
        self._ownership.take(service.key for service in config.virtual)

    # ------------------------------------------------------------------ watching

    def events(self) -> AsyncIterator[Event]:
        """Iterate over what happens from now on, until the director stops."""
        return self._bus.subscribe()

    def snapshot(self) -> Snapshot:
        """Everything that is known now."""
        services = tuple(replace(service, real=tuple(servers)) for service, servers in self.walk())
        return self.header(services)

    def header(self, services: tuple[ServiceStatus, ...] = ()) -> Snapshot:
        """A snapshot with the given services; cheap without them."""
        failure = self._reconciler.failure
        return Snapshot(
            at=self._wall_clock(),
            ready=self.ready,
            driver=DriverStatus(self._driver.name, failure is None, str(failure or "")),
            checks=len(self._monitor.checks),
            worst_lag=self.lag.worst,
            skipped=self.lag.skipped,
            services=services,
        )

    def walk(self) -> Iterator[tuple[ServiceStatus, Iterator[ServerStatus]]]:
        """Yield each service without its servers, and these one by one, made as they are asked.

        For readers that must not hold the loop; `snapshot` makes everything at once.
        """
        for key, service in tuple(self.services.items()):
            entry = (self._reconciler.actual or {}).get(key)
            servers = server_statuses(service, entry, time.monotonic(), self._wall_clock())
            yield service_status(service, entry), servers

    @property
    def ready(self) -> bool:
        """Whether every server has had a verdict."""
        return self._task is not None and self._unjudged == 0

    @property
    def lag(self) -> Lag:
        """How punctual the checks are."""
        return self._monitor.lag

    # ------------------------------------------------------------------ the operator's word

    def set_admin(
        self,
        server: str,
        state: AdminState,
        *,
        reason: str = "",
        actor: str = "",
        until: float | None = None,
    ) -> int:
        """Take a server offline or online; return how many services it concerns.

        `server` is `ADDRESS:PORT` or `SERVICE/ADDRESS:PORT`; `until` is wall-clock seconds,
        after which it comes back online by itself.  Raises UnknownServer.
        """
        found = find_servers(self.services, server)
        now = self._wall_clock()
        for runtime in found:
            self._operators.set(runtime, Admin(state, reason, actor, now, until))
        return len(found)

    # ------------------------------------------------------------------ configuration

    async def reload(self, config: Config) -> ConfigReloaded:
        """Put a new configuration in force; what did not change goes on undisturbed.

        Raises TableOwnedError, and then the old configuration stays.
        """
        async with self._reloading:
            if self._driver.shared:
                self._ownership.take(service.key for service in config.virtual)
            await self._reconciler.learn(
                service.key for service in config.virtual if service.key not in self.services
            )
            counts = await self._replace(config)
            self._config = config
            event = ConfigReloaded(self._wall_clock(), *counts)
            self._bus.emit(event)
            return event

    async def _replace(self, config: Config) -> tuple[int, int, int, int]:
        added = changed = unchanged = 0
        fresh: dict[ServiceKey, ServiceRuntime] = {}
        breather = Breather()
        for service in config.virtual:
            await breather.breathe()
            old = self.services.get(service.key)
            if old is not None and await _same(old.config, service):
                fresh[service.key] = old
                unchanged += 1
                continue
            runtime = ServiceRuntime(service)
            if old is not None:
                changed += 1
            else:
                added += 1
            await self._populate(runtime)
            fresh[service.key] = runtime
        for key, old in self.services.items():
            if key in fresh and fresh[key] is not old:
                self._hand_over(old, fresh[key])
        gone = [runtime for key, runtime in self.services.items() if fresh.get(key) is not runtime]
        removed = [key for key in self.services if key not in fresh]
        self.services = fresh
        for runtime in gone:
            await self._depopulate(runtime)
        for key in removed:
            self._reconciler.retire(key)
        self._ownership.drop(removed)
        self._reconciler.mark(fresh)
        return added, changed, len(removed), unchanged

    def _hand_over(self, old: ServiceRuntime, new: ServiceRuntime) -> None:
        """Keep the operator's words, those included that came while `new` was made."""
        new.fallback_active = old.fallback_active
        for key, before in old.servers.items():
            server = new.servers.get(key)
            if server is not None:
                self._operators.hand_over(before, server)

    async def _populate(self, runtime: ServiceRuntime) -> None:
        """Make the servers of a service and start, or join, their checks."""
        config = runtime.config
        entry = (self._reconciler.actual or {}).get(config.key)
        async for real in sliced(config.real):
            key = config.destination_key(real)
            server = ServerRuntime(runtime, real, key)
            runtime.servers[key] = server
            health = adopted_health(entry, key)
            server.checks = tuple(self._join(check, server, health) for check in real.checks)
            server.refresh()
            self._unjudged += not server.state.confirmed

    def _join(self, check: Check, server: ServerRuntime, adopted: Health) -> RunningCheck:
        running = self._monitor.get(check)
        if running is None:
            running = self._monitor.add(check, self._heritage(check, server) or adopted)
        else:
            adopt(running, adopted)
        running.servers = (*running.servers, server)
        return running

    def _heritage(self, check: Check, server: ServerRuntime) -> Health | None:
        """The health of a check that differs in its schedule only."""
        old = self.services.get(server.service.config.key)
        before = old.servers.get(server.key) if old is not None else None
        if before is None:
            return None
        for running in before.checks:
            if running.check.checker == check.checker and running.check.target == check.target:
                return running.health
        return None

    async def _depopulate(self, runtime: ServiceRuntime) -> None:
        servers, runtime.servers = runtime.servers, {}  # breaks the cycle of service and servers
        async for server in sliced(tuple(servers.values())):
            self._unjudged -= not server.state.confirmed
            self._operators.forget(server)
            for running in server.checks:
                running.servers = tuple(s for s in running.servers if s is not server)
                if not running.servers:
                    self._monitor.remove(running)

    # ------------------------------------------------------------------ from checks to decisions

    @property
    def prune(self) -> bool:
        """Whether strangers inside our services are removed."""
        return self._config.director.prune

    @property
    def resync(self) -> float:
        """Seconds between two full comparisons with the kernel."""
        return self._config.director.resync

    def _check_changed(self, running: RunningCheck, transition: Transition | None) -> None:
        trouble = bool(running.trouble) != running.told_trouble
        running.told_trouble = bool(running.trouble)
        for server in running.servers:
            before = server.state.health
            self._refresh(server)
            self._tell_transition(server, before, transition)
            if trouble:
                self._tell_trouble(server, running)

    def _refresh(self, server: ServerRuntime) -> None:
        self._unjudged += server.state.confirmed
        server.refresh()
        self._unjudged -= server.state.confirmed
        self._reconciler.mark((server.service.config.key,))

    def _tell_transition(
        self, server: ServerRuntime, before: HealthState, transition: Transition | None
    ) -> None:
        state = server.state
        if state.health is before:
            return
        self._bus.emit(
            ServerTransition(
                self._wall_clock(),
                str(server.service.config.key),
                server.server.name,
                before,
                state.health,
                state.reason,
                transition.cause if transition is not None else None,
            )
        )

    def _tell_trouble(self, server: ServerRuntime, running: RunningCheck) -> None:
        ok = not running.trouble
        self._bus.emit(
            CheckerTrouble(
                self._wall_clock(),
                str(server.service.config.key),
                server.server.name,
                ok,
                running.trouble if not ok else "the check runs again",
            )
        )


async def _same(old: VirtualService, new: VirtualService) -> bool:
    """Compare two services, in slices: some have thousands of servers."""
    if len(old.real) != len(new.real):
        return False
    async for a, b in sliced(zip(old.real, new.real, strict=True)):
        if a != b:
            return False
    return replace(old, real=()) == replace(new, real=())
