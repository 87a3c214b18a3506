"""The `ping` check: ICMP echo, IPv4 (RFC 792) and IPv6 (RFC 4443)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import errno_failure
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, family_of

__all__ = ["Ping"]

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_PAYLOAD = 56  # with the header the 64 bytes of ping(8)
_MAX_ATTEMPTS = 100
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_ICMP6_FILTER = 1  # linux/icmpv6.h
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT})
_REMEDY = (
    "ping is not allowed here: give the process CAP_NET_RAW, or put its group into "
    "net.ipv4.ping_group_range"
)


@dataclass(frozen=True, slots=True)
class Ping:
    """Passes at the first echo reply.

    `attempts` (1..100) requests are sent, each with an equal share of the check's time; the
    next one goes out only when the last was not answered.  (ldirectord: `checkcount`, each
    attempt with the whole `checktimeout`, IPv4 only.)
    """

    kind: ClassVar[str] = "ping"

    attempts: int = 1

    def __post_init__(self) -> None:
        """Refuse a number that makes no sense."""
        if not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise SettingError("attempts", f"must be 1 to {_MAX_ATTEMPTS}")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Send echo requests until one is answered."""
        loop = asyncio.get_running_loop()
        with _open(target) as sock:
            echo = _Echo(sock, target)
            for left in range(self.attempts, 0, -1):
                start = loop.time()
                share = max(0.0, ctx.deadline - start) / left
                ctx.note(">", f"echo request {echo.sequence + 1} to {target.address}")
                try:
                    async with asyncio.timeout(share if left > 1 else None):
                        await echo.exchange(loop)
                except TimeoutError:
                    ctx.note("*", f"no reply within {share:.3f} s")
                else:
                    ctx.note("<", "echo reply")
                    return Passed(Status.L4OK, f"reply after {(loop.time() - start) * 1000:.1f} ms")
        raise AssertionError("the last attempt ends by the engine's deadline only")


class _Echo:
    """The requests of one check on one connected socket."""

    def __init__(self, sock: socket.socket, target: Target) -> None:
        self.sock = sock
        self.raw = sock.type == socket.SOCK_RAW
        self.v6 = sock.family == socket.AF_INET6
        self.request, self.reply = (128, 129) if self.v6 else (8, 0)
        self.identifier = int.from_bytes(os.urandom(2))
        self.payload = os.urandom(_PAYLOAD)
        self.sequence = 0
        _connect(sock, target)

    async def exchange(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send the next request and wait for a reply to this or an earlier one."""
        self.sequence += 1
        try:
            self.sock.send(self._message())
        except OSError as error:
            raise errno_failure(error.errno or 0) from error
        while True:
            try:
                data = await loop.sock_recv(self.sock, 2048)
            except OSError as error:
                # A router's or the host's ICMP error, whatever the same errno means locally.
                what = os.strerror(error.errno or 0).lower()
                raise CheckFailed(Status.L4CON, f"ICMP: {what}") from error
            if self._answers(data):
                return

    def _message(self) -> bytes:
        head = _HEADER.pack(self.request, 0, 0, self.identifier, self.sequence)
        if self.v6:  # the kernel fills in the checksum, which covers its choice of source
            return head + self.payload
        total = _checksum(head + self.payload)
        return _HEADER.pack(self.request, 0, total, self.identifier, self.sequence) + self.payload

    def _answers(self, data: bytes) -> bool:
        if self.raw and not self.v6:  # comes with the IPv4 header
            data = data[(data[0] & 15) * 4 :] if data else b""
        if len(data) != _HEADER.size + _PAYLOAD:
            return False
        kind, code, _, identifier, sequence = _HEADER.unpack_from(data)
        return (
            (kind, code) == (self.reply, 0)
            # The kernel puts its own identifier into what a datagram socket sends.
            and (not self.raw or identifier == self.identifier)
            and 1 <= sequence <= self.sequence
            and data[_HEADER.size :] == self.payload
        )


def _open(target: Target) -> socket.socket:
    protocol = socket.IPPROTO_ICMPV6 if ":" in target.address else socket.IPPROTO_ICMP
    try:
        return open_socket(target, socket.SOCK_DGRAM, protocol)
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise errno_failure(error.errno or 0) from error
    try:
        return open_socket(target, socket.SOCK_RAW, protocol)
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise errno_failure(error.errno or 0) from error
        raise CheckError(_REMEDY) from error


def _connect(sock: socket.socket, target: Target) -> None:
    """Take messages and ICMP errors from the target alone."""
    try:
        if family_of(target.address) == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            if sock.type == socket.SOCK_RAW:
                blocked = bytearray(b"\xff" * 32)
                blocked[129 // 8] &= 0xFF ^ (1 << 129 % 8)
                sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.connect(sockaddr(target.address, 0))
    except OSError as error:
        raise errno_failure(error.errno or 0) from error


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
