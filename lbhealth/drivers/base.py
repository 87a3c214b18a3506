"""The seam between decisions and a data plane: small enough to implement in an afternoon."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from lbhealth.model import DestinationKey, ServiceKey, Table
from lbhealth.plan import Op

__all__ = ["DestinationStats", "Driver", "DriverInfo", "Outcome", "ServiceStats"]


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What `probe` found, for people: for example `IPVS 1.2.1, 4096 buckets`."""

    version: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation; `error` is None when it was done."""

    op: Op
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationStats:
    """Counters of one row since it was made or zeroed; rates are the kernel's estimates."""

    active: int = 0
    inactive: int = 0
    persistent: int = 0
    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """Counters of one service and of its rows."""

    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    destinations: Mapping[DestinationKey, DestinationStats]


@runtime_checkable
class Driver(Protocol):
    """A data plane.

    Every method may raise `DriverError` (or its kinds `DriverUnavailable` and
    `DriverPermissionError`) and must come back within a bounded time.  `shared` says that
    other programs on this host see the same table, so that writers must exclude each other.
    """

    name: ClassVar[str]
    shared: ClassVar[bool]

    async def probe(self) -> DriverInfo:
        """Find out whether the data plane is there and may be changed; changes nothing."""

    async def dump(self, services: Collection[ServiceKey] | None = None) -> Table:
        """Read the table, or only `services`.  Services that do not exist are left out."""

    async def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do the operations in order.

        One refused operation does not stop the rest.  Idempotent: adding what is there edits
        it, deleting what is gone is done, editing a row that is gone adds it.
        """

    async def stats(self) -> Mapping[ServiceKey, ServiceStats]:
        """Read the counters of all services."""

    async def aclose(self) -> None:
        """Free resources; the table stays as it is."""
