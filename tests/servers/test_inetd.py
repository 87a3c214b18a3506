"""The telnet and simpletcp checks against telnetd, Redis and echo services."""

import time

import pytest

from lbhealth.checkers.simpletcp import SimpleTcp
from lbhealth.checkers.telnet import Telnet
from lbhealth.model import Target, TransportProtocol
from tests.servers import kit
from tests.servers.inetd import echo, redis, telnetd, udp_echo

__all__ = ["echo", "redis", "telnetd", "udp_echo"]

pytestmark = pytest.mark.xdist_group("inetd")

PLACES = ["127.0.0.1", "::1"]


@pytest.mark.parametrize("address", PLACES)
async def test_telnet(telnetd, probe, address):
    target = telnetd.target(address)
    assert await probe(Telnet(), target) == ("PASS", "L7OK", "negotiates options")
    got = await probe(Telnet(receive="login: *$"), target)
    assert got[:2] == ("PASS", "L7OK")
    assert "svc login:" in got[2]
    got = await probe(Telnet(receive="no such prompt"), target, 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_telnet_stopped(telnetd, probe):
    start = time.monotonic()
    with kit.stopped(telnetd.process):
        assert (await probe(Telnet(), telnetd.target(), 0.3))[:2] == ("FAIL", "L7TOUT")
    assert time.monotonic() - start < 1.3


@pytest.mark.parametrize("address", PLACES)
@pytest.mark.parametrize(
    ("request_", "receive", "wanted"),
    [
        (r"PING\r\n", r"^\+PONG\r$", ("PASS", '"+PONG"')),
        (r"PING\r\nQUIT\r\n", r"^\+OK", ("PASS", '"+OK"')),
        (r"*1\x0d\x0a$4\r\nPING\r\n", "PONG", ("PASS", '"+PONG"')),
        (r"PING\r\n", "", ("PASS", '"+PONG"')),
        (r"PING\r\nQUIT\r\n", "NOPE", ("FAIL", 'no line matches "NOPE"; the first is "+PONG"')),
    ],
)
async def test_redis(redis, probe, address, request_, receive, wanted):
    checker = SimpleTcp(request=request_, receive=receive, half_close=False)
    verdict, status, detail = await probe(checker, redis.target(address))
    assert (verdict, detail) == wanted
    assert status == ("L7OK" if verdict == "PASS" else "L7RSP")


@pytest.mark.parametrize("address", PLACES)
async def test_half_close(echo, probe, address):
    target = echo.target(address)
    got = await probe(SimpleTcp(request=r"one\ntwo", receive="^two$"), target)
    assert got == ("PASS", "L7OK", '"two"')
    got = await probe(SimpleTcp(request=r"one\ntwo\n", receive="three"), target)
    assert got == ("FAIL", "L7RSP", 'no line matches "three"; the first is "one"')
    got = await probe(SimpleTcp(), target)
    assert got == ("FAIL", "L7RSP", "the server closed the connection without an answer")
    checker = SimpleTcp(request="one", receive="one", half_close=False)
    assert (await probe(checker, target, 0.3))[:2] == ("FAIL", "L7TOUT")


@pytest.mark.parametrize("address", PLACES)
async def test_udp(udp_echo, probe, address):
    target = udp_echo.target(address, TransportProtocol.UDP)
    got = await probe(SimpleTcp(request=r"one\ntwo", receive="^two$"), target)
    assert got == ("PASS", "L7OK", '"two"')
    got = await probe(SimpleTcp(request="one", receive="two"), target, 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_udp_refused(probe):
    target = Target("127.0.0.1", kit.free_port(), TransportProtocol.UDP)
    got = await probe(SimpleTcp(request="x"), target)
    assert got == ("FAIL", "L4CON", "connection refused")


async def test_redis_stopped(redis, probe):
    start = time.monotonic()
    with kit.stopped(redis.process):
        got = await probe(SimpleTcp(request=r"PING\n", receive="PONG"), redis.target(), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")
    assert time.monotonic() - start < 1.3
