"""The connection that checkers and plug-ins share."""

import ssl

import pytest

from lbhealth.checkers.connection import check_tls, connected
from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Passed, Status, Target
from lbhealth.testing import ScriptedServer
from tests.servers.kit import certificates

__all__ = ["certificates"]


class Dialogue:
    """A checker made of one function over the connection."""

    kind = "dialogue"

    def __init__(self, talk, **settings):
        self.talk = talk
        self.settings = settings

    async def check(self, target, ctx):
        async with connected(target, ctx, **self.settings) as connection:
            return Passed(Status.L7OK, str(await self.talk(connection)))


async def probe(talk, target, timeout=1.0, **settings):
    steps = []
    result = await run_check(
        Dialogue(talk, **settings), target, timeout, lambda *step: steps.append(step)
    )
    return (str(result.verdict), str(result.status), result.detail), steps


async def two_lines(connection):
    return [await connection.line(), await connection.line()]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_lines(host):
    async with ScriptedServer.close_early(b"one\r\ntwo\n", host=host) as server:
        got, steps = await probe(two_lines, server.target())
    assert got == ("PASS", "L7OK", "[b'one', b'two']")
    assert steps[-1] == ("<", b"two\n")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\n", "the server closed the connection"),
        (b"one\ntw", 'the server closed the connection after "tw"'),
        (b"one\n" + b"x" * 70000, "the server sent an endless line"),
    ],
)
async def test_lines_that_do_not_come(data, text):
    async with ScriptedServer.close_early(data) as server:
        got, _ = await probe(two_lines, server.target())
    assert got == ("FAIL", "L7RSP", text)


async def test_limits():
    async def lines(connection):
        while True:
            await connection.line()

    async def blocks(connection):
        while True:
            await connection.exactly(1000)

    async def pieces(connection):
        while await connection.read():
            pass

    for talk, data, text in (
        (lines, b"\n" * 2000, "more than 1000 lines"),
        (blocks, b"x" * 100_000, "more than 65536 bytes"),
        (pieces, b"x" * 100_000, "more than 65536 bytes"),
    ):
        async with ScriptedServer.close_early(data) as server:
            got, _ = await probe(talk, server.target())
        assert got[:2] == ("FAIL", "L7RSP")
        assert text in got[2]


async def test_a_secret_is_not_noted():
    async def talk(connection):
        await connection.send(b"PASS hunter2\r\n", "PASS ***")
        return await connection.exactly(2)

    async with ScriptedServer.reply(b"OK") as server:
        got, steps = await probe(talk, server.target())
        assert bytes(server.received[0]) == b"PASS hunter2\r\n"
    assert got == ("PASS", "L7OK", "b'OK'")
    assert "hunter2" not in repr(steps)
    assert (">", "PASS ***") in steps


async def test_tls_and_alpn(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def talk(connection):
        await connection.send(b"hello")
        return connection.alpn, await connection.exactly(2)

    async with ScriptedServer.reply(b"OK", tls=context) as server:
        got, _ = await probe(talk, server.target(), tls="implicit", alpn="h2")
        assert got == ("PASS", "L7OK", "('h2', b'OK')")
        got, _ = await probe(talk, server.target(), tls="implicit")
        assert got == ("PASS", "L7OK", "(None, b'OK')")
        for name, text in (("x.test", "does not match the name"), ("." * 80, "TLS server name")):
            settings = {"tls": "implicit", "verify": True, "ca_file": str(certificates.ca)}
            got, _ = await probe(talk, server.target(name), **settings)
            assert text in got[2]


async def test_phases():
    async with ScriptedServer.accept_then_silence() as server:
        got, _ = await probe(two_lines, server.target(), 0.2)
        assert got[1] == "L7TOUT"
        got, _ = await probe(two_lines, server.target(), 0.2, tls="implicit")
        assert got[1] == "L6TOUT"


async def test_source_that_is_not_here():
    got, _ = await probe(two_lines, Target("127.0.0.1", 9, source="192.0.2.77"))
    assert got == ("ERROR", "SOCKERR", "source address 192.0.2.77 is not on this host")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (("starttls", False, None), "tls"),
        (("none", True, None), "verify"),
        (("implicit", False, "x"), "ca_file"),
        (("implicit", True, ""), "ca_file"),
    ],
)
def test_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        check_tls(*settings)
    assert caught.value.field == field
