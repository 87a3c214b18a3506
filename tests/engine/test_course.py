"""Whatever happens, and in whatever order: when all is quiet the table is what policy says."""

import asyncio
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lbhealth.engine import Director
from lbhealth.model import AdminState, Fallback, Forwarding, HealthState, OnDown, Verdict
from lbhealth.plan import Op, OpKind, diff
from lbhealth.policy import decide
from tests.engine.kit import (
    FAST,
    KEY,
    OTHER,
    FaultyDriver,
    Switch,
    config,
    entry,
    reals,
    row,
    table,
    until,
    virtual,
)

SERVERS = 3
SORRY = Fallback(address="127.0.0.1", port=8080, forwarding=Forwarding.MASQ)
FASTEST = replace(FAST, interval=0.05, fast_interval=0.05)

servers = st.integers(0, SERVERS - 1)
steps = st.one_of(
    st.tuples(st.just("check"), servers, st.sampled_from(Verdict)),
    st.tuples(st.just("admin"), servers, st.sampled_from(AdminState)),
    st.tuples(st.just("drift"), servers, st.integers(0, 9)),
    st.tuples(st.just("lose"), st.sampled_from([KEY, OTHER]), st.none()),
    st.tuples(st.just("break"), st.booleans(), st.none()),
    st.tuples(st.just("reload"), st.integers(0, 4), st.sampled_from(OnDown)),
    st.tuples(st.just("wait"), st.none(), st.none()),
)


def configuration(switches, weight, on_down):
    """Two services on the same servers; the second is not always there."""
    pool = reals(*switches, weight=weight, schedule=FASTEST)
    services = [virtual(*pool, fallback=SORRY, on_down=on_down)]
    if weight % 2:
        services.append(virtual(*pool, key=OTHER))
    return config(*services, resync=0.1, prune=True)


async def take(step, director, driver, switches):
    match step:
        case "check", number, verdict:
            switches[number].says = verdict
        case "admin", number, state:
            director.set_admin(f"10.0.0.{number + 1}:80", state)
        case "drift", number, weight:
            if KEY in driver.table:
                found = row(f"10.0.0.{number + 1}", weight)
                await driver.tamper(Op(OpKind.RAISE_DESTINATION, entry().service, found))
        case "lose", key, _:
            await driver.tamper(Op(OpKind.DELETE_SERVICE, entry(key=key).service))
        case "break", broken, _:
            driver.broken = OSError("broken") if broken else None
        case "reload", weight, on_down:
            await director.reload(configuration(switches, weight, on_down))
        case "wait", _, _:
            await asyncio.sleep(0.06)


def settled(director, driver, switches):
    """Every check says what its switch says, and policy wants nothing changed."""
    agreed = {Verdict.PASS: HealthState.UP, Verdict.FAIL: HealthState.DOWN}
    for service in director.services.values():
        for server, switch in zip(service.servers.values(), switches, strict=True):
            if server.state.health is not agreed[switch.says]:
                return False
    states = {key: service.states() for key, service in director.services.items()}
    now = time.monotonic()
    desired = {key: decide(s.config, states, now) for key, s in director.services.items()}
    ours = {KEY, OTHER} & driver.table.keys()
    return ours == desired.keys() and not diff(driver.table, desired, prune=True)


@settings(max_examples=settings().max_examples // 12)
@given(st.lists(steps, max_size=25), st.lists(st.booleans(), min_size=3, max_size=3))
def test_the_table_ends_as_policy_says(course, well):
    async def live():
        switches = [Switch() for _ in range(SERVERS)]
        driver = FaultyDriver(table(entry(row(weight=2), row("10.0.0.9", weight=7))))
        async with Director(configuration(switches, 1, OnDown.QUIESCE), driver) as director:
            for step in course:
                await take(step, director, driver, switches)
            driver.broken = None
            for switch, is_well in zip(switches, well, strict=True):
                switch.says = Verdict.PASS if is_well else Verdict.FAIL
            await until(lambda: settled(director, driver, switches))
            dumps = driver.dumps
            await until(lambda: driver.dumps > dumps + 1)
            assert settled(director, driver, switches)

    asyncio.run(live())
