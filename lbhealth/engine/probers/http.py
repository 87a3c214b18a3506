"""Plain HTTP/1.1 checks on the shared sockets: connect, request, response, reset.

What is asked and what counts as good is not known here: `Http.request` and `Http.judge` say
it, as they do for HTTPS.
"""

from __future__ import annotations

import select
from typing import NamedTuple

from lbhealth.checkers.http import Http, Redirect
from lbhealth.checkers.http_message import Response
from lbhealth.checkers.outcome import connect_failure, failure_from, timed_out
from lbhealth.engine.probers.base import Job
from lbhealth.engine.probers.sockets import FAILED, Connection, Lane, Sockets
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import Checker, Passed, Status, Target

__all__ = ["HttpProber"]

_RECEIVE = 65536

_READS = 2
"""Reads from one server before the others get their turn: nobody may pour without end."""


class _Prepared(NamedTuple):
    lane: Lane
    address: tuple[str, int]
    target: Target
    request: bytes
    judge: Http


class _Exchange:
    """One request and its response on a connection; `hops` redirects came before it."""

    __slots__ = ("hops", "path", "reader", "request")

    def __init__(self, judge: Http, request: bytes, hops: int = 0, path: str | None = None) -> None:
        self.request = request
        self.reader = judge.reader()
        self.hops = hops
        self.path = path


class HttpProber:
    """Carries out `http` checks without a Task, Stream or timer for each.

    A redirect to the same server is followed on a new connection within the same time-out.
    """

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._buffer = bytearray(_RECEIVE)
        self._view = memoryview(self._buffer)

    def takes(self, checker: Checker, target: Target) -> bool:
        """Take HTTP without TLS."""
        return type(checker) is Http

    def prepare(self, checker: Checker, target: Target, timeout: float) -> _Prepared:
        """Precompute the socket address and the request."""
        assert isinstance(checker, Http)
        return _Prepared(
            self._sockets.lane(target, timeout),
            (target.address, target.port),
            target,
            checker.request(target),
            checker,
        )

    def start(self, job: Job, now: float) -> None:
        """Begin to connect."""
        running = job.running
        running.busy = True
        running.started = now
        prepared = job.prepared
        if error := self._sockets.connect(job, prepared.lane, prepared.address, now):
            running.failed(now, connect_failure(error))

    def ready(self, connection: Connection, events: int, now: float) -> None:
        """Go on with a check; report its end."""
        job = connection.job
        assert job is not None
        try:
            passed = self._advance(connection, job, events)
        except Exception as problem:  # what bytes from outside bring about concerns no other check
            self._fail(connection, now, failure_from(problem))
            return
        if passed is not None:
            self._sockets.release(connection)
            job.running.passed(now, passed.status, passed.detail)

    def timed_out(self, connection: Connection, now: float) -> None:
        """Fail a check that was not answered whole."""
        job = connection.job
        assert job is not None
        phase = Status.L7TOUT if connection.connected else Status.L4TOUT
        self._fail(connection, now, timed_out(phase, connection.lane.timeout))

    def expire(self, now: float) -> None:
        """The sockets' deadlines are looked at once, by `ConnectProber`."""

    async def aclose(self) -> None:
        """The sockets are closed by `ConnectProber`."""

    def _advance(self, connection: Connection, job: Job, events: int) -> Passed | None:
        """Send the request once connected; read and judge what comes."""
        if not connection.connected:
            if events & FAILED:
                # Without an error it is the echo of the reset that ended the check before.
                if error := self._sockets.error_of(connection):
                    raise connect_failure(error)
                return None
            if not events & select.EPOLLOUT:
                return None
            connection.connected = True
            self._send(connection, job)
            if not events & (select.EPOLLIN | select.EPOLLRDHUP):
                return None
        return self._read(connection, job)

    def _send(self, connection: Connection, job: Job) -> None:
        exchange = connection.exchange
        if exchange is None:
            exchange = connection.exchange = _Exchange(job.prepared.judge, job.prepared.request)
        assert isinstance(exchange, _Exchange)
        if connection.sock.send(exchange.request) != len(exchange.request):
            raise CheckError("the request did not fit into the socket's buffer")

    def _read(self, connection: Connection, job: Job) -> Passed | None:
        exchange = connection.exchange
        assert isinstance(exchange, _Exchange)
        reader = exchange.reader
        # Edge-triggered: read until the response is whole or nothing is left.
        for _ in range(_READS):
            try:
                count = connection.sock.recv_into(self._buffer)
            except BlockingIOError:
                return None
            response = reader.feed(self._view[:count]) if count else reader.eof()
            if response is not None:
                return self._judge(connection, job, response)
        self._sockets.look_again(connection)
        return None

    def _judge(self, connection: Connection, job: Job, response: Response) -> Passed | None:
        exchange = connection.exchange
        assert isinstance(exchange, _Exchange)
        verdict = job.prepared.judge.judge(
            response, job.prepared.target, exchange.hops, exchange.path
        )
        if isinstance(verdict, Redirect):
            self._follow(connection, job, exchange.hops + 1, verdict)
            return None
        assert isinstance(verdict, Passed)
        return verdict

    def _follow(self, connection: Connection, job: Job, hops: int, redirect: Redirect) -> None:
        judge = job.prepared.judge
        request = judge.request(job.prepared.target, redirect.path)
        connection.exchange = _Exchange(judge, request, hops, redirect.path)
        if error := self._sockets.again(connection, job.prepared.address):
            raise connect_failure(error)

    def _fail(self, connection: Connection, now: float, cause: CheckFailed | CheckError) -> None:
        job = connection.job
        assert job is not None
        self._sockets.drop(connection)
        job.running.failed(now, cause)
