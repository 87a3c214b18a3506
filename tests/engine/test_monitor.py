"""Checks in their slots, and health that follows from their results."""

import asyncio
import select
from dataclasses import replace
from itertools import groupby

import pytest

from lbhealth.checkers.tcp import Tcp
from lbhealth.engine.monitor import Monitor
from lbhealth.engine.wheel import SLOT
from lbhealth.health import ADOPTED_DOWN, ADOPTED_UP
from lbhealth.model import HealthState, Hybrid, Schedule, Status, Verdict
from tests.engine.kit import FAST, Switch, hang, http, response, say, tcp, until

UP, DOWN, UNKNOWN = HealthState
PASS, FAIL, ERROR = Verdict
STEADY = Schedule(interval=60.0, timeout=5.0, rise=2, fall=3, fast_interval=0.1)


def hold_up(seconds):
    """Block the event loop, as a garbage collection or a bad plug-in would."""
    select.select([], [], [], seconds)


class TestIdentity:
    async def test_equal_checks_run_once(self, server, monitor):
        first, second = monitor.add(tcp(server)), monitor.add(tcp(server))
        assert first is second
        assert monitor.get(tcp(server)) is first
        assert len(monitor.checks) == 1

    async def test_checks_that_differ_in_anything_run_apart(self, server, monitor):
        same = http(server)
        others = [
            replace(same, checker=replace(same.checker, path="/other")),
            replace(same, target=replace(same.target, source="127.0.0.1")),
            replace(same, schedule=replace(same.schedule, fall=2)),
            tcp(server),
        ]
        running = {monitor.add(check) for check in (same, *others)}
        assert len(running) == 5
        await until(lambda: all(r.passes for r in running))

    async def test_a_removed_check_runs_no_more_and_says_nothing(self, start_server, monitor):
        server = await start_server(reply=hang)
        running = monitor.add(http(server))
        await until(lambda: server.requests)
        monitor.remove(running)
        for transport in tuple(server.open):
            transport.write(response())
        await until(lambda: not running.busy)
        await asyncio.sleep(4 * SLOT)
        assert len(server.requests) == 1
        assert monitor.told == []
        assert monitor.get(http(server)) is None

    async def test_nothing_is_told_after_the_end(self, start_server):
        told = []
        monitor = Monitor(lambda *change: told.append(change))
        monitor.start()
        server = await start_server(reply=hang)
        switch = Switch()
        monitor.add(http(server))
        await until(lambda: server.requests)
        await monitor.aclose()
        monitor.add(switch.check_of())
        await asyncio.sleep(4 * SLOT)
        assert told == []
        assert switch.runs == 0


class TestHealth:
    @pytest.mark.parametrize(("says", "state"), [(PASS, UP), (FAIL, DOWN)])
    async def test_the_first_verdict_decides_on_an_unknown_server(self, monitor, says, state):
        switch = Switch(says)
        running = monitor.add(switch.check_of(STEADY))
        await until(lambda: running.health.confirmed)
        assert running.health.state is state
        assert switch.runs == 1

    async def test_a_server_found_serving_needs_fall_failures(self, monitor):
        running = monitor.add(Switch(FAIL).check_of(STEADY), ADOPTED_UP)
        await until(lambda: running.health.state is DOWN)
        assert running.failures == STEADY.fall

    async def test_a_server_found_at_weight_zero_needs_rise_passes(self, monitor):
        running = monitor.add(Switch(PASS).check_of(STEADY), ADOPTED_DOWN)
        await until(lambda: running.health.state is UP)
        assert running.passes == STEADY.rise

    async def test_a_pending_change_is_followed_up_at_the_fast_interval(self, monitor):
        """At the interval of a minute the test would never end."""
        switch = Switch()
        running = monitor.add(switch.check_of(replace(STEADY, interval=0.5)))
        await until(lambda: running.health.state is UP)
        switch.says = FAIL
        await until(lambda: running.failures == 1)
        assert running.bucket.period == 2
        await until(lambda: running.health.state is DOWN)
        assert running.failures == STEADY.fall
        assert running.bucket.period == 10
        switch.says = PASS
        await until(lambda: running.health.streak == 1)
        assert running.bucket.period == 2
        await until(lambda: running.health.state is UP)

    async def test_the_fast_interval_is_never_longer_than_the_interval(self, monitor):
        schedule = Schedule(interval=0.1, timeout=1.0, rise=3, fast_interval=60.0)
        running = monitor.add(Switch(PASS).check_of(schedule), ADOPTED_DOWN)
        await until(lambda: running.health.state is UP)

    async def test_a_failure_in_between_starts_the_count_anew(self, monitor):
        switch = Switch()
        running = monitor.add(switch.check_of(replace(FAST, fall=3)))
        await until(lambda: running.passes)
        for _ in range(3):
            switch.says = FAIL
            await until(lambda: running.health.streak == 2)
            switch.says = PASS
            await until(lambda: running.health.streak == 0)
        assert running.health.state is UP
        assert [transition for _, transition in monitor.told if transition][1:] == []

    @pytest.mark.parametrize("adopted", [ADOPTED_UP, ADOPTED_DOWN])
    async def test_an_error_leaves_the_state_as_found(self, monitor, adopted):
        running = monitor.add(Switch(ERROR).check_of(), adopted)
        await until(lambda: running.errors >= 3)
        assert (running.health.state, running.health.confirmed) == (adopted.state, False)
        assert [transition for _, transition in monitor.told] == [None]

    async def test_a_steady_pass_tells_nobody_anything(self, server, monitor):
        running = monitor.add(tcp(server))
        await until(lambda: running.passes)
        told, first = len(monitor.told), running.last
        await until(lambda: running.passes > 5)
        assert len(monitor.told) == told
        assert running.last.started > first.started


