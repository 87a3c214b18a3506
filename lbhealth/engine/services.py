"""A configured service at run time: its servers, their checks and the facts about them."""

from __future__ import annotations

import sys

from lbhealth.engine.running import RunningCheck
from lbhealth.health import ADOPTED_DOWN, ADOPTED_UP, UNKNOWN, Health
from lbhealth.model import (
    Admin,
    CheckResult,
    DestinationKey,
    HealthState,
    RealServer,
    ServiceEntry,
    VirtualService,
)
from lbhealth.policy import Decision, ServerState

__all__ = ["ServerRuntime", "ServiceRuntime", "adopt", "adopted_health"]

_ONLINE = Admin()


class ServerRuntime:
    """One server of one service.

    What checks and operator say is kept apart in `state`; `decision` is what came of it last.
    """

    __slots__ = ("admin", "checks", "decision", "key", "server", "service", "state")

    def __init__(self, service: ServiceRuntime, server: RealServer, key: DestinationKey) -> None:
        self.service = service
        self.server = server
        self.key = key
        self.checks: tuple[RunningCheck, ...] = ()
        self.admin = _ONLINE
        self.decision: Decision | None = None
        self.state = ServerState()

    def refresh(self) -> None:
        """Take the facts anew after something changed."""
        self.state = self._facts()

    def _facts(self) -> ServerState:
        """What policy needs to know, from all checks (all must pass) and the operator."""
        admin = self.admin
        if not self.checks:
            return ServerState(
                health=self.server.assumed,
                confirmed=True,
                reason="not checked",
                admin=admin.state,
                admin_reason=admin.reason,
            )
        worst = min(self.checks, key=_badness)
        health = worst.health
        confirmed = health.confirmed
        if health.state is not HealthState.DOWN and len(self.checks) > 1:
            confirmed = all(check.health.confirmed for check in self.checks)
        return ServerState(
            health=health.state,
            confirmed=confirmed,
            was_up=all(check.health.was_up for check in self.checks),
            since=health.since,
            reason=sys.intern(worst.describe()),
            admin=admin.state,
            admin_reason=admin.reason,
        )

    @property
    def last(self) -> CheckResult | None:
        """The latest result of the check that decides."""
        return min(self.checks, key=_badness).last if self.checks else None


def _badness(check: RunningCheck) -> tuple[int, bool]:
    """Sorts the check that decides to the front: down, unknown, then unconfirmed."""
    order = {HealthState.DOWN: 0, HealthState.UNKNOWN: 1, HealthState.UP: 2}
    return (order[check.health.state], check.health.confirmed)


class ServiceRuntime:
    """One virtual service and its servers."""

    __slots__ = ("config", "fallback_active", "servers")

    def __init__(self, config: VirtualService) -> None:
        self.config = config
        self.servers: dict[DestinationKey, ServerRuntime] = {}
        self.fallback_active = False

    def states(self) -> dict[DestinationKey, ServerState]:
        """The facts about all servers at this moment."""
        return {key: server.state for key, server in self.servers.items()}


def adopted_health(entry: ServiceEntry | None, key: DestinationKey) -> Health:
    """The health to start with, from the row that was found."""
    row = entry.destinations.get(key) if entry is not None else None
    if row is None:
        return UNKNOWN
    return ADOPTED_UP if row.weight > 0 else ADOPTED_DOWN


def adopt(running: RunningCheck, found: Health) -> None:
    """Start a check that several servers share as up when one of them was found serving."""
    if found.was_up and running.health in (UNKNOWN, ADOPTED_DOWN):
        running.health = found
