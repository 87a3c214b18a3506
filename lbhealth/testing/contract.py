"""What every checker must keep, as tests that a checker's author inherits."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from lbhealth.engine.runner import run_check
from lbhealth.model import Checker, CheckResult, Status, Target, Verdict
from lbhealth.testing.servers import ScriptedServer

__all__ = ["CheckerContract"]

_GRACE = 0.5
"""Seconds by which a check may overrun its deadline on a loaded machine."""


class CheckerContract:
    """Tests to inherit: say how to make the checker, and let a test runner find the class.

    ::

        class TestFinger(CheckerContract):
            def checker(self):
                return Finger(user="root")

    Every test is an `async def` without arguments that fails by AssertionError.  A checker
    that does not speak TCP to the target's port sets `speaks_tcp` to False; one that passes
    as soon as it is connected sets `talks` to False.
    """

    speaks_tcp = True
    talks = True

    def checker(self) -> Checker:
        """A checker with valid settings."""
        raise NotImplementedError

    # -- the value

    async def test_equal_settings_make_equal_checkers(self) -> None:
        """Equal checkers are one check: they must compare and hash by their settings."""
        one, other = self.checker(), self.checker()
        assert one == other, "two checkers with the same settings differ"
        assert hash(one) == hash(other), "equal checkers have different hashes"
        assert isinstance(one, Checker), "the checker lacks `kind` or `check`"

    async def test_settings_cannot_change(self) -> None:
        """A checker that changed would silently become another check."""
        checker = self.checker()
        try:
            checker.kind = "changed"  # type: ignore[misc]
        except (AttributeError, TypeError):  # TypeError: slots, before Python 3.12
            return
        raise AssertionError("the checker is not frozen")

    # -- bad servers

    async def test_refused(self) -> None:
        """A closed port is FAIL."""
        if self.speaks_tcp:
            async with ScriptedServer.refuse() as server:
                self.expect_fail(await self.run(server.target()))

    async def test_silence_ends_at_the_deadline(self) -> None:
        """A server that says nothing costs the time-out and no more."""
        if self.talks:
            async with ScriptedServer.accept_then_silence() as server:
                self.expect_fail(await self.run(server.target(), 0.3))

    async def test_drip_ends_at_the_deadline(self) -> None:
        """Bytes that trickle in do not prolong the check."""
        if self.talks:
            async with ScriptedServer.slow_drip(b"2" * 1000, every=0.02) as server:
                self.expect_fail(await self.run(server.target(), 0.3))

    async def test_garbage(self) -> None:
        """Random bytes are FAIL with a reason, never an exception."""
        if self.talks:
            async with ScriptedServer.garbage() as server:
                for _ in range(5):
                    self.expect_fail(await self.run(server.target(), 1.0))

    async def test_endless_line(self) -> None:
        """A line without an end is FAIL before the memory is full."""
        if self.talks:
            async with ScriptedServer.endless_line() as server:
                self.expect_fail(await self.run(server.target(), 1.0))

    async def test_reset(self) -> None:
        """A reset is FAIL."""
        if self.talks:
            async with ScriptedServer.reset() as server:
                self.expect_fail(await self.run(server.target(), 1.0))

    async def test_closed_early(self) -> None:
        """A server that hangs up at once is FAIL."""
        if self.talks:
            async with ScriptedServer.close_early() as server:
                self.expect_fail(await self.run(server.target(), 1.0))

    # -- manners

    async def test_cancelling_ends_it_at_once(self) -> None:
        """A cancelled check stops and leaves nothing behind."""
        if not self.talks:
            return
        async with ScriptedServer.accept_then_silence() as server:
            await self.run(server.target(), 0.1)
            async with _nothing_left():
                task = asyncio.create_task(run_check(self.checker(), server.target(), 30.0))
                await asyncio.sleep(0.05)
                task.cancel()
                done, _ = await asyncio.wait([task], timeout=_GRACE)
                assert done, "the check goes on after it was cancelled"
                assert task.cancelled(), "the check swallowed its cancellation"
                await _settled(server)

    async def test_leaves_nothing_behind(self) -> None:
        """No descriptor, task, thread or child outlives a check."""
        if not self.speaks_tcp:
            return
        async with ScriptedServer.close_early() as server:
            await self.run(server.target(), 0.3)  # what is made once, is made now
            await _settled(server)
            async with _nothing_left():
                for _ in range(5):
                    await self.run(server.target(), 0.3)
                await _settled(server)

    async def run(self, target: Target, timeout: float = 1.0) -> CheckResult:
        """Run the check once, watching what it prints and how long it takes."""
        out, err = io.StringIO(), io.StringIO()
        start = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            result = await run_check(self.checker(), target, timeout)
        took = time.monotonic() - start
        assert not out.getvalue() + err.getvalue(), "a checker prints nothing; use ctx.note"
        assert took < timeout + _GRACE, f"{took:.2f} s for a time-out of {timeout:g} s"
        return result

    def expect_fail(self, result: CheckResult) -> None:
        """FAIL, with a status of the taxonomy and a reason in printable characters."""
        assert result.verdict is Verdict.FAIL, f"{result.verdict}: {result.detail}"
        assert isinstance(result.status, Status), f"{result.status!r} is no Status"
        assert not result.status.endswith("OK"), f"a failure with the status {result.status}"
        assert result.detail, "a failure without a reason"
        assert result.detail.isprintable(), f"control characters in {result.detail!r}"
        assert len(result.detail) <= 1000, "a reason of more than 1000 characters"


@contextlib.asynccontextmanager
async def _nothing_left() -> AsyncIterator[None]:
    before = _held()
    yield
    after = _held()
    for what, count in before.items():
        assert after[what] <= count, f"{after[what] - count} {what} left behind"


async def _settled(server: ScriptedServer) -> None:
    """Wait until the server's own end of the connections is gone and callbacks have run."""
    for _ in range(100):
        if not server.busy:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


def _held() -> dict[str, int]:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "children": len(children.read_text().split()) if children.exists() else 0,
    }
