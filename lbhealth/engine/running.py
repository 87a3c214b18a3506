"""One check as it runs: its health, its counters, and the way from a result to a state.

`RunningCheck` is what probers report to.  A pass on a server that is up and stays up ends
after a few assignments; everything else goes through `lbhealth.health.observe`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lbhealth.errors import CheckError, CheckFailed
from lbhealth.health import UNKNOWN, Health, Step, Transition, hybrid_after, hybrid_step, observe
from lbhealth.model import Check, CheckResult, HealthState, Status, Verdict

if TYPE_CHECKING:
    from lbhealth.engine.probers import Job
    from lbhealth.engine.services import ServerRuntime
    from lbhealth.engine.wheel import Bucket

__all__ = ["RunningCheck"]


class RunningCheck:
    """The state of one check that serves one or more servers."""

    __slots__ = (
        "bucket",
        "busy",
        "check",
        "detail",
        "duration",
        "errors",
        "failures",
        "health",
        "hybrid_count",
        "job",
        "jobs",
        "on_change",
        "passes",
        "servers",
        "skipped",
        "started",
        "status",
        "steady",
        "told_trouble",
        "trouble",
    )

    def __init__(
        self,
        check: Check,
        health: Health,
        on_change: Callable[[RunningCheck, Transition | None], None],
    ) -> None:
        self.check = check
        self.health = health
        self.on_change = on_change
        self.servers: tuple[ServerRuntime, ...] = ()
        self.jobs: tuple[Job, Job] | None = None
        self.job: Job
        self.bucket: Bucket | None = None
        self.hybrid_count = check.hybrid.connects if check.hybrid else 0
        self.busy = False
        self.steady = False
        self.trouble = ""
        self.told_trouble = False
        self.started = 0.0
        self.duration = 0.0
        self.status = Status.L4OK
        self.detail = ""
        self.passes = self.failures = self.errors = self.skipped = 0

    def aim(self, job: Job, connect: Job | None = None) -> None:
        """Set what to run; a hybrid has a connect besides its negotiation."""
        self.job = job
        if connect is not None:
            self.jobs = (job, connect)
            self._choose_job()

    def retire(self) -> None:
        """Let go of the jobs, which hold this check: both can be freed without a collection."""
        self.jobs = None
        del self.job

    def take(self, result: CheckResult) -> None:
        """Take a result that was made elsewhere."""
        self.started = result.started
        ended = result.started + result.duration
        match result.verdict:
            case Verdict.PASS:
                self.passed(ended, result.status, result.detail)
            case Verdict.FAIL:
                self.failed(ended, CheckFailed(result.status, result.detail))
            case Verdict.ERROR:
                self.failed(ended, CheckError(result.detail))

    def passed(self, now: float, status: Status, detail: str) -> None:
        """Take a pass that ended at `now`; the fast path of the whole engine."""
        self.busy = False
        self.duration = now - self.started
        self.passes += 1
        if self.steady:
            self.status = status
            self.detail = detail
            return
        self._settle(CheckResult(Verdict.PASS, status, detail, self.started, self.duration))

    def failed(self, now: float, cause: CheckFailed | CheckError) -> None:
        """Take a failure of the server or of the checker that ended at `now`."""
        self.busy = False
        self.duration = now - self.started
        if isinstance(cause, CheckFailed):
            self.failures += 1
            verdict, status = Verdict.FAIL, cause.status
        else:
            self.errors += 1
            verdict, status = Verdict.ERROR, Status.SOCKERR
        self._settle(CheckResult(verdict, status, cause.detail, self.started, self.duration))

    @property
    def last(self) -> CheckResult | None:
        """The latest result, those of the fast path included."""
        if self.steady:
            return CheckResult(Verdict.PASS, self.status, self.detail, self.started, self.duration)
        return self.health.last

    def describe(self) -> str:
        """The state, the latest result and the count towards a change, in words."""
        health, result = self.health, self.last
        if result is None:
            return "as found in the table" if health != UNKNOWN else "not checked yet"
        words = f"{self.job_kind(result)} {result.detail}".rstrip()
        if result.verdict is Verdict.ERROR:
            return f"{health.state}, but the check cannot run: {result.detail}"
        schedule = self.check.schedule
        if health.state is HealthState.DOWN:
            if result.verdict is Verdict.PASS:
                return f"passes again ({health.streak} of {schedule.rise}): {words}"
            return (
                f"{words} ({schedule.fall} of {schedule.fall} failed)" if health.was_up else words
            )
        if result.verdict is Verdict.FAIL:
            return (
                f"still {health.state}, though {words} ({health.streak} of {schedule.fall} failed)"
            )
        return words

    def job_kind(self, result: CheckResult) -> str:
        """The check type in the vocabulary of the configuration."""
        if self.check.hybrid is not None and result.status in (
            Status.L4OK,
            Status.L4CON,
            Status.L4TOUT,
        ):
            return self.check.hybrid.connect.kind
        return self.check.checker.kind

    def _settle(self, result: CheckResult) -> None:
        before = self.health
        self.health, transition = observe(before, result, self.check.schedule)
        hybrid = self.check.hybrid
        if hybrid is not None:
            self.hybrid_count = hybrid_after(self.hybrid_count, hybrid.connects, result.verdict)
            self._choose_job()
        health = self.health
        self.steady = (
            hybrid is None
            and health.state is HealthState.UP
            and health.confirmed
            and health.streak == 0
            and result.verdict is Verdict.PASS
        )
        self.status, self.detail = result.status, result.detail
        if self.steady:
            self.health = replace(health, last=None)  # `last` makes it from what is held anyway
        trouble = result.detail if result.verdict is Verdict.ERROR else ""
        changed = (
            transition is not None
            or health.confirmed != before.confirmed
            or bool(health.streak) != bool(before.streak)
            or bool(trouble) != bool(self.trouble)
        )
        self.trouble = trouble
        if changed:
            self.on_change(self, transition)

    def _choose_job(self) -> None:
        hybrid = self.check.hybrid
        if hybrid is not None and self.jobs is not None:  # a rehearsal has no jobs
            step = hybrid_step(self.hybrid_count, hybrid.connects)
            self.job = self.jobs[step is Step.CONNECT]
