"""The PostgreSQL check against servers that misbehave, and what reads their first bytes."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers import pgsql_packets as packets
from lbhealth.checkers.pgsql import Pgsql
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.testing import CheckerContract, ScriptedServer


def message(kind, body):
    return kind + struct.pack("!I", 4 + len(body)) + body


def error(state, text):
    return message(b"E", b"SFATAL\0C" + state + b"\0M" + text + b"\0\0")


READY = (
    message(b"R", b"\0\0\0\0")
    + message(b"S", b"client_encoding\0UTF8\0")
    + message(b"S", b"server_version\x0015.4\0")
    + message(b"K", b"\0\0\0\1\0\0\0\2")
    + message(b"Z", b"I")
)
PASSWORD_PLEASE = message(b"R", b"\0\0\0\3")
USER = {"login": "watch", "password": "s3cret"}


class TestPgsql(CheckerContract):
    def checker(self):
        return Pgsql(**USER, request="select 1")


class TestPgsqlReady(CheckerContract):
    def checker(self):
        return Pgsql()


class TestPgsqlTls(CheckerContract):
    def checker(self):
        return Pgsql(**USER, tls="starttls")


@pytest.mark.parametrize(
    ("settings", "replies", "wanted"),
    [
        ({}, (PASSWORD_PLEASE,), ("PASS", "L7OK", "ready for a login")),
        ({}, (error(b"28000", b"no entry"),), ("PASS", "L7OK", "ready for a login")),
        ({}, (message(b"N", b"\0") + PASSWORD_PLEASE,), ("PASS", "L7OK", "ready")),
        ({}, (error(b"57P03", b"starting\x1b"),), ("FAIL", "L7STS", 'busy: "starting\\x1b"')),
        ({}, (message(b"N", b"\0") * 101,), ("FAIL", "L7RSP", "more than 100 notices")),
        ({}, (b"HTTP/1.0 400 Bad\r\n\r\n",), ("FAIL", "L7RSP", "not PostgreSQL's")),
        ({}, (PASSWORD_PLEASE[:4],), ("FAIL", "L7RSP", "closed the connection early")),
        (USER, (READY,), ("PASS", "L7OK", "logged in")),
        (USER, (error(b"57P03", b"starting"),), ("FAIL", "L7STS", "busy: ")),
        (USER, (error(b"28P01", b"no"),), ("FAIL", "L7STS", 'login refused: "no" (28P01)')),
        (USER, (b"",), ("FAIL", "L7RSP", "closed the connection")),
        ({"tls": "starttls"}, (b"N",), ("FAIL", "L6RSP", "does not offer TLS")),
        ({"tls": "starttls"}, (error(b"1", b"x"),), ("FAIL", "L7RSP", "not PostgreSQL's")),
        ({"tls": "starttls"}, (b"Sx",), ("FAIL", "L7RSP", "between its consent and TLS")),
    ],
)
async def test_servers(probe, settings, replies, wanted):
    async with ScriptedServer.reply(*replies) as server:
        verdict, status, detail = await probe(Pgsql(**settings), server.target(), 1.0)
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_byte_by_byte(probe):
    async with ScriptedServer.slow_drip(READY, every=0.001) as server:
        assert (await probe(Pgsql(**USER), server.target()))[0] == "PASS"
        assert bytes(server.received[0]).endswith(b"X\0\0\0\4")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"password": "b"}, "login"),
        ({"login": "a", "value": "1"}, "value"),
        ({"tls": "implicit"}, "tls"),
        ({"login": "a", "request": "\0"}, "request"),
    ],
)
def test_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Pgsql(**settings)
    assert caught.value.field == field


@given(st.binary(min_size=5, max_size=5), st.binary(max_size=100))
def test_any_bytes(header, body):
    packets.parse_error(body)
    with contextlib.suppress(CheckFailed):
        assert packets.body_length(header) >= 0
