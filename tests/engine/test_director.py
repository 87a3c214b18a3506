"""From checks, an operator and a table that is found to the table that should be."""

import asyncio
import time
from dataclasses import replace

import pytest

from lbhealth.engine import Director
from lbhealth.errors import UnknownServer
from lbhealth.events import (
    AdminChanged,
    CheckerTrouble,
    ConfigReloaded,
    DriverChanged,
    EventsLost,
    FallbackChanged,
    ServerTransition,
)
from lbhealth.model import (
    AdminState,
    Fallback,
    Forwarding,
    FwmarkKey,
    HealthState,
    InetKey,
    OnDown,
    Schedule,
    TransportProtocol,
    Verdict,
)
from lbhealth.plan import OpKind
from tests.engine.kit import (
    FAST,
    KEY,
    OTHER,
    FaultyDriver,
    Switch,
    config,
    entry,
    http,
    listen,
    of,
    real,
    reals,
    row,
    statuses,
    table,
    tcp,
    until,
    virtual,
)

ONLINE, DRAIN, HALT = AdminState
UP, DOWN, UNKNOWN = HealthState
PASS, FAIL, ERROR = Verdict

ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"
SORRY = Fallback(address="127.0.0.1", port=8080, forwarding=Forwarding.MASQ)
THREE_FAILURES = replace(FAST, fall=3)


class TestColdStart:
    async def test_nothing_goes_live_unchecked(self, direct, start_server):
        silent = await start_server(greet=lambda transport: None)
        silent.reply = lambda transport: None
        good = await start_server()
        director, driver = await direct(config(virtual(*reals(http(silent), tcp(good)))))
        await until(lambda: driver.weights() == {TWO: 1})
        assert not director.ready
        silent.reply = good.reply
        for transport in tuple(silent.open):
            silent.reply(transport)
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        assert director.ready

    async def test_a_server_without_checks_goes_live_at_once(self, direct):
        director, driver = await direct(config(virtual(real(weight=7))))
        await until(lambda: driver.weights() == {ONE: 7})
        assert director.ready

    async def test_a_server_that_fails_at_first_is_not_added(self, direct):
        director, driver = await direct(config(virtual(real(Switch(FAIL)))))
        await until(lambda: director.ready and driver.weights() is not None)
        assert driver.weights() == {}
        assert statuses(director)[ONE].health is DOWN

    async def test_it_is_not_ready_before_it_has_begun(self):
        assert not Director(config(), FaultyDriver()).ready

    async def test_a_row_found_serving_needs_fall_failures(self, direct):
        switch = Switch(FAIL)
        found = table(entry(row(weight=5)))
        servers = virtual(real(switch, weight=5, schedule=THREE_FAILURES))
        director, driver = await direct(config(servers), found)
        assert statuses(director)[ONE].health is UP
        await until(lambda: driver.weights() == {ONE: 0})
        assert switch.runs >= 3
        assert [op.destination.weight for op in driver.log] == [0]

    async def test_a_row_found_at_weight_zero_needs_rise_passes(self, direct):
        switch = Switch()
        servers = virtual(real(switch, weight=5, schedule=replace(FAST, rise=3)))
        director, driver = await direct(config(servers), table(entry(row(weight=0))))
        assert statuses(director)[ONE].health is DOWN
        await until(lambda: driver.weights() == {ONE: 5})
        assert switch.runs >= 3
        assert len(driver.log) == 1

    @pytest.mark.parametrize("weight", [0, 3])
    async def test_an_error_leaves_a_row_as_it_was_found(self, direct, weight):
        switch = Switch(ERROR)
        found = table(entry(row(weight=weight)))
        director, driver = await direct(config(virtual(*reals(switch, Switch()))), found)
        await until(lambda: switch.runs > 3 and driver.weights().get(TWO))
        assert driver.weights()[ONE] == weight
        assert not director.ready

    async def test_a_server_that_serves_anywhere_counts_as_up(self, direct):
        """Its check is one, whatever the first service says."""
        for keys in ((KEY, OTHER), (OTHER, KEY)):
            switch = Switch(FAIL)
            found = table(entry(row(weight=0), key=KEY), entry(row(weight=1), key=OTHER))
            services = [virtual(real(switch, schedule=THREE_FAILURES), key=key) for key in keys]
            _, driver = await direct(config(*services), found)
            await until(lambda driver=driver: driver.weights(OTHER) == {ONE: 0})
            assert switch.runs >= 3
            assert len(driver.log) == 1

    async def test_the_fallback_waits_for_every_verdict(self, direct):
        late = Switch(ERROR)
        service = virtual(*reals(Switch(FAIL), late), fallback=SORRY)
        director, driver = await direct(config(service))
        await until(lambda: statuses(director)[ONE].health is DOWN and late.runs > 2)
        assert driver.weights() == {}
        late.says = FAIL
        await until(lambda: driver.weights() == {SORRY.name: 1})
        assert director.snapshot().services[0].fallback.active

    async def test_a_restart_moves_no_traffic(self, direct):
        """Whatever the first director left, the second does nothing to it."""
        service = virtual(*reals(Switch(), Switch(FAIL)), fallback=SORRY, scheduler="wlc")
        found = table(entry(row("10.0.0.2", weight=1), scheduler="wlc"))
        first = FaultyDriver(found)
        async with Director(config(service), first):
            await until(lambda: first.weights() == {ONE: 1, TWO: 0})
        director, second = await direct(config(service), dict(first.table))
        await until(lambda: director.ready)
        await asyncio.sleep(0.2)
        assert second.log == []
        assert second.weights() == {ONE: 1, TWO: 0}


