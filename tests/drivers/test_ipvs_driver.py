"""IpvsDriver against a kernel played by the test: what it does when things go wrong."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from lbhealth.drivers import ipvs_codec as codec
from lbhealth.drivers import netlink
from lbhealth.drivers.base import Driver
from lbhealth.drivers.ipvs import IpvsDriver
from lbhealth.drivers.ipvs_uapi import Query, Top
from lbhealth.drivers.netlink import Message, attribute
from lbhealth.drivers.verbs import Verb
from lbhealth.errors import DriverError, DriverPermissionError, DriverUnavailable
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    ServiceEntry,
    ServiceKey,
    Table,
    TransportProtocol,
)
from lbhealth.plan import Op, OpKind

WEB = KernelService(InetKey(TransportProtocol.TCP, "192.0.2.10", 80), "wrr")
MARK = KernelService(FwmarkKey(5, socket.AF_INET6), "rr", netmask=128)
FIRST = Destination("10.0.0.1", 80, Forwarding.MASQ, 1)
SECOND = Destination("10.0.0.2", 80, Forwarding.MASQ, 1)


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


class FaultySocket(socket.socket):
    """The driver's end; raises each of `faults` once in place of receiving."""

    faults: list[OSError]

    def recvfrom_into(self, *args: object) -> tuple[int, object]:
        if self.faults:
            raise self.faults.pop(0)
        return super().recvfrom_into(*args)  # type: ignore[arg-type]


@dataclass
class FakeKernel:
    """The table semantics of ip_vs_ctl.c behind a datagram socket."""

    family: int | None = 28
    table: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    privileged: bool = True
    silent: bool = False
    repeat_rows: bool = False
    dump_error: int = 0
    unanswered: set[int] = field(default_factory=set)
    words: bytes = b""
    garbage: list[bytes] = field(default_factory=list)
    faults: list[OSError] = field(default_factory=list)
    opened: int = 0
    commands: list[int] = field(default_factory=list)

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.opened += 1
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self.serve, ours)
        self.ends.append(ours)
        made = FaultySocket(fileno=theirs.detach())
        made.faults = self.faults
        return made

    def __post_init__(self) -> None:
        self.ends: list[socket.socket] = []

    def close(self) -> None:
        for end in self.ends:
            asyncio.get_running_loop().remove_reader(end)
            end.close()

    def serve(self, end: socket.socket) -> None:
        try:
            data = end.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(end)
            return
        if self.silent:
            return
        while self.garbage:
            end.send(self.garbage.pop(0))
        for message in netlink.messages(data):
            for answer in self.answers(message):
                end.send(answer)

    def answers(self, message: Message) -> list[bytes]:
        if message.kind == netlink.NLMSG_NOOP:
            return [self.error(message, 0)]
        if message.kind == 16:
            if self.family is None:
                return [self.error(message, errno.ENOENT)]
            return [self.reply(message, 1, attribute(1, struct.pack("=H", self.family)))]
        if message.kind != self.family:
            return [self.error(message, errno.ENOENT)]
        command = message.payload[0]
        self.commands.append(command)
        if command in self.unanswered:
            return []
        if not self.privileged:
            return [self.error(message, errno.EPERM)]
        return self.handle(message, command)

    def handle(self, message: Message, command: int) -> list[bytes]:
        attrs = netlink.generic(message)
        svc = codec.service_attributes(attrs)
        key = codec._decode_key(svc) if svc else None
        if message.flags & netlink.NLM_F_DUMP:
            return self.dump(message, command, key)
        if command == Query.GET_INFO:
            body = attribute(1, u32(0x010201)) + attribute(2, u32(4096))
            return [self.reply(message, 14, body)]
        if command == Query.GET_CONFIG:
            body = b"".join(attribute(n, u32(n * 100)) for n in (4, 5, 6))
            return [self.reply(message, 12, body)]
        if command == Query.ZERO:
            return [self.error(message, errno.ESRCH)] if key and key not in self.table else []
        if command == Query.GET_SERVICE:
            if key not in self.table:
                return [self.error(message, errno.ESRCH)]
            return [self.reply(message, 1, codec.encode_service(self.table[key].service))]
        code = self.change(Verb(command), key, attrs, svc)
        return [self.error(message, code)] if code else []

    def change(
        self, verb: Verb, key: ServiceKey | None, attrs: netlink.Attributes, svc: dict[int, bytes]
    ) -> int:
        assert key is not None
        entry = self.table.get(key)
        if verb is Verb.NEW_SERVICE and entry:
            return errno.EEXIST
        if verb is not Verb.NEW_SERVICE and entry is None:
            return errno.ESRCH
        if verb in (Verb.NEW_SERVICE, Verb.SET_SERVICE):
            service = codec.decode_service(svc)
            assert service
            if service.scheduler == "nosuch":
                return errno.ENOENT
            self.table[key] = ServiceEntry(service, entry.destinations if entry else {})
            return 0
        if verb is Verb.DEL_SERVICE:
            del self.table[key]
            return 0
        assert entry is not None
        assert isinstance(entry.destinations, dict)
        dst = codec.destination_attributes(attrs)
        if verb is Verb.DEL_DEST:
            place = (codec._unpack_address(dst[1], key.family), int.from_bytes(dst[2], "big"))
            return 0 if entry.destinations.pop(place, None) else errno.ENOENT
        row = codec.decode_destination(dst, key.family)
        if row.address.startswith("224."):
            return errno.EINVAL
        if (verb is Verb.NEW_DEST) == (row.key in entry.destinations):
            return errno.EEXIST if verb is Verb.NEW_DEST else errno.ENOENT
        entry.destinations[row.key] = row
        return 0

    def dump(self, message: Message, command: int, key: ServiceKey | None) -> list[bytes]:
        if self.dump_error:
            return [self.error(message, self.dump_error)]
        if command == Query.GET_SERVICE:
            bodies = [codec.encode_service(entry.service) for entry in self.table.values()]
        else:
            rows = self.table[key].destinations.values() if key in self.table else ()
            bodies = [codec.encode_destination(row) for row in rows]
            bodies *= 2 if self.repeat_rows else 1
        done = struct.pack("=IHHIIi", 20, netlink.NLMSG_DONE, 2, message.sequence, 0, 0)
        parts = [self.reply(message, 1, body) for body in bodies]
        pages = [b"".join(parts[n : n + 20]) for n in range(0, len(parts), 20)]
        return [*pages, done]

    def reply(self, message: Message, command: int, body: bytes) -> bytes:
        return netlink.request(message.kind, command, 0, message.sequence, body)

    def error(self, message: Message, code: int) -> bytes:
        flags = netlink.NLM_F_CAPPED
        tail = b""
        if code and self.words:
            flags |= netlink.NLM_F_ACK_TLVS
            tail = attribute(1, self.words + b"\0")
        body = struct.pack("=i", -code) + bytes(16) + tail
        head = struct.pack(
            "=IHHII", 16 + len(body), netlink.NLMSG_ERROR, flags, message.sequence, 0
        )
        return head + body


