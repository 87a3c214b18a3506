"""What happened: frozen values for logs, alerts, history and other programs.

Events are told after the fact; a subscriber cannot influence a decision.  `at` is wall-clock
seconds since the epoch, `service` and `server` are the names that `status` shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lbhealth.model import AdminState, CheckResult, HealthState

__all__ = [
    "AdminChanged",
    "CheckerTrouble",
    "ConfigReloaded",
    "DriftHealed",
    "DriverChanged",
    "Event",
    "EventsLost",
    "FallbackChanged",
    "OperationRefused",
    "ServerTransition",
    "StrangerFound",
]


@dataclass(frozen=True, slots=True)
class ServerTransition:
    """The checks changed their mind about a server."""

    at: float
    service: str
    server: str
    old: HealthState
    new: HealthState
    why: str
    cause: CheckResult | None


@dataclass(frozen=True, slots=True)
class AdminChanged:
    """An operator took a server offline or online; `until` is wall-clock seconds or None."""

    at: float
    service: str
    server: str
    state: AdminState
    reason: str
    actor: str
    until: float | None


@dataclass(frozen=True, slots=True)
class FallbackChanged:
    """The fallback of a service began or ceased to serve."""

    at: float
    service: str
    server: str
    active: bool
    why: str


@dataclass(frozen=True, slots=True)
class CheckerTrouble:
    """A check cannot run (`ok` False) or can again; the server keeps its state."""

    at: float
    service: str
    server: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class DriftHealed:
    """Somebody else changed a row or service of ours; `operation` put it right."""

    at: float
    service: str
    operation: str


@dataclass(frozen=True, slots=True)
class StrangerFound:
    """A row that nobody configured stands in a service of ours; it is left alone."""

    at: float
    service: str
    server: str


@dataclass(frozen=True, slots=True)
class OperationRefused:
    """The kernel refused an operation; it is tried again with the next re-sync."""

    at: float
    service: str
    operation: str
    error: str


@dataclass(frozen=True, slots=True)
class DriverChanged:
    """The data plane fails (`ok` False), or works again.  Checks go on either way."""

    at: float
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    """A new configuration is in force; the numbers count virtual services."""

    at: float
    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The subscriber was too slow; `count` events before this one were dropped."""

    at: float
    count: int


Event: TypeAlias = (
    ServerTransition
    | AdminChanged
    | FallbackChanged
    | CheckerTrouble
    | DriftHealed
    | StrangerFound
    | OperationRefused
    | DriverChanged
    | ConfigReloaded
    | EventsLost
)
