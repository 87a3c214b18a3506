"""A table in memory that behaves as the kernel's does: for tests, demos and dry runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from lbhealth.drivers.base import DestinationStats, DriverInfo, Outcome, ServiceStats
from lbhealth.model import ServiceEntry, ServiceKey, Table
from lbhealth.plan import Op, OpKind, apply_one

__all__ = ["MemoryDriver"]


class MemoryDriver:
    """A data plane without a kernel; `table` is what it holds at first (copied)."""

    name: ClassVar[str] = "memory"
    shared: ClassVar[bool] = False

    def __init__(self, table: Table | None = None) -> None:
        self._table = _copy(table or {})

    @property
    def table(self) -> Table:
        """What the table holds now: a live view that cannot be written."""
        return MappingProxyType(self._table)

    async def probe(self) -> DriverInfo:
        """Say that it is there; it always is."""
        return DriverInfo("memory", "a table in this process, no kernel")

    async def dump(self, services: Collection[ServiceKey] | None = None) -> Table:
        """Copy the table, or only `services`."""
        if services is None:
            return _copy(self._table)
        return _copy({key: self._table[key] for key in services if key in self._table})

    async def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do the operations in order; a row of a missing service is refused, as in the kernel."""
        return [self._apply_one(op) for op in ops]

    def _apply_one(self, op: Op) -> Outcome:
        if op.destination is not None and op.service.key not in self._table:
            if op.kind is OpKind.DELETE_DESTINATION:
                return Outcome(op)
            return Outcome(op, f"{op.service.key} {op.destination.name}: there is no such service")
        apply_one(self._table, op)
        return Outcome(op)

    async def stats(self) -> Mapping[ServiceKey, ServiceStats]:
        """Zeros for every service and row: no packet passes here."""
        return {
            key: ServiceStats(0, 0, 0, 0, 0, dict.fromkeys(entry.destinations, DestinationStats()))
            for key, entry in self._table.items()
        }

    async def aclose(self) -> None:
        """Nothing to free; the table stays."""


def _copy(table: Table) -> dict[ServiceKey, ServiceEntry]:
    return {
        key: ServiceEntry(entry.service, dict(entry.destinations)) for key, entry in table.items()
    }