@pytest.fixture
async def kernel() -> AsyncIterator[FakeKernel]:
    made = FakeKernel()
    yield made
    made.close()


@pytest.fixture
async def driver(kernel: FakeKernel) -> AsyncIterator[IpvsDriver]:
    made = IpvsDriver(timeout=0.2, opener=kernel.open)
    yield made
    await made.aclose()


def table_of(*entries: tuple[KernelService, list[Destination]]) -> Table:
    return {s.key: ServiceEntry(s, {r.key: r for r in rows}) for s, rows in entries}


def fill(kernel: FakeKernel, *entries: tuple[KernelService, list[Destination]]) -> None:
    kernel.table.update(table_of(*entries))


async def errors(driver: Driver, *ops: Op) -> list[str | None]:
    return [outcome.error for outcome in await driver.apply(ops)]


async def test_a_round_trip(driver: IpvsDriver, kernel: FakeKernel) -> None:
    ops = [
        Op(OpKind.ADD_SERVICE, WEB),
        Op(OpKind.ADD_SERVICE, MARK),
        *(Op(OpKind.ADD_DESTINATION, WEB, row) for row in (FIRST, SECOND)),
        Op(OpKind.LOWER_DESTINATION, WEB, replace(FIRST, weight=0)),
        Op(OpKind.DELETE_DESTINATION, WEB, SECOND),
    ]
    assert await errors(driver, *ops) == [None] * len(ops)
    expected = table_of((WEB, [replace(FIRST, weight=0)]), (MARK, []))
    assert await driver.dump() == expected == kernel.table
    assert kernel.opened == 1


async def test_it_is_a_driver(driver: IpvsDriver) -> None:
    assert isinstance(driver, Driver)
    info = await driver.probe()
    assert (info.version, info.detail) == ("IPVS 1.2.1", "4096 connection buckets")
    timeouts = await driver.timeouts()
    assert (timeouts.tcp, timeouts.tcp_fin, timeouts.udp) == (400, 500, 600)


async def test_zero(driver: IpvsDriver, kernel: FakeKernel) -> None:
    fill(kernel, (WEB, []))
    await driver.zero()
    await driver.zero(WEB.key)
    with pytest.raises(DriverError, match="no such virtual service"):
        await driver.zero(MARK.key)


async def test_stats_name_every_row(driver: IpvsDriver, kernel: FakeKernel) -> None:
    fill(kernel, (WEB, [FIRST, SECOND]), (MARK, []))
    stats = await driver.stats()
    assert set(stats) == {WEB.key, MARK.key}
    assert set(stats[WEB.key].destinations) == {FIRST.key, SECOND.key}


