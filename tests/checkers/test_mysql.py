"""The MySQL check against servers that misbehave, and what reads their first bytes."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers import mysql_packets as packets
from lbhealth.checkers.mysql import Mysql
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.testing import CheckerContract, ScriptedServer


def packet(number, payload):
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def greeting(plugin=b"mysql_native_password", flags=0x008FF7FF):
    low, high = flags & 0xFFFF, flags >> 16
    return (
        b"\x0a8.0.36\0\1\0\0\0saltsalt\0"
        + struct.pack("<HBHHB", low, 45, 2, high, 21)
        + bytes(10)
        + b"saltsaltsalt\0"
        + plugin
        + b"\0"
    )


def error(code, text):
    return b"\xff" + code.to_bytes(2, "little") + text


HELLO = packet(0, greeting())
OK = packet(2, b"\0\0\0\2\0\0\0")
LIMITED = packet(1, b"\0\0\0\2\0\0\0")
USER = {"login": "watch", "password": "s3cret"}


class TestMysql(CheckerContract):
    def checker(self):
        return Mysql(**USER, request="select 1")


class TestMysqlGreeting(CheckerContract):
    def checker(self):
        return Mysql(tls="starttls")


def speaking(*replies):
    """A server that speaks first, and then answers each message."""

    async def behave(reader, writer):
        for number, data in enumerate(replies):
            if number and not await reader.read(65536):
                return
            writer.write(data)
            await writer.drain()
        while await reader.read(65536):
            pass

    return ScriptedServer(behave)


@pytest.mark.parametrize(
    ("settings", "replies", "wanted"),
    [
        ({}, (HELLO, packet(2, error(1045, b"#28000no"))), ("PASS", "L7OK", '"8.0.36"')),
        ({}, (HELLO, OK), ("PASS", "L7OK", '"8.0.36"')),
        ({}, (HELLO, packet(2, error(1040, b"#08004Full"))), ("FAIL", "L7STS", "busy: ")),
        (USER, (HELLO, OK), ("PASS", "L7OK", "logged in")),
        (USER, (HELLO, packet(2, error(1045, b"#28000no"))), ("FAIL", "L7STS", "login refused")),
        (USER, (HELLO, packet(2, error(1053, b"#08S01bye"))), ("FAIL", "L7STS", "busy: ")),
        (USER, (HELLO, packet(7, b"\0")), ("FAIL", "L7RSP", "malformed packet")),
        (USER, (HELLO, b"\xff\xff\xff\2"), ("FAIL", "L7RSP", "announces 16777215 bytes")),
        (
            USER,
            (HELLO, packet(2, b"\xfemysql_clear_password\0")),
            ("FAIL", "L7STS", "wants the password in plain text"),
        ),
        (
            USER,
            (packet(0, greeting(b"mysql_clear_password")), OK),
            ("PASS", "L7OK", "logged in"),
        ),
        (
            {**USER, "request": "x"},
            (HELLO, OK, LIMITED, packet(1, b"\xfb/etc/passwd")),
            ("FAIL", "L7RSP", "malformed packet"),
        ),
        ({}, (packet(0, error(1040, b"Full\x1b")),), ("FAIL", "L7STS", 'busy: "Full\\x1b" (1040)')),
        ({}, (packet(0, error(1129, b"x")),), ("FAIL", "L7STS", "turns this host away")),
        ({}, (packet(0, error(2000, b"x")),), ("FAIL", "L7STS", 'refused: "x" (2000)')),
        ({}, (packet(0, b"\x09old\0"),), ("FAIL", "L7RSP", "greeting is not MySQL's")),
        ({}, (packet(1, greeting()),), ("FAIL", "L7RSP", "greeting is not MySQL's")),
        ({}, (b"220 mail.example.org ESMTP\r\n",), ("FAIL", "L7RSP", "greeting is not MySQL's")),
    ],
)
async def test_servers(probe, settings, replies, wanted):
    async with speaking(*replies) as server:
        verdict, status, detail = await probe(Mysql(**settings), server.target(), 1.0)
        sent = b"".join(server.received)
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail
    assert b"s3cret" not in sent


async def test_no_login_in_plain_text_when_tls_is_asked_for(probe):
    hello = packet(0, greeting(flags=0x008FF7FF & ~0x800))
    async with speaking(hello, packet(2, error(1045, b"#28000no"))) as server:
        got = await probe(Mysql(**USER, tls="starttls"), server.target())
        sent = bytes(server.received[0])
    assert got == ("FAIL", "L6RSP", "the server does not offer TLS")
    assert b"watch" not in sent, "the name of the account went out in plain text"
    assert b"lbhealth" in sent, "a handshake cut short counts against this host"


async def test_byte_by_byte(probe):
    async with ScriptedServer.slow_drip(HELLO + OK, every=0.001) as server:
        assert (await probe(Mysql(**USER), server.target()))[0] == "PASS"
        assert bytes(server.received[0]).endswith(packets.QUIT)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"password": "b"}, "login"),
        ({"database": "b"}, "login"),
        ({"request": "select 1"}, "login"),
        ({"login": "a", "value": "1"}, "value"),
        ({"login": "a\0"}, "login"),
        ({"tls": "implicit"}, "tls"),
        ({"verify": True}, "verify"),
    ],
)
def test_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Mysql(**settings)
    assert caught.value.field == field


def test_empty_is_none():
    assert Mysql(login="", password="", database="", request="") == Mysql()
    assert "s3cret" not in repr(Mysql(**USER))


@pytest.mark.parametrize("cut", range(len(greeting())))
def test_cut(cut):
    with contextlib.suppress(CheckFailed):
        assert packets.parse_greeting(greeting()[:cut]).version == b"8.0.36"


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"\x0a5\0" + b))
def test_any_bytes(data):
    with contextlib.suppress(CheckFailed):
        packets.greeting_length(data[:4].ljust(4, b"\0"))
    with contextlib.suppress(CheckFailed):
        packets.parse_greeting(data)
