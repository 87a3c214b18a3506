"""The kernel's table: drift, strangers, faults of the driver."""

import asyncio
from dataclasses import replace

import pytest

from lbhealth.engine import Director
from lbhealth.errors import DriverPermissionError
from lbhealth.events import (
    ConfigReloaded,
    DriftHealed,
    DriverChanged,
    OperationRefused,
    ServerTransition,
    StrangerFound,
)
from lbhealth.model import AdminState, HealthState, InetKey, TransportProtocol, Verdict
from lbhealth.plan import Op, OpKind
from tests.engine.kit import (
    KEY,
    OTHER,
    FaultyDriver,
    Switch,
    config,
    entry,
    listen,
    of,
    real,
    reals,
    row,
    statuses,
    table,
    until,
    virtual,
)

PASS, FAIL, ERROR = Verdict
ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"
STRANGER = row("10.9.9.9", weight=8)
FOREIGN = InetKey(TransportProtocol.TCP, "192.0.2.99", 80)


def edit(kind, destination=None, key=KEY, **settings):
    """An operation that somebody else does on a service of ours."""
    return Op(kind, replace(entry(key=key).service, **settings), destination)


@pytest.fixture
async def pool(direct):
    """One server up; the table is compared ten times a second."""
    switch = Switch()
    director, driver = await direct(config(virtual(real(switch, weight=4)), resync=0.1))
    events, _ = listen(director)
    await until(lambda: driver.weights() == {ONE: 4})
    return director, driver, events, switch


class TestDrift:
    @pytest.mark.parametrize(
        "drift",
        [
            edit(OpKind.LOWER_DESTINATION, row(weight=0)),
            edit(OpKind.RAISE_DESTINATION, replace(row(weight=4), upper=10)),
            edit(OpKind.DELETE_DESTINATION, row()),
            edit(OpKind.EDIT_SERVICE, scheduler="rr"),
            edit(OpKind.EDIT_SERVICE, timeout=300),
            edit(OpKind.DELETE_SERVICE),
        ],
        ids=lambda op: op.kind.name,
    )
    async def test_is_healed_and_told(self, pool, drift):
        _, driver, events, _ = pool
        right = (await driver.dump())[KEY]
        await driver.tamper(drift)
        assert driver.table.get(KEY) != right
        await until(lambda: driver.table.get(KEY) == right and of(events, DriftHealed))
        assert all(e.service == str(KEY) for e in of(events, DriftHealed))
        assert driver.weights() == {ONE: 4}

    async def test_a_table_that_is_right_is_left_alone(self, pool):
        _, driver, events, _ = pool
        del driver.log[:]
        dumps = driver.dumps
        await until(lambda: driver.dumps > dumps + 3)
        assert driver.log == []
        assert of(events, DriftHealed) == []

    async def test_our_own_changes_are_no_drift(self, pool):
        director, driver, events, switch = pool
        for _ in range(10):
            for says, state in ((FAIL, 0), (PASS, 4)):
                switch.says = says
                await until(lambda state=state: driver.weights() == {ONE: state})
        director.set_admin(ONE, AdminState.DRAIN)
        await until(lambda: driver.weights() == {ONE: 0})
        assert of(events, DriftHealed) == []

    async def test_a_change_comes_at_once_whatever_the_resync(self, direct):
        switch = Switch()
        _, driver = await direct(config(virtual(real(switch)), resync=3600))
        await until(lambda: driver.weights() == {ONE: 1})
        switch.says = FAIL
        await until(lambda: driver.weights() == {ONE: 0})
        assert driver.dumps == 1


