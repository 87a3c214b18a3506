"""The seam between the engine and the ways to carry out a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lbhealth.model import Checker, Target

if TYPE_CHECKING:
    from lbhealth.engine.running import RunningCheck

__all__ = ["Job", "Prober"]


class Job:
    """A running check bound to its prober; `prepared` is what that has precomputed for it."""

    __slots__ = ("prepared", "prober", "running")

    def __init__(self, prober: Prober, running: RunningCheck, prepared: Any) -> None:
        self.prober = prober
        self.running = running
        self.prepared = prepared


class Prober(Protocol):
    """Carries out jobs; reports to `job.running.passed` or `.failed`, once for each start.

    All methods are called in the event loop and return at once.
    """

    def takes(self, checker: Checker, target: Target) -> bool:
        """Whether this prober can carry out such a check."""

    def prepare(self, checker: Checker, target: Target, timeout: float) -> Any:
        """Precompute what does not change from one run to the next."""

    def start(self, job: Job, now: float) -> None:
        """Begin; `now` is the loop's time in seconds.  The job is not in flight.

        May raise what keeps it from beginning, and then reports nothing.
        """

    def expire(self, now: float) -> None:
        """Fail what is over its time-out; called once in every slot."""

    async def aclose(self) -> None:
        """Abandon what is in flight and free everything; nothing is reported any more."""
