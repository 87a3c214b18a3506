"""Questions and answers over UDP: retransmission, strangers, floods, refusal."""

import asyncio
import os
import socket

import pytest

from lbhealth.checkers.datagram import NoAnswer, connected, exchange, local_address, spread
from lbhealth.engine.runner import run_check
from lbhealth.errors import CheckFailed
from lbhealth.model import CheckContext, Passed, Status, Target, TransportProtocol
from tests.checkers.udp import closed_port, udp_server


class Asking:
    """A checker that asks "?" and takes what begins with "!"."""

    kind = "asking"

    def __init__(self, waits=(0.1, 0.1)):
        self.waits = waits

    async def check(self, target, ctx):
        with connected(target, ctx) as sock:
            answer = await exchange(sock, b"?", self.accept, self.waits, ctx)
        return Passed(Status.L7OK, answer)

    def accept(self, data):
        if data == b"wait":
            return None
        if data == b"bad":
            raise CheckFailed(Status.L7STS, "bad")
        if data[:1] != b"!":
            raise NoAnswer(f"{len(data)} bytes of nonsense")
        return data.decode()


async def test_answer(probe):
    async with udp_server(lambda n, data: [b"!", b"!"]) as server:
        assert await probe(Asking(), server.target()) == ("PASS", "L7OK", "!")
        assert server.received == [b"?"]


@pytest.mark.parametrize("lost", [1, 2])
async def test_sends_again(lost, probe):
    async with udp_server(lambda n, data: [b"!%d" % n] if n == lost else []) as server:
        assert await probe(Asking(), server.target()) == ("PASS", "L7OK", f"!{lost}")


async def test_waits_on_after_the_last(probe):
    async with udp_server() as server:
        got = await probe(Asking(), server.target(), 0.4)
        assert got[:2] == ("FAIL", "L7TOUT")
        assert len(server.received) == 3


async def test_skips_strangers_and_announcements(probe):
    async with udp_server(lambda n, data: [b"x", b"", b"wait", b"y" * 60000, b"!"]) as server:
        assert (await probe(Asking(), server.target()))[0] == "PASS"


async def test_names_what_came_instead(probe):
    async with udp_server(lambda n, data: [b"xyz"]) as server:
        got = await probe(Asking(), server.target(), 0.35)
    assert got[:2] == ("FAIL", "L7RSP")
    assert got[2] == "no answer, but 3 that do not count; the last: 3 bytes of nonsense"


async def test_announcement_alone_is_a_timeout(probe):
    async with udp_server(lambda n, data: [b"wait"]) as server:
        assert (await probe(Asking(), server.target(), 0.3))[:2] == ("FAIL", "L7TOUT")


async def test_failure_settles_it(probe):
    async with udp_server(lambda n, data: [b"x", b"bad", b"!"]) as server:
        assert await probe(Asking(), server.target()) == ("FAIL", "L7STS", "bad")


async def test_other_ports_are_not_heard(probe):
    async with udp_server() as server:
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            task = asyncio.create_task(probe(Asking(), server.target(), 0.3))
            while not server.sender:
                await asyncio.sleep(0.01)
            other.sendto(b"!", server.sender)
            assert (await task)[:2] == ("FAIL", "L7TOUT")


async def test_flood_holds_nobody_up(probe):
    async with udp_server() as server:
        task = asyncio.create_task(probe(Asking(()), server.target(), 3))
        while not server.sender:
            await asyncio.sleep(0.01)
        while not task.done():  # starves unless the check yields
            server.transport.sendto(b"x", server.sender)
            await asyncio.sleep(0)
        got = task.result()
    assert got[:2] == ("FAIL", "L7RSP")
    assert "1000 that do not count" in got[2]


async def test_refused(probe):
    with closed_port() as target:
        got = await probe(Asking(), target)
    assert got == ("FAIL", "L4CON", "connection refused (ICMP: port unreachable)")


async def test_no_route(probe):
    got = await probe(Asking(), Target("240.0.0.1", 53, TransportProtocol.UDP), 0.3)
    assert got[0] in ("ERROR", "FAIL")


async def test_local_address():
    ctx = CheckContext(0.0)
    assert local_address(Target("127.0.0.1", 9), ctx) == "127.0.0.1"
    assert local_address(Target("127.0.0.1", 9, source="127.0.0.9"), ctx) == "127.0.0.9"
    assert ctx.phase is Status.L4TOUT


async def test_spread():
    now = asyncio.get_running_loop().time()
    assert list(spread(CheckContext(now + 0.9))) == pytest.approx([0.3, 0.3], abs=0.05)
    assert list(spread(CheckContext(now + 60))) == [1.0, 1.0]
    assert list(spread(CheckContext(now - 1))) == [0.0, 0.0]


async def test_cancelling_leaves_nothing():
    async with udp_server() as server:
        before = len(os.listdir("/proc/self/fd"))
        task = asyncio.create_task(run_check(Asking(), server.target(), 30))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
        assert task.cancelled()
        assert len(os.listdir("/proc/self/fd")) == before