class TestStrangers:
    async def test_are_told_once_and_left_alone(self, pool):
        _, driver, events, _ = pool
        await driver.tamper(edit(OpKind.ADD_DESTINATION, STRANGER))
        await until(lambda: of(events, StrangerFound))
        dumps = driver.dumps
        await until(lambda: driver.dumps > dumps + 3)
        assert [e.server for e in of(events, StrangerFound)] == [STRANGER.name]
        assert driver.weights() == {ONE: 4, STRANGER.name: 8}

    async def test_that_come_again_are_told_again(self, pool):
        _, driver, events, _ = pool
        for times in (1, 2):
            await driver.tamper(edit(OpKind.ADD_DESTINATION, STRANGER))
            await until(lambda times=times: len(of(events, StrangerFound)) == times)
            await driver.tamper(edit(OpKind.DELETE_DESTINATION, STRANGER))
            dumps = driver.dumps
            await until(lambda dumps=dumps: driver.dumps > dumps + 1)

    async def test_are_removed_where_pruning_is_on(self, direct):
        found = table(entry(row(), STRANGER))
        _, driver = await direct(config(virtual(real(Switch())), resync=0.1, prune=True), found)
        await until(lambda: driver.weights() == {ONE: 1})
        await driver.tamper(edit(OpKind.ADD_DESTINATION, STRANGER))
        await until(lambda: STRANGER.name in driver.weights())
        await until(lambda: driver.weights() == {ONE: 1})

    @pytest.mark.parametrize("prune", [False, True])
    async def test_foreign_services_are_never_touched(self, prune):
        found = table(entry(STRANGER, key=FOREIGN, scheduler="rr"))
        driver = FaultyDriver(found)
        service = virtual(real(Switch()), clean_stop=True)
        async with Director(config(service, resync=0.1, prune=prune), driver) as director:
            await until(lambda: driver.weights() == {ONE: 1} and driver.dumps > 3)
            await director.reload(config(virtual(real(), key=OTHER), prune=prune))
            await until(lambda: OTHER in driver.table and KEY not in driver.table)
        assert driver.table[FOREIGN] == found[FOREIGN]
        assert all(op.service.key != FOREIGN for op in driver.log)


