"""The FTP check without a real server: settings, and servers that misbehave."""

import asyncio
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbhealth.checkers.ftp import Ftp
from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Verdict
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.checkers.scripts import conversation

GREETING = b"220-Welcome\r\n  to this\r\n220x\r\n500 servers\r\n220 Ready\r\n"
REPLIES = {
    b"USER": b"331 Password?\r\n",
    b"PASS": b"230-Hello\r\n230 In\r\n",
    b"TYPE": b"200 OK\r\n",
    b"QUIT": b"221 Bye\r\n",
    b"": b"500 What?\r\n",
}


class TestFtp(CheckerContract):
    def checker(self):
        return Ftp(request="x")


class TestFtps(CheckerContract):
    def checker(self):
        return Ftp(tls="implicit")


@pytest.mark.parametrize(
    ("fields", "field", "position"),
    [
        ({"login": ""}, "login", None),
        ({"login": "a\r\nb"}, "login", 1),
        ({"password": "ab\0"}, "password", 2),
        ({"request": "a\nDELE b"}, "request", 1),
        ({"request": "\udc80"}, "request", 0),
        ({"receive": "x"}, "receive", None),
        ({"request": "x", "receive": "a(b"}, "receive", 1),
        ({"tls": "yes"}, "tls", None),
        ({"verify": True}, "verify", None),
        ({"tls": "implicit", "ca_file": "/x"}, "ca_file", None),
        ({"tls": "implicit", "verify": True, "ca_file": ""}, "ca_file", None),
    ],
)
def test_settings_are_refused(fields, field, position):
    with pytest.raises(SettingError) as error:
        Ftp(**fields)
    assert (error.value.field, error.value.position) == (field, position)


def test_password_is_a_secret():
    assert "hidden" not in repr(Ftp(password="hidden"))
    field = next(f for f in dataclasses.fields(Ftp) if f.name == "password")
    assert field.metadata["secret"]


@pytest.mark.parametrize("piece", [None, 1, 2, 7])
async def test_pieces(probe, piece):
    async with conversation(GREETING, REPLIES, piece=piece) as server:
        assert await probe(Ftp(), server.target()) == ("PASS", "L7OK", "logged in")
        assert server.received[0].split(b"\r\n") == [
            b"USER anonymous",
            b"PASS lbhealth@",
            b"QUIT",
            b"",
        ]


async def test_slow_trickle_is_a_timeout(probe):
    async with conversation(GREETING, REPLIES, piece=1, every=0.02) as server:
        got = await probe(Ftp(), server.target(), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


@pytest.mark.parametrize(
    ("greeting", "replies", "wanted"),
    [
        (b"SSH-2.0-x\r\n", {}, ("L7RSP", 'no FTP reply: "SSH-2.0-x"')),
        (b"\r\n", {}, ("L7RSP", 'no FTP reply: ""')),
        (b"421 Too many\r\n", {}, ("L7STS", "busy or closing: 421 Too many")),
        (b"530 Go\r\n", {}, ("L7STS", "greeting refused: 530 Go")),
        (b"230 In\r\n", {}, ("L7RSP", "greeting: unexpected reply: 230 In")),
        (b"220-a\r\n" * 2000, {}, ("L7RSP", "the server talks without end")),
        (b"220-" + b"a" * 70000 + b"\r\n", {}, ("L7RSP", "the server sent an endless line")),
        (GREETING, {b"USER": b"530 No\x1b\r\n"}, ("L7STS", "login refused: 530 No\\x1b")),
        (GREETING, {b"USER": b"332 Account\r\n"}, ("L7RSP", "login: unexpected reply")),
        (GREETING, {b"PASS": b"331 Again\r\n"}, ("L7RSP", "login: unexpected reply: 331")),
        (GREETING, {b"PASS": b"421 Bye\r\n"}, ("L7STS", "busy or closing: 421 Bye")),
        (GREETING, {b"PASS": None}, ("L7RSP", "connection")),
        (GREETING, {b"EPSV": b"229 nothing\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {b"EPSV": b"229 (|||0|)\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {b"EPSV": b"229 (|||99999|)\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {b"EPSV": b"229 (|||" + b"9" * 5000 + b"|)\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {b"PASV": b"227 (1,2,3)\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {b"PASV": b"227 nothing\r\n"}, ("L7RSP", "names no port")),
        (GREETING, {}, ("L7STS", "transfer refused: 500 What?")),
    ],
)
async def test_bad_replies(probe, greeting, replies, wanted):
    async with conversation(greeting, REPLIES | replies) as server:
        verdict, status, detail = await probe(Ftp(request="x"), server.target())
    assert (verdict, status) == ("FAIL", wanted[0]), detail
    assert wanted[1] in detail


@pytest.mark.parametrize("farewell", [None, b"500 No\r\n", b"nonsense\r\n"])
async def test_the_farewell_does_not_matter(probe, farewell):
    async with conversation(GREETING, REPLIES | {b"QUIT": farewell}) as server:
        assert (await probe(Ftp(), server.target()))[0] == "PASS"


async def with_data(probe, data, end, checker=None):
    """A server with one file on a port of its own."""

    async def hand_over(_, writer):
        writer.write(data)
        await writer.drain()
        writer.close()

    files = await asyncio.start_server(hand_over, "127.0.0.1", 0)
    port = files.sockets[0].getsockname()[1]
    replies = REPLIES | {
        # Another host's address: it must not be asked.
        b"PASV": f"227 OK (192,0,2,1,{port >> 8},{port & 255})\r\n".encode(),
        b"RETR": b"150 Here\r\n" + end,
    }
    try:
        async with conversation(GREETING, replies) as server:
            return await probe(checker or Ftp(request="x"), server.target())
    finally:
        files.close()
        await files.wait_closed()


async def test_replies_in_one_packet(probe):
    assert await with_data(probe, b"abc", b"226 Done\r\n") == ("PASS", "L7OK", "3 bytes")


async def test_a_broken_transfer_fails(probe):
    got = await with_data(probe, b"abc", b"426 Broken\r\n", Ftp(request="x", receive="b"))
    assert got == ("FAIL", "L7STS", "transfer after 3 bytes refused: 426 Broken")


async def test_refused_data_connection(probe):
    async with ScriptedServer.refuse() as nobody:
        replies = REPLIES | {b"EPSV": f"229 (|||{nobody.port}|)\r\n".encode()}
        async with conversation(GREETING, replies) as server:
            got = await probe(Ftp(request="x"), server.target())
    assert got == ("FAIL", "L4CON", "data connection: connection refused")


@settings(max_examples=60)
@given(st.lists(st.sampled_from([b"220", b"2", b"-", b" ", b"\r\n", b"\n", b"\xff", b"a"])))
def test_no_greeting_raises(pieces):
    async def run():
        async with ScriptedServer.close_early(b"".join(pieces)) as server:
            return await run_check(Ftp(), server.target(), 2)

    result = asyncio.run(run())
    assert result.verdict is Verdict.FAIL, result
