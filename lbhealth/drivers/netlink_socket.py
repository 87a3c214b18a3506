"""The conversation with the kernel: an AF_NETLINK socket in the running asyncio loop.

One conversation at a time, on one non-blocking socket.  Every wait for the kernel ends: after
`timeout` seconds of silence the socket is closed, the caller gets `DriverUnavailable`, and
the next conversation opens a new one.  The same happens when a conversation is broken off, so
that late answers and half-read dumps never meet the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lbhealth.drivers import netlink
from lbhealth.drivers.netlink import Attributes, Message, NetlinkFormatError, Status
from lbhealth.errors import DriverPermissionError, DriverUnavailable

__all__ = ["NetlinkSocket", "Overrun", "Refused", "Reply", "open_socket"]

NETLINK_GENERIC: Final = 16
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11

RECEIVE_SIZE: Final = 65536
"""Bytes of the receive buffer; a dump comes in datagrams of 32 KiB at most."""

SEQUENCE_MASK: Final = 0xFFFFFFFF

BURST_MIN: Final = 8
BURST_MAX: Final = 100
BURST_SECONDS: Final = 0.004
"""The kernel works within the send, while the loop stands still: a burst is as many requests
as it did in this time at the last burst.  A row of a service with thousands of them takes ten
times as long as others, because the kernel walks a list."""


class Overrun(Exception):
    """The kernel dropped answers because the socket's buffer was full (ENOBUFS)."""


class Refused(Exception):
    """The kernel refused to list something; `status` says why."""

    def __init__(self, status: Status) -> None:
        self.status = status
        super().__init__(status)


@dataclass(slots=True)
class Reply:
    """What became of one request: its status and the attributes of each answer."""

    status: Status = field(default_factory=lambda: Status(0))
    answers: list[Attributes] = field(default_factory=list)


def open_socket() -> socket.socket:
    """Open a generic netlink socket in the network namespace of this thread."""
    try:
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC
        )
    except OSError as error:
        kind = DriverPermissionError if error.errno == errno.EPERM else DriverUnavailable
        raise kind(
            f"cannot open a generic netlink socket: {error.strerror}",
            remedy="allow the address family AF_NETLINK (systemd: RestrictAddressFamilies=)",
        ) from error
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
        with contextlib.suppress(OSError):  # kernels before 4.3 and 4.12; both are comforts
            sock.setsockopt(SOL_NETLINK, option, 1)
    sock.bind((0, 0))
    return sock


class NetlinkSocket:
    """A socket that opens itself; `timeout` is seconds of silence that are borne."""

    def __init__(
        self, timeout: float = 2.0, opener: Callable[[], socket.socket] = open_socket
    ) -> None:
        self._timeout = timeout
        self._opener = opener
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._burst = BURST_MAX
        self._buffer = bytearray(RECEIVE_SIZE)
        self._lock = asyncio.Lock()

    def close(self) -> None:
        """Close the socket; the next conversation opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def converse(self, family: int, requests: Sequence[tuple[int, bytes]]) -> list[Reply]:
        """Send requests (command, attributes) in order and collect what becomes of each.

        Refusals and answers carry the sequence number of their request; what comes without
        either is done.
        """
        replies: list[Reply] = []
        async with self._conversation():
            while len(replies) < len(requests):
                some = requests[len(replies) : len(replies) + self._burst]
                replies += await self._exchange(family, some)
        return replies

    async def _exchange(self, family: int, requests: Sequence[tuple[int, bytes]]) -> list[Reply]:
        """Send a burst and read up to the acknowledgement of the barrier behind it."""
        count = len(requests)
        first = self._take(count + 1)
        parts = [
            netlink.request(family, command, 0, (first + n) & SEQUENCE_MASK, payload)
            for n, (command, payload) in enumerate(requests)
        ]
        started = time.perf_counter()
        self._send(b"".join(parts) + netlink.barrier((first + count) & SEQUENCE_MASK))
        per_request = (time.perf_counter() - started) / count
        self._burst = max(BURST_MIN, min(BURST_MAX, int(BURST_SECONDS / per_request)))
        replies = [Reply() for _ in requests]
        while True:
            for message in await self._receive():
                index = (message.sequence - first) & SEQUENCE_MASK
                if index == count:
                    return replies
                if index > count:
                    continue  # an answer to nothing that was asked here
                if message.kind == netlink.NLMSG_ERROR:
                    replies[index].status = netlink.status(message)
                elif message.kind > netlink.NLMSG_DONE:
                    replies[index].answers.append(netlink.generic(message))

    async def dump(
        self, family: int, command: int, payload: bytes, take: Callable[[Attributes], None]
    ) -> None:
        """Hand what the kernel lists to `take`, entry by entry; Refused when it does not.

        The loop does its other work between two datagrams, which hold some eighty rows each.
        """
        async with self._conversation():
            sequence = self._take(1)
            self._send(netlink.request(family, command, netlink.NLM_F_DUMP, sequence, payload))
            while True:
                for message in await self._receive():
                    if message.sequence != sequence:
                        continue
                    if message.kind in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                        status = netlink.status(message)
                        if status.code:
                            raise Refused(status)
                        return
                    if message.kind > netlink.NLMSG_DONE:
                        take(netlink.generic(message))

    @contextlib.asynccontextmanager
    async def _conversation(self) -> AsyncIterator[None]:
        async with self._lock:
            try:
                yield
            except BaseException:  # also when cancelled: answers may still be under way
                self.close()
                raise

    def _take(self, count: int) -> int:
        first = self._sequence
        self._sequence = (first + count) & SEQUENCE_MASK
        return first

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = self._opener()
            self._socket.setblocking(False)
        try:
            self._socket.send(data)
        except OSError as error:
            raise DriverUnavailable(f"netlink: cannot send: {error.strerror}") from error

    async def _receive(self) -> list[Message]:
        """The messages of one datagram, after the loop had its turn."""
        await asyncio.sleep(0)
        assert self._socket is not None
        while True:
            try:
                size, sender = self._socket.recvfrom_into(
                    self._buffer, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC
                )
            except BlockingIOError:
                await self._readable(self._socket)
                continue
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from error
                raise DriverUnavailable(f"netlink: cannot receive: {error.strerror}") from error
            if isinstance(sender, tuple) and sender[0] != 0:
                continue  # not from the kernel
            if size == 0:
                raise DriverUnavailable("netlink: the other end is closed")
            if size > RECEIVE_SIZE:
                raise NetlinkFormatError(f"netlink datagram of {size} bytes")
            return list(netlink.messages(bytes(memoryview(self._buffer)[:size])))

    async def _readable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(sock, wake)
        try:
            async with asyncio.timeout(self._timeout):
                await ready
        except TimeoutError:
            raise DriverUnavailable(
                f"netlink: no answer from the kernel within {self._timeout:g} s"
            ) from None
        finally:
            loop.remove_reader(sock)