class TestTransitions:
    async def test_a_server_comes_and_goes(self, direct, start_server):
        servers = [await start_server() for _ in range(2)]
        director, driver = await direct(config(virtual(*reals(*servers, weight=3))))
        events, _ = listen(director)
        await until(lambda: driver.weights() == {ONE: 3, TWO: 3})
        await servers[0].down()
        await until(lambda: driver.weights() == {ONE: 0, TWO: 3})
        status = statuses(director)[ONE]
        assert (status.health, status.weight.applied) == (DOWN, 0)
        assert "connection refused" in status.why
        await servers[0].up()
        await until(lambda: driver.weights() == {ONE: 3, TWO: 3})
        told = [(e.server, e.old, e.new) for e in of(events, ServerTransition)]
        assert [t for t in told if t[0] == ONE] == [
            (ONE, UNKNOWN, UP),
            (ONE, UP, DOWN),
            (ONE, DOWN, UP),
        ]

    async def test_a_failed_server_is_removed_where_so_configured(self, direct):
        switch = Switch()
        service = virtual(*reals(switch, Switch()), on_down=OnDown.REMOVE)
        _, driver = await direct(config(service))
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        switch.says = FAIL
        await until(lambda: driver.weights() == {TWO: 1})

    async def test_one_check_serves_many_services(self, direct):
        switch = Switch()
        services = [virtual(real(switch), key=key) for key in (KEY, OTHER)]
        director, driver = await direct(config(*services))
        assert director.snapshot().checks == 1
        await until(lambda: driver.weights(KEY) == driver.weights(OTHER) == {ONE: 1})
        switch.says = FAIL
        await until(lambda: driver.weights(KEY) == driver.weights(OTHER) == {ONE: 0})

    async def test_all_checks_of_a_server_must_pass(self, direct):
        first, second = Switch(), Switch()
        server = replace(real(first), checks=(first.check_of(), second.check_of()))
        _, driver = await direct(config(virtual(server)))
        await until(lambda: driver.weights() == {ONE: 1})
        second.says = FAIL
        await until(lambda: driver.weights() == {ONE: 0})
        second.says = PASS
        await until(lambda: driver.weights() == {ONE: 1})
        first.says = FAIL
        await until(lambda: driver.weights() == {ONE: 0})

    async def test_an_error_changes_no_state_and_is_told_once(self, direct):
        switch = Switch()
        director, driver = await direct(config(virtual(real(switch))))
        events, _ = listen(director)
        await until(lambda: driver.weights() == {ONE: 1})
        switch.says = RuntimeError("a bug")
        runs = switch.runs
        await until(lambda: switch.runs > runs + 4)
        assert driver.weights() == {ONE: 1}
        switch.says = PASS
        await until(lambda: len(of(events, CheckerTrouble)) == 2)
        assert [e.ok for e in of(events, CheckerTrouble)] == [False, True]
        assert "a bug" in of(events, CheckerTrouble)[0].detail
        assert of(events, ServerTransition)[1:] == []

    async def test_the_fallback_comes_and_goes(self, direct):
        switches = Switch(), Switch()
        director, driver = await direct(config(virtual(*reals(*switches), fallback=SORRY)))
        events, _ = listen(director)
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        for switch in switches:
            switch.says = FAIL
        await until(lambda: driver.weights() == {ONE: 0, TWO: 0, SORRY.name: 1})
        switches[1].says = PASS
        await until(lambda: driver.weights() == {ONE: 0, TWO: 1})
        assert [e.active for e in of(events, FallbackChanged)] == [True, False]

    async def test_capacity_is_added_before_it_is_taken_away(self, direct):
        switches = Switch(), Switch(FAIL)
        _, driver = await direct(config(virtual(*reals(*switches), fallback=SORRY)))
        await until(lambda: driver.weights() == {ONE: 1})
        del driver.log[:]
        switches[0].says = FAIL
        await until(lambda: len(driver.log) == 2)
        assert [op.kind for op in driver.log] == [
            OpKind.ADD_DESTINATION,
            OpKind.LOWER_DESTINATION,
        ]

    async def test_min_up_keeps_failed_servers(self, direct):
        switches = [Switch() for _ in range(4)]
        director, driver = await direct(config(virtual(*reals(*switches), min_up=0.5)))
        await until(lambda: len(driver.weights() or ()) == 4)
        for switch in switches:
            switch.says = FAIL
        await until(lambda: all(s.health is DOWN for s in statuses(director).values()))
        await until(lambda: sorted(driver.weights().values()) == [0, 0, 1, 1])


