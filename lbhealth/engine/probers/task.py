"""The general prober: a Task for each run of an `async def check`."""

from __future__ import annotations

import asyncio
from collections import deque

from lbhealth.engine.probers.base import Job
from lbhealth.engine.runner import run_check
from lbhealth.model import Checker, Target

__all__ = ["TaskProber"]

IN_FLIGHT = 1000
"""Checks that may run at once; more wait their turn.  Bounds memory and descriptors."""


class TaskProber:
    """Runs any checker, with a bounded number in flight and a deadline for each."""

    def __init__(self, limit: int = IN_FLIGHT) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Job] = deque()
        self._closed = False

    def takes(self, checker: Checker, target: Target) -> bool:
        """Take everything."""
        return True

    def prepare(
        self, checker: Checker, target: Target, timeout: float
    ) -> tuple[Checker, Target, float]:
        """What `run_check` takes; a checker with a heavy library imports it now."""
        load = getattr(checker, "load", None)
        if load is not None:
            load()
        return checker, target, timeout

    def start(self, job: Job, now: float) -> None:
        """Run the check in a Task of its own, or queue it while too many run."""
        job.running.busy = True
        job.running.started = now
        if len(self._tasks) >= self._limit:
            self._waiting.append(job)
        else:
            self._launch(job)

    def _launch(self, job: Job) -> None:
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def expire(self, now: float) -> None:
        """Each Task holds its own deadline."""

    async def aclose(self) -> None:
        """Cancel what runs and wait for it."""
        self._closed = True
        self._waiting.clear()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        result = await run_check(*job.prepared)
        if self._closed:
            return
        job.running.take(result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # a bug in the engine, not in a checker: the loop's handler tells it
        if self._waiting and not self._closed:
            self._launch(self._waiting.popleft())
