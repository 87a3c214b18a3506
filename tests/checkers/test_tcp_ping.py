"""Connect and echo, against the loopback."""

import errno
import os
import socket

import pytest

from lbhealth.checkers import ping as ping_module
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import ScriptedServer

root = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets and marks need root")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connects(host, probe):
    async with ScriptedServer.accept_then_silence(host=host) as server:
        assert await probe(Tcp(), server.target()) == ("PASS", "L4OK", "connected")
    async with ScriptedServer.refuse(host=host) as server:
        assert await probe(Tcp(), server.target()) == ("FAIL", "L4CON", "connection refused")


async def test_source(probe):
    async with ScriptedServer.reply(b"x") as server:
        target = Target(server.host, server.port, source="127.0.0.9")
        assert (await probe(Tcp(), target))[0] == "PASS"
        lost = Target(server.host, server.port, source="192.0.2.77")
        verdict, _, detail = await probe(Tcp(), lost)
        assert verdict == "ERROR"
        assert detail == "source address 192.0.2.77 is not on this host"


@root
async def test_mark(probe):
    async with ScriptedServer.reply(b"x") as server:
        target = Target(server.host, server.port, mark=7)
        assert (await probe(Tcp(), target))[0] == "PASS"


async def test_full_backlog_times_out(probe):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            got = await probe(Tcp(), Target("127.0.0.1", port), 0.2)
        finally:
            for filler in fillers:
                filler.close()
        assert got == ("FAIL", "L4TOUT", "timed out after 0.2 s waiting for the connection")


def test_attempts():
    for bad in (0, 101):
        with pytest.raises(SettingError, match="attempts"):
            Ping(attempts=bad)


def without(kind):
    real = ping_module.open_socket

    def refused(target, asked, protocol):
        if asked in kind:
            raise PermissionError(errno.EACCES, "x")
        return real(target, asked, protocol)

    return refused


@root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("raw", [False, True])
async def test_echo(address, raw, probe, monkeypatch):
    if raw:
        monkeypatch.setattr(ping_module, "open_socket", without({socket.SOCK_DGRAM}))
    verdict, status, detail = await probe(Ping(), Target(address, 0))
    assert (verdict, status) == ("PASS", "L4OK")
    assert detail.startswith("reply after ")


async def test_not_allowed(probe, monkeypatch):
    monkeypatch.setattr(ping_module, "open_socket", without({socket.SOCK_DGRAM, socket.SOCK_RAW}))
    verdict, _, detail = await probe(Ping(), Target("127.0.0.1", 0))
    assert verdict == "ERROR"
    assert "CAP_NET_RAW" in detail
    assert "ping_group_range" in detail


class Silent:
    """An echo socket that hears only what it is told."""

    def __init__(self, v6, raw, hears):
        self.family = socket.AF_INET6 if v6 else socket.AF_INET
        self.type = socket.SOCK_RAW if raw else socket.SOCK_DGRAM

    def setsockopt(self, *_):
        pass

    connect = setsockopt


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("raw", [False, True])
def test_only_own_replies_count(v6, raw):
    echo = ping_module._Echo(Silent(v6, raw, []), Target("::1" if v6 else "127.0.0.1", 0))
    echo.sequence = 2
    message = bytearray(echo._message())
    header = b"\x45" + bytes(19) if raw and not v6 else b""
    assert not echo._answers(header + bytes(message)), "the own request, on the loopback"
    message[0] = 129 if v6 else 0
    assert echo._answers(header + bytes(message))
    for place in (0, 1, *((4, 5) if raw else ()), 6, 8, len(message) - 1):
        other = bytearray(message)
        other[place] ^= 0x40
        assert not echo._answers(header + bytes(other)), place
    for short in range(len(message)):
        assert not echo._answers(header + bytes(message[:short]))


@root
async def test_attempts_share_the_time(probe, monkeypatch):
    heard = []
    monkeypatch.setattr(ping_module._Echo, "_answers", lambda self, data: self.sequence == 3)
    trace = lambda direction, text: heard.append(direction)  # noqa: E731
    assert (await probe(Ping(attempts=3), Target("127.0.0.1", 0), 0.9, trace))[0] == "PASS"
    assert heard == [">", "*", ">", "*", ">", "<"]
    got = await probe(Ping(attempts=2), Target("127.0.0.1", 0), 0.3)
    assert got[:2] == ("FAIL", "L4TOUT")


def test_checksum():
    assert ping_module._checksum(bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")) == 0