class TestOperator:
    @pytest.fixture
    async def pool(self, direct):
        """Two servers that are up: the director, its driver and the events."""
        switches = Switch(), Switch()
        director, driver = await direct(config(virtual(*reals(*switches, weight=4))))
        events, _ = listen(director)
        await until(lambda: driver.weights() == {ONE: 4, TWO: 4})
        return director, driver, events, switches

    async def test_drain_halt_and_online(self, pool):
        director, driver, events, _ = pool
        assert director.set_admin(ONE, DRAIN, reason="disk", actor="ann") == 1
        await until(lambda: driver.weights() == {ONE: 0, TWO: 4})
        status = statuses(director)[ONE]
        assert (status.admin.state, status.health) == (DRAIN, UP)
        assert "disk" in status.why
        director.set_admin(ONE, HALT)
        await until(lambda: driver.weights() == {TWO: 4})
        assert statuses(director)[ONE].weight.applied is None
        director.set_admin(ONE, ONLINE)
        await until(lambda: driver.weights() == {ONE: 4, TWO: 4})
        told = of(events, AdminChanged)
        assert [e.state for e in told] == [DRAIN, HALT, ONLINE]
        assert (told[0].reason, told[0].actor, told[0].until) == ("disk", "ann", None)

    async def test_checks_go_on_while_a_server_is_offline(self, pool):
        director, driver, _, (switch, _) = pool
        director.set_admin(ONE, HALT)
        switch.says = FAIL
        await until(lambda: statuses(director)[ONE].health is DOWN)
        director.set_admin(ONE, ONLINE)
        await until(lambda: "broken" in statuses(director)[ONE].why)
        assert driver.weights() == {TWO: 4}
        switch.says = PASS
        await until(lambda: driver.weights() == {ONE: 4, TWO: 4})

    async def test_taking_all_offline_brings_no_fallback(self, direct):
        service = virtual(*reals(Switch(), Switch()), fallback=SORRY)
        director, driver = await direct(config(service))
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        for name in (ONE, TWO):
            director.set_admin(name, HALT)
        await until(lambda: driver.weights() == {})
        assert not director.snapshot().services[0].fallback.active

    async def test_until_brings_it_back(self, pool):
        director, driver, events, _ = pool
        director.set_admin(ONE, DRAIN, until=time.time() + 0.3)
        await until(lambda: driver.weights() == {ONE: 0, TWO: 4})
        await until(lambda: driver.weights() == {ONE: 4, TWO: 4})
        back = of(events, AdminChanged)[-1]
        assert (back.state, back.actor) == (ONLINE, "lbhealth")

    async def test_a_newer_word_cancels_the_expiry_of_an_older(self, pool):
        director, driver, events, _ = pool
        director.set_admin(ONE, DRAIN, until=time.time() + 0.1)
        director.set_admin(ONE, HALT)
        await until(lambda: driver.weights() == {TWO: 4})
        await asyncio.sleep(0.2)
        assert [e.state for e in of(events, AdminChanged)] == [DRAIN, HALT]

    async def test_names(self, direct):
        v6 = InetKey(TransportProtocol.TCP, "2001:db8::10", 443)
        services = [
            replace(virtual(real(), key=KEY), name="web"),
            virtual(real(), key=OTHER),
            virtual(real(address="2001:db8::1", port=443), key=v6),
            virtual(real(), key=FwmarkKey(5)),
        ]
        director, _ = await direct(config(*services))

        def concerned(name):
            return director.set_admin(name, DRAIN)

        assert concerned(ONE) == 3
        assert concerned("010.0.0.1:80".lstrip("0")) == 3
        assert concerned(f"tcp:192.0.2.10:80/{ONE}") == 1
        assert concerned(f"web/{ONE}") == 1
        assert concerned(f"fwm:5/{ONE}") == 1
        assert concerned("[2001:db8::1]:443") == 1
        assert concerned("[2001:DB8:0::1]:443") == 1
        assert concerned("tcp:[2001:DB8::10]:443/[2001:db8:0:0::1]:443") == 1

    @pytest.mark.parametrize(
        "name",
        ["10.0.0.1:81", "10.0.0.1", "", "/", "nonsense", f"tcp:192.0.2.99:80/{ONE}", "[::1]:80"],
    )
    async def test_an_unknown_name(self, pool, name):
        director, driver, events, _ = pool
        with pytest.raises(UnknownServer) as caught:
            director.set_admin(name, HALT)
        if name.startswith("10.0.0.1"):
            assert ONE in str(caught.value)
        assert driver.weights() == {ONE: 4, TWO: 4}
        assert of(events, AdminChanged) == []


