"""MemoryDriver, and what the IPVS drivers share."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.drivers.base import Driver
from lbhealth.drivers.memory import MemoryDriver
from lbhealth.drivers.verbs import Verb, batches, is_done, next_verb, refusal
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    ServiceEntry,
    TransportProtocol,
)
from lbhealth.plan import Op, OpKind

WEB = KernelService(InetKey(TransportProtocol.TCP, "192.0.2.10", 80), "wrr")
ROW = Destination("10.0.0.1", 80, Forwarding.MASQ, 1)


async def test_it_starts_with_a_copy_and_shows_what_it_holds() -> None:
    given_table = {WEB.key: ServiceEntry(WEB, {ROW.key: ROW})}
    driver = MemoryDriver(given_table)
    assert isinstance(driver, Driver)
    assert not driver.shared
    view = driver.table
    heavier = replace(ROW, weight=5)
    (outcome,) = await driver.apply([Op(OpKind.RAISE_DESTINATION, WEB, heavier)])
    assert outcome.error is None
    assert view[WEB.key].destinations == {ROW.key: heavier}
    assert given_table[WEB.key].destinations == {ROW.key: ROW}
    with pytest.raises(TypeError):
        view[WEB.key] = given_table[WEB.key]  # type: ignore[index]


async def test_a_dump_does_not_change_afterwards() -> None:
    driver = MemoryDriver({WEB.key: ServiceEntry(WEB, {ROW.key: ROW})})
    before = await driver.dump()
    await driver.apply([Op(OpKind.DELETE_DESTINATION, WEB, ROW)])
    assert before[WEB.key].destinations == {ROW.key: ROW}
    assert await driver.dump([FwmarkKey(1)]) == {}


async def test_a_row_needs_its_service() -> None:
    driver = MemoryDriver()
    outcomes = await driver.apply(
        [
            Op(OpKind.ADD_DESTINATION, WEB, ROW),
            Op(OpKind.DELETE_DESTINATION, WEB, ROW),
            Op(OpKind.DELETE_SERVICE, WEB),
            Op(OpKind.EDIT_SERVICE, WEB),
        ]
    )
    assert ["service" in str(outcome.error) for outcome in outcomes] == [True, False, False, False]
    assert await driver.stats() != {}
    await driver.aclose()
    assert set(driver.table) == {WEB.key}


# --------------------------------------------------------------------------- shared rules


def test_what_follows_a_refusal() -> None:
    assert next_verb(Verb.NEW_DEST, errno.EEXIST) is Verb.SET_DEST
    assert next_verb(Verb.SET_DEST, errno.ENOENT) is Verb.NEW_DEST
    assert next_verb(Verb.SET_SERVICE, errno.ESRCH) is Verb.NEW_SERVICE
    assert next_verb(Verb.NEW_DEST, errno.EINVAL) is None
    assert is_done(Verb.DEL_DEST, errno.ENOENT)
    assert is_done(Verb.DEL_DEST, errno.ESRCH)
    assert is_done(Verb.SET_DEST, 0)
    assert not is_done(Verb.SET_DEST, errno.ENOENT)


@pytest.mark.parametrize(
    ("service", "row", "code", "words"),
    [
        (WEB, None, errno.EAFNOSUPPORT, "CONFIG_IP_VS_IPV6"),
        (WEB, None, errno.EEXIST, "another program"),
        (WEB, None, errno.ENOMEM, "ENOMEM"),
        (WEB, ROW, errno.EEXIST, "another program"),
        (WEB, ROW, errno.EAFNOSUPPORT, "CONFIG_IP_VS_IPV6"),
        (WEB, replace(ROW, upper=1, lower=2), errno.ERANGE, "lower threshold 2"),
        (WEB, replace(ROW, address="2001:db8::1"), errno.EINVAL, "by tunnel"),
        (WEB, ROW, errno.EINVAL, "unicast"),
        (WEB, ROW, errno.ENOMEM, "ENOMEM"),
        (WEB, ROW, 12345, "12345"),
    ],
)
def test_refusals_in_words(
    service: KernelService, row: Destination | None, code: int, words: str
) -> None:
    op = Op(OpKind.ADD_DESTINATION if row else OpKind.ADD_SERVICE, service, row)
    assert words in refusal(op, code)
    assert refusal(op, code, "thus").endswith("(thus)")


ops = st.builds(
    lambda mark, host, kind: Op(
        kind if host else OpKind.DELETE_SERVICE,
        KernelService(FwmarkKey(mark), "rr"),
        replace(ROW, address=f"10.0.0.{host}") if host else None,
    ),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([OpKind.ADD_DESTINATION, OpKind.DELETE_DESTINATION]),
)


@given(st.lists(ops, max_size=40), st.integers(1, 9))
def test_batches_keep_the_order_and_name_nothing_twice(given_ops: list[Op], size: int) -> None:
    cut = list(batches(given_ops, size))
    assert [op for batch in cut for op in batch] == given_ops
    for batch in cut:
        assert 0 < len(batch) <= size
        rows = [(op.service.key, op.destination.key) for op in batch if op.destination]
        assert len(rows) == len(set(rows))
        for index, op in enumerate(batch):
            if op.destination is None:
                earlier = [other.service.key for other in batch[:index]]
                assert op.service.key not in earlier