async def test_a_part_of_the_table(driver: IpvsDriver, kernel: FakeKernel) -> None:
    fill(kernel, (WEB, [FIRST]), (MARK, []))
    assert await driver.dump([WEB.key, FwmarkKey(6)]) == table_of((WEB, [FIRST]))
    assert await driver.dump([]) == {}


async def test_rows_that_a_dump_repeats_count_once(driver: IpvsDriver, kernel: FakeKernel) -> None:
    kernel.repeat_rows = True
    fill(kernel, (WEB, [FIRST, SECOND]))
    assert await driver.dump() == table_of((WEB, [FIRST, SECOND]))


async def test_a_whole_service_is_healed_in_one_batch(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    """Service and rows were deleted by somebody else: edits become additions, in order."""
    ops = [Op(OpKind.EDIT_SERVICE, WEB), Op(OpKind.RAISE_DESTINATION, WEB, FIRST)]
    assert await errors(driver, *ops) == [None, None]
    assert kernel.table == table_of((WEB, [FIRST]))


async def test_a_late_retry_never_undoes_a_later_operation(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    fill(kernel, (WEB, [FIRST]))
    ops = [
        Op(OpKind.ADD_DESTINATION, WEB, FIRST),
        Op(OpKind.DELETE_DESTINATION, WEB, FIRST),
        Op(OpKind.ADD_SERVICE, WEB),
        Op(OpKind.DELETE_SERVICE, WEB),
    ]
    assert await errors(driver, *ops) == [None] * 4
    assert kernel.table == {}


async def test_refusals_name_the_row_and_the_kernels_words(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    kernel.words = b"not unicast"
    fill(kernel, (WEB, []))
    bad = replace(FIRST, address="224.0.0.1")
    first, second, third = await errors(
        driver,
        Op(OpKind.ADD_DESTINATION, WEB, bad),
        Op(OpKind.ADD_DESTINATION, MARK, replace(FIRST, address="2001:db8::1")),
        Op(OpKind.ADD_DESTINATION, WEB, FIRST),
    )
    assert first is not None
    assert first.startswith("tcp:192.0.2.10:80 224.0.0.1:80: the kernel does not take this row")
    assert first.endswith("(not unicast)")
    assert second is not None
    assert "there is no virtual service fwm6:5" in second
    assert third is None


async def test_an_unknown_scheduler(driver: IpvsDriver) -> None:
    (error,) = await errors(driver, Op(OpKind.ADD_SERVICE, replace(WEB, scheduler="nosuch")))
    assert error == ("tcp:192.0.2.10:80: unknown scheduler 'nosuch' (kernel module ip_vs_nosuch)")


async def test_what_cannot_be_encoded_stops_nothing_else(driver: IpvsDriver) -> None:
    first, second = await errors(
        driver,
        Op(OpKind.ADD_SERVICE, replace(WEB, flags=("bogus",))),
        Op(OpKind.ADD_SERVICE, MARK),
    )
    assert first is not None
    assert "bogus" in first
    assert second is None


async def test_no_family_no_ipvs(driver: IpvsDriver, kernel: FakeKernel) -> None:
    kernel.family = None
    with pytest.raises(DriverUnavailable, match="modprobe ip_vs"):
        await driver.probe()
    kernel.family = 30  # loaded by somebody
    await driver.probe()


async def test_no_privilege(driver: IpvsDriver, kernel: FakeKernel) -> None:
    kernel.privileged = False
    for call in (
        driver.probe(),
        driver.dump(),
        driver.dump([WEB.key]),
        driver.apply([Op(OpKind.ADD_SERVICE, WEB)]),
    ):
        with pytest.raises(DriverPermissionError, match="CAP_NET_ADMIN"):
            await call


async def test_ipvs_reloaded_under_another_number(driver: IpvsDriver, kernel: FakeKernel) -> None:
    await driver.probe()
    for number, call in enumerate(
        (driver.dump, driver.dump, driver.zero, driver.timeouts, driver.stats), 29
    ):
        kernel.family = number
        await call()
    kernel.family = 40
    ops = [Op(OpKind.EDIT_SERVICE, WEB), Op(OpKind.LOWER_DESTINATION, WEB, FIRST)]
    assert await errors(driver, *ops) == [None, None]
    assert kernel.table == table_of((WEB, [FIRST]))
    kernel.family = 41
    assert await driver.dump([WEB.key]) == kernel.table
    kernel.family = None
    with pytest.raises(DriverUnavailable, match="modprobe ip_vs"):
        await driver.dump()


async def test_silence_ends_in_time_and_the_next_call_starts_anew(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    await driver.probe()
    kernel.silent = True
    for call in (driver.dump, driver.probe, driver.stats):
        started = asyncio.get_running_loop().time()
        with pytest.raises(DriverUnavailable, match=r"no answer from the kernel within 0\.2 s"):
            await call()
        assert asyncio.get_running_loop().time() - started < 2
    kernel.silent = False
    assert await driver.dump() == {}
    assert kernel.opened == 4


async def test_a_request_that_the_kernel_never_answers_holds_up_nothing(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    """For some results (EINTR) the kernel sends neither acknowledgement nor error."""
    fill(kernel, (WEB, []))
    kernel.unanswered = {Verb.SET_SERVICE, Query.GET_INFO}
    assert await errors(driver, Op(OpKind.EDIT_SERVICE, WEB)) == [None]
    with pytest.raises(DriverError, match="not answered"):
        await driver.probe()
    assert kernel.opened == 1


async def test_lost_answers_are_asked_for_again_once(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    fill(kernel, (WEB, [FIRST]))
    await driver.probe()
    kernel.faults.append(OSError(errno.ENOBUFS, "No buffer space available"))
    assert await driver.dump() == kernel.table
    kernel.faults.append(OSError(errno.ENOBUFS, "No buffer space available"))
    assert await errors(driver, Op(OpKind.ADD_DESTINATION, WEB, SECOND)) == [None]
    assert set(kernel.table[WEB.key].destinations) == {FIRST.key, SECOND.key}
    kernel.faults.extend(OSError(errno.ENOBUFS, "No buffer space available") for _ in range(2))
    with pytest.raises(DriverUnavailable, match="lost"):
        await driver.dump()
    assert await driver.dump() == kernel.table


async def test_a_broken_socket_is_replaced(driver: IpvsDriver, kernel: FakeKernel) -> None:
    await driver.probe()
    kernel.faults.append(OSError(errno.ECONNRESET, "Connection reset"))
    with pytest.raises(DriverUnavailable, match="Connection reset"):
        await driver.dump()
    assert await driver.dump() == {}


@pytest.mark.parametrize("garbage", [b"x", b"\xff" * 40, bytes(16), b"\x14\0\0\0" + bytes(10)])
async def test_garbage_is_a_driver_error_and_no_more(
    driver: IpvsDriver, kernel: FakeKernel, garbage: bytes
) -> None:
    await driver.probe()
    kernel.garbage.append(garbage)
    with pytest.raises(DriverError):
        await driver.dump()
    assert await driver.dump() == {}


async def test_answers_to_nothing_are_passed_over(driver: IpvsDriver, kernel: FakeKernel) -> None:
    fill(kernel, (WEB, [FIRST]))
    await driver.probe()
    kernel.garbage.append(netlink.request(28, 1, 0, 0x7FFFFFFF, attribute(Top.SERVICE, b"")))
    assert await driver.dump() == kernel.table
    kernel.garbage.append(netlink.request(28, 1, 0, 0x7FFFFFFF, attribute(Top.SERVICE, b"")))
    assert await driver.dump([WEB.key]) == kernel.table


async def test_a_dump_that_is_refused(driver: IpvsDriver, kernel: FakeKernel) -> None:
    kernel.dump_error = errno.EBUSY
    with pytest.raises(DriverError, match="EBUSY"):
        await driver.dump()
    kernel.dump_error = errno.EINVAL  # could be a reload, but the number is the same
    with pytest.raises(DriverError, match="EINVAL"):
        await driver.dump()


async def test_a_cancelled_call_leaves_nothing_behind(
    driver: IpvsDriver, kernel: FakeKernel
) -> None:
    fill(kernel, (WEB, [FIRST]))
    await driver.probe()
    kernel.silent = True
    task = asyncio.create_task(driver.dump())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kernel.silent = False
    assert await driver.dump() == kernel.table


async def test_calls_at_the_same_time_take_turns(driver: IpvsDriver, kernel: FakeKernel) -> None:
    fill(kernel, (WEB, [FIRST]))
    found = await asyncio.gather(*(driver.dump() for _ in range(5)), driver.stats())
    assert found[:5] == [kernel.table] * 5


async def test_long_lists_of_operations(driver: IpvsDriver, kernel: FakeKernel) -> None:
    rows = [replace(FIRST, address=f"10.1.{n // 200}.{n % 200 + 1}") for n in range(500)]
    ops = [Op(OpKind.ADD_SERVICE, WEB), *(Op(OpKind.ADD_DESTINATION, WEB, r) for r in rows)]
    assert set(await errors(driver, *ops)) == {None}
    assert await driver.dump() == table_of((WEB, rows))


async def test_the_kernel_of_this_machine_answers_or_refuses_in_words() -> None:
    driver = IpvsDriver()
    try:
        await driver.probe()
    except DriverError as error:
        assert error.remedy  # noqa: PT017 - either end is right
    finally:
        await driver.aclose()