class TestReload:
    async def test_an_unchanged_service_is_left_alone(self, direct):
        switch = Switch()
        before = config(virtual(real(switch)))
        director, driver = await direct(before)
        await until(lambda: driver.weights() == {ONE: 1})
        runtime = director.services[KEY]
        running = runtime.servers["10.0.0.1", 80].checks[0]
        del driver.log[:]
        told = await director.reload(config(virtual(real(switch))))
        assert (told.added, told.changed, told.removed, told.unchanged) == (0, 0, 0, 1)
        assert director.services[KEY] is runtime
        assert runtime.servers["10.0.0.1", 80].checks == (running,)
        runs = switch.runs
        await until(lambda: switch.runs > runs)
        assert driver.log == []

    async def test_a_changed_weight_is_one_edit(self, direct):
        switches = Switch(), Switch()
        director, driver = await direct(config(virtual(*reals(*switches))))
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        checks = [s.checks for s in director.services[KEY].servers.values()]
        del driver.log[:]
        servers = reals(*switches)
        told = await director.reload(config(virtual(replace(servers[0], weight=9), servers[1])))
        await until(lambda: driver.weights() == {ONE: 9, TWO: 1})
        assert told.changed == 1
        assert [(op.kind, op.destination.name) for op in driver.log] == [
            (OpKind.RAISE_DESTINATION, ONE)
        ]
        assert [s.checks for s in director.services[KEY].servers.values()] == checks

    async def test_services_come_and_go(self, direct):
        director, driver = await direct(config(virtual(real(Switch()))))
        events, _ = listen(director)
        await until(lambda: driver.weights() == {ONE: 1})
        await director.reload(config(virtual(real(Switch()), key=OTHER)))
        await until(lambda: driver.weights(OTHER) == {ONE: 1} and KEY not in driver.table)
        assert director.snapshot().checks == 1
        told = of(events, ConfigReloaded)[-1]
        assert (told.added, told.removed) == (1, 1)
        await director.reload(config())
        await until(lambda: not driver.table)
        assert director.snapshot().checks == 0
        assert director.ready

    async def test_a_removed_server_is_a_stranger_or_pruned(self, direct):
        for prune in (False, True):
            switches = Switch(), Switch()
            director, driver = await direct(config(virtual(*reals(*switches)), prune=prune))
            await until(lambda driver=driver: driver.weights() == {ONE: 1, TWO: 1})
            await director.reload(config(virtual(*reals(switches[0])), prune=prune))
            wanted = {ONE: 1} if prune else {ONE: 1, TWO: 1}
            await until(lambda driver=driver, wanted=wanted: driver.weights() == wanted)

    async def test_a_new_service_is_adopted_as_it_is_found(self, direct):
        """As at the start: a row that serves needs `fall` failures."""
        director, driver = await direct(config(), table(entry(row(weight=1))))
        switch = Switch(FAIL)
        await director.reload(config(virtual(real(switch, schedule=THREE_FAILURES))))
        await until(lambda: driver.weights() == {ONE: 0})
        assert switch.runs >= 3
        assert [op.kind for op in driver.log] == [OpKind.LOWER_DESTINATION]

    @pytest.mark.parametrize("state", [DRAIN, HALT])
    async def test_the_operators_word_stays(self, direct, state):
        switch = Switch()
        director, driver = await direct(config(virtual(real(switch))))
        await until(lambda: driver.weights() == {ONE: 1})
        director.set_admin(ONE, state, reason="disk", until=time.time() + 0.6)
        taken = {DRAIN: {ONE: 0}, HALT: {}}[state]
        await until(lambda: driver.weights() == taken)
        await director.reload(config(virtual(real(switch, weight=5))))
        assert statuses(director)[ONE].admin.reason == "disk"
        await until(lambda: statuses(director)[ONE].weight.configured == 5)
        assert driver.weights() == taken
        await until(lambda: driver.weights() == {ONE: 5})

    async def test_a_word_that_comes_while_it_reloads_is_kept(self, direct):
        servers = [real(address=f"10.0.{n // 250}.{n % 250}") for n in range(4000)]
        director, _ = await direct(config(virtual(*servers)))
        heavier = [replace(server, weight=2) for server in servers]
        reloading = asyncio.create_task(director.reload(config(virtual(*heavier))))
        said = []
        while not reloading.done():
            name = servers[len(said)].name
            director.set_admin(name, DRAIN)
            said.append(name)
            await asyncio.sleep(0)
        offline = [name for name, s in statuses(director).items() if s.admin.state is DRAIN]
        assert offline == said
        assert len(said) > 1

    async def test_a_new_schedule_keeps_health(self, direct):
        switch = Switch()
        director, driver = await direct(config(virtual(*reals(switch, Switch()))))
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})
        switch.says = FAIL
        await until(lambda: driver.weights() == {ONE: 0, TWO: 1})
        slow = Schedule(interval=60.0, rise=2, fall=3)
        del driver.log[:]
        await director.reload(config(virtual(*reals(switch, Switch(), schedule=slow))))
        assert statuses(director)[ONE].health is DOWN
        await asyncio.sleep(0.2)
        assert [op for op in driver.log if op.destination.name == ONE] == []

    async def test_early_and_many_reloads_wait_for_each_other(self):
        switches = Switch(), Switch()
        driver = FaultyDriver()
        driver.answers.clear()
        first, last = (config(virtual(*reals(*switches, weight=w))) for w in (1, 3))
        director = Director(first, driver)

        async def live():
            async with director:
                await until(lambda: driver.weights() == {ONE: 3, TWO: 3})
                assert director.ready

        living = asyncio.create_task(live())
        await asyncio.sleep(0)
        reloads = [asyncio.create_task(director.reload(c)) for c in (last, first, last)]
        await asyncio.sleep(0)
        driver.answers.set()
        await asyncio.gather(living, *reloads)

    async def test_the_fallback_can_be_taken_away(self, direct):
        switch = Switch(FAIL)
        director, driver = await direct(config(virtual(real(switch), fallback=SORRY), prune=True))
        await until(lambda: driver.weights() == {SORRY.name: 1})
        await director.reload(config(virtual(real(switch)), prune=True))
        await until(lambda: driver.weights() == {})


