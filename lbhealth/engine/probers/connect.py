"""TCP connect checks on the shared sockets: a full handshake, then a reset."""

from __future__ import annotations

import select

from lbhealth.checkers.outcome import connect_failure, timed_out
from lbhealth.checkers.tcp import Tcp
from lbhealth.engine.probers.base import Job
from lbhealth.engine.probers.sockets import FAILED, Connection, Lane, Sockets
from lbhealth.model import Checker, Status, Target

__all__ = ["ConnectProber"]


class ConnectProber:
    """Carries out `tcp` checks without a Task, Stream or timer for each."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    def takes(self, checker: Checker, target: Target) -> bool:
        """Take plain TCP connects."""
        return type(checker) is Tcp

    def prepare(
        self, checker: Checker, target: Target, timeout: float
    ) -> tuple[Lane, tuple[str, int]]:
        """Precompute the socket address."""
        return self._sockets.lane(target, timeout), (target.address, target.port)

    def start(self, job: Job, now: float) -> None:
        """Begin to connect."""
        running = job.running
        running.busy = True
        running.started = now
        lane, address = job.prepared
        if error := self._sockets.connect(job, lane, address, now):
            running.failed(now, connect_failure(error))

    def ready(self, connection: Connection, events: int, now: float) -> None:
        """Judge the end of a connect."""
        job = connection.job
        assert job is not None
        if events & FAILED:
            # Without an error it is the echo of the reset that ended the check before.
            if error := self._sockets.error_of(connection):
                self._sockets.drop(connection)
                job.running.failed(now, connect_failure(error))
        elif events & select.EPOLLOUT:
            self._sockets.release(connection)
            job.running.passed(now, Status.L4OK, "connected")

    def timed_out(self, connection: Connection, now: float) -> None:
        """Fail a connect that was never answered."""
        job = connection.job
        assert job is not None
        self._sockets.drop(connection)
        job.running.failed(now, timed_out(Status.L4TOUT, connection.lane.timeout))

    def expire(self, now: float) -> None:
        """Fail what is over its time-out, for all probers on these sockets."""
        self._sockets.expire(now)

    async def aclose(self) -> None:
        """Close all sockets."""
        self._sockets.close()