class TestFaults:
    async def test_checks_go_on_and_it_is_told_once(self, pool):
        director, driver, events, switch = pool
        driver.break_down()
        switch.says = FAIL
        await until(lambda: statuses(director)[ONE].health is HealthState.DOWN)
        await until(lambda: not director.snapshot().driver.ok)
        assert director.snapshot().driver.detail == "no answer: try again"
        runs, dumps = switch.runs, driver.dumps
        await until(lambda: switch.runs > runs + 3 and driver.dumps > dumps)
        assert driver.weights() == {ONE: 4}
        driver.broken = None
        await until(lambda: driver.weights() == {ONE: 0})
        await until(lambda: director.snapshot().driver.ok)
        assert [e.ok for e in of(events, DriverChanged)] == [False, True]
        assert len(of(events, ServerTransition)) == 2

    async def test_what_happened_to_the_table_meanwhile_is_healed(self, pool):
        _, driver, _, _ = pool
        driver.break_down()
        await until(lambda: driver.dumps and driver.broken)
        await driver.tamper(edit(OpKind.DELETE_SERVICE))
        driver.broken = None
        await until(lambda: driver.weights() == {ONE: 4})

    @pytest.mark.parametrize(
        "error", [DriverPermissionError("not permitted"), RuntimeError("a bug in a plug-in")]
    )
    async def test_any_error_of_a_driver_is_survived(self, pool, error):
        director, driver, _, switch = pool
        driver.broken = error
        switch.says = FAIL
        await until(lambda: not director.snapshot().driver.ok)
        assert str(error) in director.snapshot().driver.detail
        driver.broken = None
        await until(lambda: driver.weights() == {ONE: 0})

    async def test_a_start_without_a_data_plane(self, direct):
        driver, switch = FaultyDriver(table(entry(row(weight=3)))), Switch()
        driver.break_down()
        director, _ = await direct(config(virtual(real(switch, weight=3))), driver)
        events, _ = listen(director)
        await until(lambda: statuses(director)[ONE].health is HealthState.UP)
        assert director.ready
        driver.broken = None
        await until(lambda: director.snapshot().driver.ok)
        assert driver.log == []
        assert [e.ok for e in of(events, DriverChanged)] == [True]

    async def test_a_driver_that_hangs_stops_no_check(self, pool):
        director, driver, _, switch = pool
        driver.answers.clear()
        switch.says = FAIL
        await until(lambda: statuses(director)[ONE].health is HealthState.DOWN)
        runs = switch.runs
        director.set_admin(ONE, AdminState.DRAIN)
        await until(lambda: switch.runs > runs + 3)
        assert driver.weights() == {ONE: 4}
        driver.answers.set()
        await until(lambda: driver.weights() == {ONE: 0})

    async def test_a_stop_while_it_hangs(self):
        driver = FaultyDriver()
        async with Director(config(virtual(real(Switch()))), driver) as director:
            await until(lambda: driver.weights() == {ONE: 1})
            driver.answers.clear()
            director.set_admin(ONE, AdminState.HALT)
            await asyncio.sleep(0)
        assert driver.closed

    async def test_one_refused_operation_stops_no_other_and_is_told_once(self, direct):
        driver = FaultyDriver()
        driver.refuses = lambda op: op.destination is not None and op.destination.name == ONE
        director, _ = await direct(config(virtual(*reals(Switch(), Switch())), resync=0.1), driver)
        events, _ = listen(director)
        await until(lambda: driver.weights() == {TWO: 1})
        dumps = driver.dumps
        await until(lambda: driver.dumps > dumps + 3)
        (refused,) = of(events, OperationRefused)
        assert ONE in refused.operation
        assert refused.error == "refused"
        assert of(events, DriftHealed) == []
        assert statuses(director)[ONE].weight.applied is None
        driver.refuses = lambda op: False
        await until(lambda: driver.weights() == {ONE: 1, TWO: 1})

    async def test_a_refused_service_is_tried_again(self, direct):
        driver = FaultyDriver()
        driver.refuses = lambda op: op.kind is OpKind.ADD_SERVICE
        await direct(config(virtual(real(Switch())), resync=0.1), driver)
        await until(lambda: driver.dumps > 3)
        assert not driver.table
        driver.refuses = lambda op: False
        await until(lambda: driver.weights() == {ONE: 1})

    @pytest.mark.parametrize("fault", ["refuses", "breaks down"])
    async def test_a_removed_service_goes_when_the_driver_lets_it(self, pool, fault):
        director, driver, events, _ = pool
        if fault == "refuses":
            driver.refuses = lambda op: op.kind is OpKind.DELETE_SERVICE
        else:
            driver.break_down()
        await director.reload(config(resync=0.1))
        await until(lambda: of(events, OperationRefused) or of(events, DriverChanged))
        assert KEY in driver.table
        driver.refuses, driver.broken = (lambda op: False), None
        await until(lambda: KEY not in driver.table)

    async def test_a_service_that_comes_back_is_not_deleted(self, pool):
        director, driver, events, switch = pool
        same = virtual(real(switch, weight=4))
        for configuration in (config(), config(same)) * 5:
            await director.reload(configuration)
        await until(lambda: len(of(events, ConfigReloaded)) == 10)
        await until(lambda: driver.weights() == {ONE: 4})
        await asyncio.sleep(0.1)
        assert driver.weights() == {ONE: 4}

    async def test_a_clean_stop_after_a_cut_off_pass_leaves_nothing(self):
        driver = FaultyDriver()
        director = Director(config(virtual(real(Switch()), clean_stop=True)), driver)
        slow = driver.apply

        async def apply(ops):
            outcomes = await slow(ops)
            await asyncio.sleep(0.3)  # done, but nobody has heard of it
            return outcomes

        driver.apply = apply
        async with director:
            await until(lambda: KEY in driver.table)
        assert not driver.table