class TestHybrid:
    """Cheap connects between negotiations, as seen by the server."""

    @pytest.fixture
    async def kinds(self, start_server):
        """A server that notes for each connection whether a request came on it."""
        server = await start_server()
        server.kinds = []

        def greet(transport):
            server.kinds.append("connect")

        def reply(transport):
            server.kinds[-1] = "negotiate"
            transport.write(server.answer)

        server.greet, server.reply, server.answer = greet, reply, response()
        return server

    @pytest.fixture
    def hybrid(self, kinds, monitor):
        return monitor.add(replace(http(kinds), hybrid=Hybrid(3, Tcp(), 5.0)))

    @staticmethod
    async def seen(server, running):
        """What the server saw of the checks that are over."""
        over = running.passes + running.failures
        await until(lambda: len(server.kinds) >= over)
        return server.kinds[:over]

    async def test_begins_with_a_negotiation_and_repeats_it_after_so_many_connects(
        self, kinds, hybrid
    ):
        await until(lambda: hybrid.passes >= 9)
        assert (await self.seen(kinds, hybrid))[:9] == [
            "negotiate",
            *["connect"] * 3,
            "negotiate",
            *["connect"] * 3,
            "negotiate",
        ]
        assert hybrid.health.state is UP

    async def test_negotiates_while_it_fails_and_once_more_after(self, kinds, hybrid):
        await until(lambda: hybrid.passes >= 1)
        kinds.answer = response(b"", "500 Oops")
        await until(lambda: hybrid.failures >= 3)
        kinds.answer = response()
        await until(lambda: hybrid.health.state is UP and hybrid.last.status is Status.L4OK)
        groups = [kind for kind, _ in groupby(await self.seen(kinds, hybrid))]
        assert groups == ["negotiate", "connect", "negotiate", "connect"]

    async def test_a_refused_connect_is_followed_by_a_negotiation(self, kinds, hybrid):
        await until(lambda: hybrid.passes >= 2)
        await kinds.down()
        await until(lambda: hybrid.failures >= 2)
        assert hybrid.jobs[0] is hybrid.job
        kinds.kinds.clear()
        await kinds.up()
        await until(lambda: kinds.kinds)
        await until(lambda: hybrid.health.state is UP)
        assert kinds.kinds[0] == "negotiate"


class TestLateSlots:
    async def test_a_short_stall_loses_no_check(self, monitor):
        switch = Switch()
        running = monitor.add(switch.check_of(replace(FAST, interval=3 * SLOT)))
        await until(lambda: running.passes)
        hold_up(3 * SLOT)
        runs = switch.runs
        await until(lambda: switch.runs > runs + 2)
        assert monitor.lag.skipped == 0
        assert monitor.lag.worst >= 2 * SLOT

    async def test_after_a_long_stall_there_is_no_burst(self, monitor):
        """Of the checks that a second of silence swallowed, one slot's worth or so is run."""
        switches = [Switch() for _ in range(40)]
        every = replace(FAST, interval=20 * SLOT, fast_interval=20 * SLOT)
        running = [monitor.add(switch.check_of(every)) for switch in switches]
        await until(lambda: all(r.passes for r in running))
        before = sum(switch.runs for switch in switches)
        hold_up(1.0)
        await until(lambda: sum(switch.runs for switch in switches) > before)
        await asyncio.sleep(0)
        assert sum(switch.runs for switch in switches) - before <= 20
        assert monitor.lag.skipped >= 20
        assert monitor.lag.worst >= 0.9
        await until(lambda: all(r.passes >= 2 for r in running))

    async def test_a_check_never_overlaps_itself(self, start_server, monitor):
        server = await start_server(reply=hang)
        running = monitor.add(http(server, replace(FAST, interval=SLOT)))
        await until(lambda: running.skipped >= 3)
        assert len(server.requests) == 1
        server.reply = say(response())
        for transport in tuple(server.open):
            transport.write(response())
        await until(lambda: running.passes >= 3)
        assert len(server.open) <= 1
        assert running.failures == 0

    async def test_checks_keep_their_phase(self, monitor):
        moments = []

        class Clocked(Switch):
            async def check(self, target, ctx):
                moments.append(asyncio.get_running_loop().time())
                return await super().check(target, ctx)

        running = monitor.add(Clocked().check_of(replace(FAST, interval=4 * SLOT)))
        await until(lambda: running.passes >= 6)
        drift = [(m - moments[0]) / (4 * SLOT) for m in moments]
        assert max(abs(d - round(d)) for d in drift) < 0.5 or monitor.lag.worst > SLOT
