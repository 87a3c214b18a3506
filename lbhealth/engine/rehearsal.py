"""What a director would do now, without being one: for `lbhealth plan`."""

from __future__ import annotations

import asyncio
import time

from lbhealth.drivers.base import Driver
from lbhealth.engine.runner import run_check
from lbhealth.engine.running import RunningCheck
from lbhealth.engine.services import ServerRuntime, ServiceRuntime, adopt, adopted_health
from lbhealth.model import Check, Config, ServiceKey
from lbhealth.plan import Op, diff
from lbhealth.policy import decide

__all__ = ["rehearse"]

_AT_ONCE = 200


async def rehearse(config: Config, driver: Driver, *, run_checks: bool) -> list[Op]:
    """Return the operations that a director would begin with.  Changes nothing.

    With `run_checks` every check runs once; one result changes what it would change in a
    running director, so a server found in the table stays while `fall` is above 1.
    Raises DriverError.
    """
    table = await driver.dump([service.key for service in config.virtual])
    checks: dict[Check, RunningCheck] = {}
    services: dict[ServiceKey, ServiceRuntime] = {}
    for service in config.virtual:
        runtime = services[service.key] = ServiceRuntime(service)
        for real in service.real:
            key = service.destination_key(real)
            server = runtime.servers[key] = ServerRuntime(runtime, real, key)
            health = adopted_health(table.get(service.key), key)
            server.checks = tuple(
                checks.setdefault(check, RunningCheck(check, health, lambda *_: None))
                for check in real.checks
            )
            for running in server.checks:
                adopt(running, health)
    if run_checks:
        limit = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(_run(running, limit) for running in checks.values()))
    for runtime in services.values():
        for server in runtime.servers.values():
            server.refresh()
    states = {key: runtime.states() for key, runtime in services.items()}
    now = time.monotonic()
    desired = {key: decide(runtime.config, states, now) for key, runtime in services.items()}
    return diff(table, desired, prune=config.director.prune)


async def _run(running: RunningCheck, limit: asyncio.Semaphore) -> None:
    check = running.check
    async with limit:
        result = await run_check(check.checker, check.target, check.schedule.timeout)
    running.take(result)
