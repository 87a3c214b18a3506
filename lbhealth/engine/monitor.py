"""The monitor: keeps every check running in its slot and its health up to date.

Knows checks and probers, and nothing of services, policy or the kernel.  Equal checks run
once, whoever asks for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lbhealth.checkers.outcome import failure_from
from lbhealth.engine.probers import ConnectProber, HttpProber, Job, Prober, Sockets, TaskProber
from lbhealth.engine.running import RunningCheck
from lbhealth.engine.wheel import SLOT, Wheel, period_of
from lbhealth.health import UNKNOWN, Health, Transition
from lbhealth.model import Check, Checker, Status, Target

__all__ = ["Lag", "Monitor"]

_CATCH_UP = 4
"""So many late slots are still run, one after the other; older ones are skipped and counted."""


@dataclass(slots=True)
class Lag:
    """How late the slots were, in seconds, and how many checks were left out."""

    latest: float = 0.0
    worst: float = 0.0
    skipped: int = 0


class Monitor:
    """Runs checks.  `on_change` hears of every transition and of what may precede one."""

    def __init__(self, on_change: Callable[[RunningCheck, Transition | None], None]) -> None:
        self.lag = Lag()
        self._on_change = on_change
        self._hear = self._changed  # one bound method for all checks
        self._wheel: Wheel[RunningCheck] = Wheel()
        self._running: dict[Check, RunningCheck] = {}
        self._sockets = Sockets()
        connect = ConnectProber(self._sockets)
        self._probers: tuple[Prober, ...] = (connect, HttpProber(self._sockets), TaskProber())
        self._slot = 0
        self._epoch = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def checks(self) -> Collection[RunningCheck]:
        """All checks that run."""
        return self._running.values()

    def start(self) -> None:
        """Begin; must be called in the event loop."""
        loop = asyncio.get_running_loop()
        self._sockets.open()
        self._epoch = loop.time() - self._slot * SLOT
        self._timer = loop.call_at(self._epoch + (self._slot + 1) * SLOT, self._tick)

    async def aclose(self) -> None:
        """Stop all checks; results that are still under way are forgotten."""
        if self._timer is not None:
            self._timer.cancel()
        for prober in self._probers:
            await prober.aclose()

    def get(self, check: Check) -> RunningCheck | None:
        """The running check of this value, if it runs."""
        return self._running.get(check)

    def add(self, check: Check, health: Health = UNKNOWN) -> RunningCheck:
        """Run a check, or return the one that runs already; `health` is for a new one."""
        running = self._running.get(check)
        if running is None:
            running = self._running[check] = RunningCheck(check, health, self._hear)
            self._aim(running)
            self._wheel.add(running, period_of(check.schedule.interval), self._slot)
        return running

    def remove(self, running: RunningCheck) -> None:
        """Forget a check; a result under way changes nothing any more."""
        if self._running.pop(running.check, None) is running:
            self._wheel.discard(running)
            running.retire()

    def _aim(self, running: RunningCheck) -> None:
        check, hybrid = running.check, running.check.hybrid
        job = self._job(running, check.checker, check.target, check.schedule.timeout)
        connect = None
        if hybrid is not None:
            connect = self._job(running, hybrid.connect, check.target, hybrid.timeout)
        running.aim(job, connect)

    def _job(self, running: RunningCheck, checker: Checker, target: Target, timeout: float) -> Job:
        prober = next(p for p in self._probers if p.takes(checker, target))
        return Job(prober, running, prober.prepare(checker, target, timeout))

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        latest = int((now - self._epoch) / SLOT)
        lag = now - self._epoch - (self._slot + 1) * SLOT
        self.lag.latest = lag
        self.lag.worst = max(self.lag.worst, lag)
        self._timer = loop.call_at(self._epoch + (latest + 1) * SLOT, self._tick)
        for prober in self._probers:
            prober.expire(now)
        while self._slot < latest:
            self._slot += 1
            if latest - self._slot >= _CATCH_UP:
                self.lag.skipped += self._wheel.skip(self._slot)
                continue
            for running in self._wheel.due(self._slot):
                if running.busy:
                    running.skipped += 1
                else:
                    self._start(running, loop.time())
        # What has ended meanwhile is taken at once: one turn of the loop less in every slot.
        self._sockets.dispatch()

    def _start(self, running: RunningCheck, now: float) -> None:
        job = running.job
        try:
            job.prober.start(job, now)
        except Exception as error:  # no socket to be had, or a bug: it concerns this check alone
            running.failed(now, failure_from(error, Status.L4TOUT))

    def _changed(self, running: RunningCheck, transition: Transition | None) -> None:
        if self._running.get(running.check) is not running:
            return  # removed while it ran
        schedule = running.check.schedule
        interval = schedule.fast_interval if running.health.pending else schedule.interval
        self._wheel.move(running, period_of(min(interval, schedule.interval)), self._slot)
        self._on_change(running, transition)