class TestStop:
    async def test_the_table_stays(self, direct):
        driver = FaultyDriver()
        async with Director(config(virtual(real(Switch()))), driver):
            await until(lambda: driver.weights() == {ONE: 1})
        assert driver.weights() == {ONE: 1}
        assert driver.closed

    async def test_clean_stop_removes_the_services_that_ask_for_it(self):
        driver = FaultyDriver(table(entry(row(), key=InetKey("tcp", "192.0.2.99", 80))))
        services = [
            virtual(real(Switch()), clean_stop=True),
            virtual(real(Switch()), key=OTHER),
        ]
        async with Director(config(*services), driver):
            await until(lambda: driver.weights(KEY) == driver.weights(OTHER) == {ONE: 1})
        assert KEY not in driver.table
        assert driver.weights(OTHER) == {ONE: 1}
        assert len(driver.table) == 2

    async def test_a_clean_stop_that_fails_ends_all_the_same(self):
        driver = FaultyDriver()
        director = Director(config(virtual(real(Switch()), clean_stop=True)), driver)
        async with director:
            events, task = listen(director)
            await until(lambda: driver.weights() == {ONE: 1})
            driver.break_down()
        await task
        assert driver.closed
        assert [e.ok for e in of(events, DriverChanged)] == [False]

    async def test_events_end_with_the_director(self):
        director = Director(config(virtual(real(Switch()))), FaultyDriver())
        async with director:
            before = director.events()
        assert [e async for e in director.events()] == []
        assert all([e async for e in before])

    async def test_no_task_stays_behind(self, start_server):
        server = await start_server()
        before = asyncio.all_tasks()
        async with Director(config(virtual(*reals(server, Switch()))), FaultyDriver()) as director:
            await until(lambda: director.ready)
            director.set_admin(ONE, DRAIN, until=time.time() + 60)
        assert asyncio.all_tasks() == before


