"""Client sockets that honour a target's source address and mark."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from typing import TypeAlias

from lbhealth.checkers.outcome import errno_failure, failure_from
from lbhealth.errors import CheckError
from lbhealth.model import Address, CheckContext, Status, Target, family_of, host_port

__all__ = ["connect", "open_socket", "prepare_socket", "sockaddr"]

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; the socket module names it only later


async def connect(target: Target, ctx: CheckContext, port: int | None = None) -> socket.socket:
    """A socket connected to the target, at its own or another port; the caller closes it.

    Raises CheckFailed or CheckError; leaves nothing open when it is cancelled.
    """
    port = target.port if port is None else port
    ctx.note("*", f"connecting to {host_port(target.address, port)}")
    try:
        sock = open_socket(target)
        try:
            address = sockaddr(target.address, port)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise failure_from(error, Status.L4TOUT) from error
    ctx.note("*", "connected")
    return sock


def sockaddr(address: Address, port: int) -> SocketAddress:
    """What connect and bind take; a zone (`fe80::1%eth0`) becomes its interface index.

    Raises CheckError when there is no such interface.
    """
    if ":" not in address:
        return (address, port)
    host, _, zone = address.partition("%")
    if not zone:
        return (host, port, 0, 0)
    try:
        return (host, port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone))
    except OSError:
        raise CheckError(f"no network interface {zone} on this host") from None


def open_socket(target: Target, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
    """A non-blocking socket to reach `target` with, not yet connected; the caller closes it.

    A TCP one is closed by a reset: checks leave neither TIME_WAIT nor unsent data behind, and
    close never waits.  Raises OSError when the system gives no socket, and CheckError when
    the source or the mark of the target cannot be had.
    """
    sock = socket.socket(family_of(target.address), kind | socket.SOCK_NONBLOCK, protocol)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        prepare_socket(sock, target.source, target.mark)
    except BaseException:
        sock.close()
        raise
    return sock


def prepare_socket(sock: socket.socket, source: Address | None, mark: int) -> None:
    """Set the mark (0 = none) and bind to the source address, if any."""
    if mark:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except PermissionError:
            raise CheckError(f"mark {mark} cannot be set: CAP_NET_ADMIN is needed") from None
    if source is None:
        return
    try:
        if sock.type == socket.SOCK_STREAM:
            # The port is chosen at connect, so that one source serves many targets.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind(sockaddr(source, 0))
    except OSError as error:
        why = errno_failure(error.errno or errno.EINVAL)
        if error.errno == errno.EADDRNOTAVAIL:
            raise CheckError(f"source address {source} is not on this host") from None
        raise CheckError(f"source address {source}: {why.detail}") from None
