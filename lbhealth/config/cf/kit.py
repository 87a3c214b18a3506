"""Makes checkers, plans and checks for one file, each distinct one once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, cast

from lbhealth.config.cf.report import Report, Text, shown
from lbhealth.config.cf.services import Origin
from lbhealth.config.loading import CheckerRegistry
from lbhealth.config.source import Span
from lbhealth.errors import LbhealthError, SettingError
from lbhealth.model import (
    Address,
    Check,
    Checker,
    HealthState,
    Hybrid,
    Schedule,
    Target,
    TransportProtocol,
)

__all__ = ["CheckKit", "Plan", "Settings"]

Settings: TypeAlias = Mapping[str, object]


@dataclass(slots=True, eq=False)
class Plan:
    """How the servers of a section are judged: a checker, or an `assumed` state without one.

    `port` is the check port where the real server has none; `fixed_port` overrides both.
    """

    checker: Checker | None = None
    schedule: Schedule = field(default_factory=Schedule)
    hybrid: Hybrid | None = None
    protocol: TransportProtocol = TransportProtocol.TCP
    server_name: str | None = None
    assumed: HealthState = HealthState.UP
    made: dict[tuple[Address, int], tuple[Check, ...]] = field(default_factory=dict)

    def checks(self, address: Address, port: int) -> tuple[Check, ...]:
        """The checks of one server; the same object for the same address and port."""
        if self.checker is None:
            return ()
        key = (address, port)
        found = self.made.get(key)
        if found is None:
            target = Target(address, port, self.protocol, self.server_name)
            found = (Check(self.checker, target, self.schedule, self.hybrid),)
            self.made[key] = found
        return found


class CheckKit:
    """Makes checkers and plans for one file, each distinct one once."""

    def __init__(self, registry: CheckerRegistry, report: Report) -> None:
        self._registry = registry
        self._report = report
        self._checkers: dict[
            tuple[str, tuple[tuple[str, object], ...]], Checker | LbhealthError
        ] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self.unchecked = {state: Plan(assumed=state) for state in HealthState}

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds that the registry has."""
        return frozenset(self._registry.kinds())

    def checker(
        self, kind: str, settings: Settings, origins: Mapping[str, Origin], place: Text | Span
    ) -> Checker | None:
        """A checker; None after an error is reported at the setting's origin, or at `place`."""
        key = (kind, tuple(settings.items()))
        found = self._checkers.get(key)
        if found is None:
            found = self._checkers[key] = self._make(kind, settings)
        if isinstance(found, SettingError):
            self._report_setting(found, origins, place)
            return None
        if isinstance(found, LbhealthError):
            self._report.error("LB414", place, str(found))
            return None
        return found

    def plan(
        self,
        checker: Checker,
        schedule: Schedule,
        hybrid: Hybrid | None = None,
        protocol: TransportProtocol = TransportProtocol.TCP,
        server_name: str | None = None,
    ) -> Plan:
        """The one plan of these values."""
        key = (checker, schedule, hybrid, protocol, server_name)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = Plan(checker, schedule, hybrid, protocol, server_name)
        return found

    def _make(self, kind: str, settings: Settings) -> Checker | LbhealthError:
        try:
            # A checker's constructor takes its settings by name; the protocol leaves it open.
            factory = cast("Callable[..., Checker]", self._registry.checker(kind))
            return factory(**settings)
        except LbhealthError as error:
            return error

    def _report_setting(
        self, error: SettingError, origins: Mapping[str, Origin], place: Text | Span
    ) -> None:
        directive, origin = origins.get(error.field, (error.field, None))
        message = f'"{directive}": {shown(error.message)}'
        if origin is None or not origin.value:
            self._report.error("LB410", place, message)
            return
        position = error.position
        if position is not None and error.field.endswith("regex"):
            # Other settings are rewritten on the way, so an offset means nothing in them.
            start = max(0, min(position, len(origin.value) - 1))
            origin = origin.part(start, start + 1)
        self._report.error("LB410", origin, message)