class TestEvents:
    async def test_a_slow_reader_loses_the_oldest_and_is_told(self, direct):
        director, _ = await direct(config(virtual(real())))
        slow, fast = director.events(), director.events()
        for n in range(1500):
            director.set_admin(ONE, DRAIN, reason=str(n))
        lost = await anext(slow)
        assert isinstance(lost, EventsLost)
        assert lost.count >= 500
        first = await anext(slow)
        assert first.reason == str(1500 - 1000)
        director.set_admin(ONE, DRAIN, reason="last")
        reasons = []
        while "last" not in reasons:
            event = await anext(slow)
            reasons.append(getattr(event, "reason", None))
        assert isinstance(await anext(fast), EventsLost)

    async def test_a_reader_that_stops_is_forgotten(self, direct):
        director, _ = await direct(config(virtual(real())))
        for _ in range(10):
            reader = director.events()
            director.set_admin(ONE, DRAIN)
            await anext(reader)
            await reader.aclose()
        assert len(director._bus._subscribers) == 0


class TestSnapshot:
    async def test_says_what_is_known(self, direct):
        switch = Switch()
        service = replace(virtual(real(switch, weight=3), fallback=SORRY), name="web")
        director, driver = await direct(config(service))
        await until(lambda: driver.weights() == {ONE: 3})
        snapshot = director.snapshot()
        assert snapshot.ready
        assert snapshot.driver.ok
        assert snapshot.checks == 1
        (web,) = snapshot.services
        assert (web.key, web.name, web.scheduler) == (KEY, "web", "wrr")
        assert (web.fallback.address, web.fallback.active) == (SORRY.name, False)
        (server,) = web.real
        assert (server.server, server.health) == (ONE, UP)
        assert (server.weight.configured, server.weight.applied) == (3, 3)
        assert server.last.verdict is PASS
        assert abs(server.since - time.time()) < 60
        assert server.age >= 0

    async def test_before_the_first_verdict(self, direct):
        director, _ = await direct(config(virtual(real(Switch(ERROR)))))
        (server,) = director.snapshot().services[0].real
        assert (server.health, server.since, server.last) == (UNKNOWN, None, None)
        assert server.weight.applied is None


class TestTwoInOneProcess:
    async def test_do_not_interfere(self, direct):
        driver, switch = FaultyDriver(), Switch()
        first, _ = await direct(config(virtual(real(switch)), resync=0.1), driver)
        second, _ = await direct(config(virtual(real(switch), key=OTHER), resync=0.1), driver)
        await until(lambda: driver.weights(KEY) == driver.weights(OTHER) == {ONE: 1})
        first.set_admin(ONE, HALT)
        await until(lambda: driver.weights(KEY) == {})
        dumps = driver.dumps
        await until(lambda: driver.dumps > dumps + 4)
        assert driver.weights(OTHER) == {ONE: 1}
        assert statuses(second)[ONE].admin.state is ONLINE
        assert {op.service.key for op in driver.log} == {KEY, OTHER}
