"""What a director knows at one moment, as values: the source of `status`, pages and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lbhealth.engine.services import ServerRuntime, ServiceRuntime
from lbhealth.model import (
    Admin,
    CheckResult,
    Destination,
    HealthState,
    ServiceEntry,
    ServiceKey,
)

__all__ = [
    "DriverStatus",
    "FallbackStatus",
    "ServerStatus",
    "ServiceStatus",
    "Snapshot",
    "WeightStatus",
    "server_statuses",
    "service_status",
]


@dataclass(frozen=True, slots=True)
class WeightStatus:
    """Weights of one server; `applied` is None where the kernel has no row."""

    configured: int
    feedback: int | None
    applied: int | None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server of one service.  `since` is wall-clock seconds, None if never judged."""

    server: str
    health: HealthState
    admin: Admin
    weight: WeightStatus
    why: str
    since: float | None
    last: CheckResult | None
    age: float | None


@dataclass(frozen=True, slots=True)
class FallbackStatus:
    """The fallback of a service, and whether it serves."""

    address: str
    active: bool


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One virtual service with its servers."""

    key: ServiceKey
    name: str
    scheduler: str
    fallback: FallbackStatus | None
    real: tuple[ServerStatus, ...]


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """The data plane: `ok`, or what is wrong and what to do about it."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole director.  `ready`: every server has a verdict.  `at` is wall-clock seconds."""

    at: float
    ready: bool
    driver: DriverStatus
    checks: int
    worst_lag: float
    skipped: int
    services: tuple[ServiceStatus, ...]


def service_status(
    service: ServiceRuntime, entry: ServiceEntry | None, real: tuple[ServerStatus, ...] = ()
) -> ServiceStatus:
    """The status of one service, with the servers that are given."""
    config = service.config
    fallback = None
    if config.fallback is not None:
        row = _row(entry, config.destination_key(config.fallback))
        fallback = FallbackStatus(config.fallback.name, row is not None and row.weight > 0)
    return ServiceStatus(
        key=config.key,
        name=config.name,
        scheduler=config.scheduler,
        fallback=fallback,
        real=real,
    )


def server_statuses(
    service: ServiceRuntime, entry: ServiceEntry | None, now: float, wall: float
) -> Iterator[ServerStatus]:
    """Yield the status of each server.

    `now` is monotonic, `wall` the same moment by the calendar.
    """
    for server in tuple(service.servers.values()):
        yield _server(server, _row(entry, server.key), now, wall)


def _server(
    server: ServerRuntime, row: Destination | None, now: float, wall: float
) -> ServerStatus:
    state = server.state
    last = server.last
    why = state.reason
    if server.decision is not None:
        why = server.decision.why
    age = now - last.started - last.duration if last is not None else None
    return ServerStatus(
        server=server.server.name,
        health=state.health,
        admin=server.admin,
        weight=WeightStatus(server.server.weight, state.feedback, row.weight if row else None),
        why=why,
        since=round(wall - (now - state.since), 3) if state.since else None,
        last=last,
        age=age,
    )


def _row(entry: ServiceEntry | None, key: tuple[str, int]) -> Destination | None:
    return entry.destinations.get(key) if entry is not None else None
