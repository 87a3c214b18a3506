"""Run one check once: the only place that turns exceptions into verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lbhealth.checkers.outcome import failure_from, timed_out
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import CheckContext, Checker, CheckResult, Status, Target, Verdict

__all__ = ["run_check"]


async def run_check(
    checker: Checker,
    target: Target,
    timeout: float,
    trace: Callable[[str, bytes | str], None] | None = None,
) -> CheckResult:
    """Run `checker` against `target` for at most `timeout` seconds.

    Never raises but for cancellation from outside: whatever a checker does becomes a
    verdict, and what is no fault of the server becomes ERROR.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    cause: CheckFailed | CheckError
    ctx = CheckContext(started + timeout, trace)
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            passed = await checker.check(target, ctx)
        duration = loop.time() - started
        return CheckResult(
            Verdict.PASS, passed.status, passed.detail, started, duration, passed.weight
        )
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        cause = CheckError("the checker cancelled itself")
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        cause = timed_out(ctx.phase, timeout) if deadline.expired() else failure_from(error)
    duration = loop.time() - started
    if isinstance(cause, CheckFailed):
        return CheckResult(Verdict.FAIL, cause.status, cause.detail, started, duration)
    return CheckResult(Verdict.ERROR, Status.SOCKERR, cause.detail, started, duration)
