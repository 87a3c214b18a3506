"""The kernel's IPVS by generic netlink: the driver to use.

Up to a hundred changes go out in one send, with one acknowledgement; a table comes in datagrams of
some eighty rows, between which the loop does its other work.  Every command, reading too,
needs CAP_NET_ADMIN in the initial user namespace (GENL_ADMIN_PERM).  The table is that of the
network namespace in which the socket is opened.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import ClassVar, Final, TypeAlias, TypeVar

from lbhealth.drivers.base import DestinationStats, DriverInfo, Outcome, ServiceStats
from lbhealth.drivers.ipvs_codec import (
    decode_destination,
    decode_service,
    destination_attributes,
    encode_key,
    encode_op,
    service_attributes,
)
from lbhealth.drivers.ipvs_report import (
    Counters,
    Info,
    Timeouts,
    decode_counters,
    decode_destination_stats,
    decode_family,
    decode_info,
    decode_timeouts,
    encode_family_query,
)
from lbhealth.drivers.ipvs_uapi import Query
from lbhealth.drivers.netlink import Attributes, NetlinkFormatError, Status
from lbhealth.drivers.netlink_socket import NetlinkSocket, Overrun, Refused, Reply, open_socket
from lbhealth.drivers.verbs import (
    ATTEMPTS,
    Verb,
    batches,
    first_verb,
    is_done,
    next_verb,
    refusal,
    subject,
)
from lbhealth.errors import DriverError, DriverPermissionError, DriverUnavailable
from lbhealth.model import (
    Destination,
    DestinationKey,
    KernelService,
    ServiceEntry,
    ServiceKey,
    Table,
)
from lbhealth.plan import Op

__all__ = ["IpvsDriver"]

BATCH: Final = 200
"""Operations that are encoded before the loop does its other work."""

NLCTRL: Final = 16
CTRL_GETFAMILY: Final = 3

STALE: Final = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})
"""What the kernel may answer when IPVS was reloaded and its family has another number now."""

T = TypeVar("T")
Take: TypeAlias = Callable[[Attributes], None]


class IpvsDriver:
    """IPVS in this network namespace; `timeout` is seconds of silence that are borne."""

    name: ClassVar[str] = "ipvs"
    shared: ClassVar[bool] = True

    def __init__(
        self, *, timeout: float = 2.0, opener: Callable[[], socket.socket] = open_socket
    ) -> None:
        self._netlink = NetlinkSocket(timeout, opener)
        self._family: int | None = None

    # ------------------------------------------------------------------ the Driver protocol

    async def probe(self) -> DriverInfo:
        """Look IPVS up (which loads its module where that is possible) and ask its version."""
        info = await self.info()
        return DriverInfo(f"IPVS {info.version}", f"{info.buckets} connection buckets")

    async def dump(self, services: Collection[ServiceKey] | None = None) -> Table:
        """Read the table, or only `services`.

        The kernel pages through its table by a running index, so that a change by somebody
        else between two pages repeats or skips an entry: repeated ones count once.
        """
        return await self._persist(lambda: self._read_table(services))

    async def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do the operations in order, many in one send."""
        outcomes: list[Outcome] = []
        for batch in batches(ops, BATCH):
            outcomes += await self._apply_batch(batch)
        return outcomes

    async def stats(self) -> Mapping[ServiceKey, ServiceStats]:
        """Read the counters of all services and rows; the kernel sums them every 2 seconds."""
        return await self._persist(self._read_stats)

    async def aclose(self) -> None:
        """Close the socket; the table stays as it is."""
        self._netlink.close()

    # ------------------------------------------------------------------ more than the protocol

    async def info(self) -> Info:
        """IPVS version and size of the connection table."""
        return decode_info(await self._ask(Query.GET_INFO))

    async def timeouts(self) -> Timeouts:
        """The connection time-outs that ipvsadm's --set changes."""
        return decode_timeouts(await self._ask(Query.GET_CONFIG))

    async def zero(self, key: ServiceKey | None = None) -> None:
        """Zero the counters of one service and its rows, or of all."""
        await self._ask(Query.ZERO, b"" if key is None else encode_key(key))

    # ------------------------------------------------------------------ reading

    async def _read_table(self, wanted: Collection[ServiceKey] | None) -> Table:
        table: dict[ServiceKey, ServiceEntry] = {}
        for service, _ in await self._read_services(wanted):
            table[service.key] = ServiceEntry(service, await self._read_rows(service.key))
        return table

    async def _read_rows(self, key: ServiceKey) -> dict[DestinationKey, Destination]:
        rows: dict[DestinationKey, Destination] = {}

        def take(attrs: Attributes) -> None:
            row = decode_destination(destination_attributes(attrs), key.family)
            rows[row.key] = row

        await self._list(Query.GET_DEST, encode_key(key), take)
        return rows

    async def _read_stats(self) -> dict[ServiceKey, ServiceStats]:
        found: dict[ServiceKey, ServiceStats] = {}
        for service, counters in await self._read_services(None):
            found[service.key] = ServiceStats(
                connections=counters.connections,
                packets_in=counters.packets_in,
                packets_out=counters.packets_out,
                bytes_in=counters.bytes_in,
                bytes_out=counters.bytes_out,
                destinations=await self._read_row_stats(service.key),
            )
        return found

    async def _read_row_stats(self, key: ServiceKey) -> dict[DestinationKey, DestinationStats]:
        rows: dict[DestinationKey, DestinationStats] = {}

        def take(attrs: Attributes) -> None:
            nest = destination_attributes(attrs)
            rows[decode_destination(nest, key.family).key] = decode_destination_stats(nest)

        await self._list(Query.GET_DEST, encode_key(key), take)
        return rows

    async def _read_services(
        self, wanted: Collection[ServiceKey] | None
    ) -> list[tuple[KernelService, Counters]]:
        """All services, or those of `wanted` that exist, each once."""
        found: dict[ServiceKey, tuple[KernelService, Counters]] = {}

        def take(attrs: Attributes) -> None:
            nest = service_attributes(attrs)
            service = decode_service(nest)
            if service is not None:
                found[service.key] = (service, decode_counters(nest, service=True))

        if wanted is None:
            await self._list(Query.GET_SERVICE, b"", take)
        else:
            await self._look_up(wanted, take)
        return list(found.values())

    async def _look_up(self, keys: Collection[ServiceKey], take: Take) -> None:
        """Ask for services one by one and leave out those that do not exist.

        Listing the rows of a missing service gives an empty list and no error, so that this
        is the way to tell "no rows" from "no service".
        """
        queries = [(Query.GET_SERVICE, encode_key(key)) for key in keys]
        for start in range(0, len(queries), BATCH):
            for reply in await self._converse(queries[start : start + BATCH]):
                if reply.status.code not in (0, errno.ESRCH):
                    raise Refused(reply.status)
                for attrs in reply.answers:
                    take(attrs)

    async def _list(self, command: int, payload: bytes, take: Take) -> None:
        await self._netlink.dump(await self._family_number(), command, payload, take)

    async def _ask(self, command: int, payload: bytes = b"") -> Attributes:
        """Send one request and return the attributes of its answer; ZERO has none."""

        async def attempt() -> Attributes:
            (reply,) = await self._converse([(command, payload)])
            if reply.status.code:
                raise Refused(reply.status)
            if not reply.answers and command != Query.ZERO:
                raise NetlinkFormatError(f"IPVS command {command} was not answered")
            return reply.answers[0] if reply.answers else {}

        return await self._persist(attempt)

    # ------------------------------------------------------------------ writing

    async def _apply_batch(self, batch: Sequence[Op]) -> list[Outcome]:
        """Send a batch, then what is to be tried in another way, in the same order."""
        errors: dict[int, str] = {}
        payloads: dict[int, bytes] = {}
        for index, op in enumerate(batch):
            try:
                payloads[index] = encode_op(op)
            except NetlinkFormatError as error:
                errors[index] = f"{subject(op)}: {error}"
        pending = {index: first_verb(batch[index]) for index in payloads}
        for _ in range(ATTEMPTS):
            if not pending:
                break
            requests = [(int(verb), payloads[index]) for index, verb in pending.items()]
            statuses = await self._persist(partial(self._send, requests))
            again: dict[int, Verb] = {}
            for (index, verb), status in zip(pending.items(), statuses, strict=True):
                if is_done(verb, status.code):
                    errors.pop(index, None)
                    continue
                errors[index] = refusal(batch[index], status.code, status.text)
                following = next_verb(verb, status.code)
                if following is not None:
                    again[index] = following
            pending = again
        return [Outcome(op, errors.get(index)) for index, op in enumerate(batch)]

    async def _send(self, requests: Sequence[tuple[int, bytes]]) -> list[Status]:
        """Send changes; again if they were sent to the number of an IPVS that is gone."""
        statuses = [reply.status for reply in await self._converse(requests)]
        codes = {status.code for status in statuses}
        if codes & STALE and await self._family_changed():
            statuses = [reply.status for reply in await self._converse(requests)]
        for status in statuses:
            if status.code == errno.EPERM:
                raise Refused(status)
        return statuses

    # ------------------------------------------------------------------ the family

    async def _converse(self, requests: Sequence[tuple[int, bytes]]) -> list[Reply]:
        return await self._netlink.converse(await self._family_number(), requests)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do what can be repeated: once more after lost answers or a reload of IPVS."""
        for left in (1, 0):
            try:
                return await attempt()
            except Overrun as overrun:
                if not left:
                    raise DriverUnavailable("netlink: the kernel's answers got lost") from overrun
            except Refused as refused:
                stale = left and refused.status.code in STALE and await self._family_changed()
                if not stale:
                    raise _error(refused.status) from refused
        raise AssertionError("unreachable")

    async def _family_number(self) -> int:
        """The family's number, which the kernel gives out when IPVS is loaded."""
        if self._family is None:
            (reply,) = await self._netlink.converse(
                NLCTRL, [(CTRL_GETFAMILY, encode_family_query())]
            )
            if reply.status.code == errno.ENOENT:
                raise DriverUnavailable(
                    "this kernel has no IPVS", remedy="load its module: modprobe ip_vs"
                )
            if reply.status.code or not reply.answers:
                raise _error(reply.status)
            self._family = decode_family(reply.answers[0])
        return self._family

    async def _family_changed(self) -> bool:
        """Look the family up anew and say whether it has another number now."""
        before, self._family = self._family, None
        return await self._family_number() != before


def _error(status: Status) -> DriverError:
    """The exception for a refusal that is not about one operation."""
    words = status.text or os.strerror(status.code)
    if status.code == errno.EPERM:
        return DriverPermissionError(
            f"IPVS: {words}",
            remedy="run as root, or with CAP_NET_ADMIN in the initial user namespace "
            "(systemd: AmbientCapabilities=CAP_NET_ADMIN)",
        )
    if status.code == errno.ESRCH:
        return DriverError("IPVS: there is no such virtual service")
    return DriverError(f"IPVS: {words} ({errno.errorcode.get(status.code, status.code)})")
