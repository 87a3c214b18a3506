"""One question and its answer over UDP, with retransmission.

The socket is connected, so that the kernel takes datagrams from the server's address and port
alone and hands over the ICMP errors of this exchange.  What comes from there may still be
forged: a datagram that is no answer is skipped, and named only when no answer follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lbhealth.checkers.outcome import failure_from
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.errors import CheckFailed
from lbhealth.model import Address, CheckContext, Status, Target

__all__ = ["NoAnswer", "connected", "exchange", "local_address", "spread"]

_T = TypeVar("_T")

_LARGEST = 65535
_MAX_SKIPPED = 1000
"""Datagrams that are no answer before the server counts as broken."""

_MARGIN = 0.05
"""Seconds before the deadline at which a reason is given, if there is a better one than it."""

_FROM_ICMP = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENOPROTOOPT,
        errno.EPROTO,
        errno.EACCES,
    }
)
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h


class NoAnswer(ValueError):
    """Raised by an `accept` for a datagram that does not answer the question; says why."""


@contextlib.contextmanager
def connected(target: Target, ctx: CheckContext) -> Iterator[socket.socket]:
    """A UDP socket that hears the target alone; OSError inside becomes a verdict."""
    ctx.phase = Status.L7TOUT  # UDP has no connection to wait for
    try:
        with open_socket(target, socket.SOCK_DGRAM) as sock:
            # Ask for ICMP errors of routers too, not only "port unreachable".
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.connect(sockaddr(target.address, target.port))
            yield sock
    except OSError as error:
        raise failure_from(error, ctx.phase) from error


def local_address(target: Target, ctx: CheckContext) -> Address:
    """The address of this host that the target sees, without a zone; sends nothing."""
    phase = ctx.phase
    with connected(target, ctx) as sock:
        ctx.phase = phase
        return str(sock.getsockname()[0]).partition("%")[0]


def spread(ctx: CheckContext, times: int = 2, longest: float = 1.0) -> Iterator[float]:
    """`times` waits in equal parts of the time that is left, each `longest` seconds at most."""
    left = max(0.0, ctx.deadline - asyncio.get_running_loop().time())
    for _ in range(times):
        yield min(longest, left / (times + 1))


async def exchange(
    sock: socket.socket,
    request: bytes,
    accept: Callable[[bytes], _T | None],
    waits: Iterable[float],
    ctx: CheckContext,
) -> _T:
    """Send `request` on a `connected` socket until `accept` makes an answer of a datagram.

    `waits` are the seconds before each retransmission, asked for as they are needed; after
    the last the wait goes on.  `accept` returns None for a datagram that only announces the
    answer, raises NoAnswer for one to skip and CheckFailed for one that settles the matter.
    The caller traces the request itself, which may hold secrets.
    """
    loop = asyncio.get_running_loop()
    pending = iter(waits)
    skipped = 0
    give_up = math.inf
    reason = ""
    while True:
        sock.send(request)
        wait = next(pending, math.inf)
        resend = loop.time() + wait
        while (data := await _receive(loop, sock, min(resend, give_up))) is not None:
            try:
                answer = accept(data)
            except NoAnswer as error:
                ctx.note("*", f"skipped: {error}")
                skipped += 1
                reason = f"no answer, but {skipped} that do not count; the last: {error}"
                if skipped >= _MAX_SKIPPED or loop.time() >= ctx.deadline - _MARGIN:
                    raise CheckFailed(Status.L7RSP, reason) from None
                give_up = ctx.deadline - _MARGIN
            else:
                if answer is not None:
                    return answer
            await asyncio.sleep(0)  # a flood of datagrams must not hold up the event loop
        if skipped and give_up <= resend:
            raise CheckFailed(Status.L7RSP, reason)
        ctx.note("*", f"no answer within {wait:.3g} s, sending again")


async def _receive(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, until: float
) -> bytes | None:
    """The next datagram, or None when there is none by `until`."""
    try:
        # A datagram lost in the instant of the time-out: its sender is asked again.
        async with asyncio.timeout_at(None if until == math.inf else until):
            return await loop.sock_recv(sock, _LARGEST)
    except TimeoutError:
        return None
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            raise CheckFailed(
                Status.L4CON, "connection refused (ICMP: port unreachable)"
            ) from error
        if error.errno in _FROM_ICMP:  # whatever the same errno means locally
            what = os.strerror(error.errno).lower()
            raise CheckFailed(Status.L4CON, f"ICMP: {what}") from error
        raise
