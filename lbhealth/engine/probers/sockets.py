"""Non-blocking TCP sockets for thousands of checks a second.

A socket is made and registered with epoll once and then used for check after check:
`connect(AF_UNSPEC)` ends a connection by a reset and makes the socket fit for the next one
(tcp_disconnect in net/ipv4/tcp.c; connect(2)).  That saves the price of socket(), close() and
two epoll_ctl() a check, leaves no TIME_WAIT behind and never blocks.  Registration is
edge-triggered, because an idle TCP socket is always "hung up" to a level-triggered epoll.

The epoll descriptor itself sits in the asyncio loop, so there is no Task, Future, Stream or
timer per check.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol

from lbhealth.model import Target, family_of

if TYPE_CHECKING:
    from lbhealth.engine.probers.base import Job

__all__ = ["FAILED", "Connection", "Lane", "Sockets"]

FAILED = select.EPOLLERR | select.EPOLLHUP
"""Epoll events of a connection that could not be made or was torn down."""

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNSPEC = struct.pack("=H14x", socket.AF_UNSPEC)
_BATCH = 256
_IDLE = 512

# PyDLL keeps the interpreter's lock: the call never blocks, and giving the lock away costs more.
_connect = ctypes.PyDLL(None).connect
_connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

Family = tuple[socket.AddressFamily, str | None, int]
"""What makes sockets interchangeable: address family, source address, mark."""


class Ready(Protocol):
    """A prober that wants to hear of its sockets.

    Whoever calls `Sockets.connect` is one.  A type checker cannot see that through `Job`, and
    a cast would cost on every check: hence the ignores below.
    """

    def ready(self, connection: Connection, events: int, now: float) -> None:
        """Something happened on a connection in flight."""

    def timed_out(self, connection: Connection, now: float) -> None:
        """A connection is over its time-out; it must be dropped."""


class Connection:
    """A reusable socket and the job it works for (None while idle).

    `connected` is False until the prober has seen the end of the connect; `exchange` is the
    prober's own and None for every new job.
    """

    __slots__ = ("connected", "exchange", "fd", "job", "lane", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.job: Job | None = None
        self.lane: Lane
        self.exchange: object = None
        self.connected = False


class Lane:
    """All connections in flight of one family with one time-out.

    The oldest come first, so that only the head is looked at.  `idle` holds the sockets that
    are free for any lane of the family.
    """

    __slots__ = ("family", "flying", "idle", "timeout")

    def __init__(self, family: Family, timeout: float, idle: list[Connection]) -> None:
        self.family = family
        self.timeout = timeout
        self.idle = idle
        self.flying: dict[Connection, float] = {}


class Sockets:
    """The pool, the epoll and the deadlines of the socket probers of one engine."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._idle: dict[Family, list[Connection]] = {}
        self._lanes: dict[tuple[Family, float], Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Attach to the running loop; twice does no harm."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self.dispatch)

    def lane(self, target: Target, timeout: float) -> Lane:
        """The lane for checks of a target with a time-out in seconds."""
        family = (family_of(target.address), target.source, target.mark)
        lane = self._lanes.get((family, timeout))
        if lane is None:
            idle = self._idle.setdefault(family, [])
            lane = self._lanes[family, timeout] = Lane(family, timeout, idle)
        return lane

    def connect(self, job: Job, lane: Lane, address: tuple[str, int], now: float) -> int:
        """Begin to connect; the job's prober hears of the end.

        Returns 0, or the errno of a connect that failed at once (nothing is in flight then).
        Raises OSError when no socket can be had.
        """
        connection = lane.idle.pop() if lane.idle else self._new(lane.family)
        error = connection.sock.connect_ex(address)
        if error and error != errno.EINPROGRESS:
            self._close(connection)
            return error
        connection.job = job
        connection.connected = False
        connection.lane = lane
        lane.flying[connection] = now + lane.timeout
        return 0

    def again(self, connection: Connection, address: tuple[str, int]) -> int:
        """End a connection and make a new one for the same job, within the same time-out.

        Returns 0 or an errno; the connection is in flight either way.
        """
        connection.connected = False
        _connect(connection.fd, _UNSPEC, 16)
        error = connection.sock.connect_ex(address)
        return 0 if error == errno.EINPROGRESS else error

    def release(self, connection: Connection) -> None:
        """End a good connection by a reset and keep the socket for the next check."""
        lane = connection.lane
        del lane.flying[connection]
        connection.job = None
        connection.exchange = None
        idle = lane.idle
        if len(idle) < _IDLE and _connect(connection.fd, _UNSPEC, 16) == 0:
            idle.append(connection)
        else:
            self._close(connection)

    def drop(self, connection: Connection) -> None:
        """End a connection that failed; its socket is not used again."""
        del connection.lane.flying[connection]
        connection.job = None
        self._close(connection)

    def error_of(self, connection: Connection) -> int:
        """The pending error of a socket (SO_ERROR), 0 = none."""
        return connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def expire(self, now: float) -> None:
        """Tell the probers of every connection that is over its time-out."""
        for lane in self._lanes.values():
            while lane.flying:
                connection = next(iter(lane.flying))
                if lane.flying[connection] > now:
                    break
                job = connection.job
                assert job is not None
                # An answer that came while the loop was held up still counts.
                if events := _pending(connection):
                    job.prober.ready(connection, events, now)  # type: ignore[attr-defined]
                if connection.job is job:
                    job.prober.timed_out(connection, now)  # type: ignore[attr-defined]

    def look_again(self, connection: Connection) -> None:
        """Let a prober go on reading when the others have had their turn."""
        assert self._loop is not None
        assert connection.job is not None
        self._loop.call_soon(self._look, connection, connection.job)

    def _look(self, connection: Connection, job: Job) -> None:
        if connection.job is job:
            job.prober.ready(connection, select.EPOLLIN, time.monotonic())  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close everything; nothing is reported any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        for connection in tuple(self._by_fd.values()):
            connection.job = None
            self._close(connection)
        self._lanes.clear()
        self._idle.clear()
        self._epoll.close()

    def dispatch(self) -> None:
        """Tell the probers what has happened on their sockets."""
        by_fd = self._by_fd
        clock = time.monotonic
        for fd, events in self._epoll.poll(0, _BATCH):
            connection = by_fd.get(fd)
            if connection is not None and connection.job is not None:
                connection.job.prober.ready(connection, events, clock())  # type: ignore[attr-defined]

    def _new(self, family: Family) -> Connection:
        kind, source, mark = family
        sock = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if source:
                # The port is chosen at connect, so that one source serves many targets.
                sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
                sock.bind((source, 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection = Connection(sock)
            self._epoll.register(connection.fd, _EVENTS)
        except BaseException:
            sock.close()
            raise
        self._by_fd[connection.fd] = connection
        return connection

    def _close(self, connection: Connection) -> None:
        del self._by_fd[connection.fd]
        connection.sock.close()  # takes it out of the epoll too


def _pending(connection: Connection) -> int:
    """The events of a connection at this moment."""
    poll = select.poll()
    poll.register(connection.fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return sum(events for _, events in poll.poll(0))
