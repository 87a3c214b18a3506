"""The telnet and simpletcp checks: options, escapes, lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.simpletcp import SimpleTcp, unescape
from lbhealth.checkers.telnet import Telnet, TelnetDecoder
from lbhealth.errors import SettingError
from lbhealth.model import Target, TransportProtocol
from lbhealth.testing import CheckerContract, ScriptedServer


class TestTelnetContract(CheckerContract):
    def checker(self):
        return Telnet(receive="^login: $")


class TestSimpleTcpContract(CheckerContract):
    def checker(self):
        # A server that waits for the end of the request would answer to a half-closed one.
        return SimpleTcp(request="hello", receive="^no such line$", half_close=False)


IAC = b"\xff"
OFFERS = IAC + b"\xfb\x01" + IAC + b"\xfd\x18" + IAC + b"\xfc\x03" + IAC + b"\xfe\x05"
REFUSALS = IAC + b"\xfe\x01" + IAC + b"\xfc\x18"
PARAMETERS = IAC + b"\xfa\x18\x01" + IAC + IAC + b"x" + IAC + b"\xf0"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_options_are_refused(size):
    decoder, text, replies = TelnetDecoder(), b"", b""
    data = b"a" + OFFERS + b"b" + IAC + IAC + PARAMETERS + IAC + b"\xf1c"
    for start in range(0, len(data), size):
        new, answer = decoder.feed(data[start : start + size])
        text, replies = text + new, replies + answer
    assert (text, replies) == (b"ab\xffc", REFUSALS)


@given(st.lists(st.binary(max_size=6) | st.sampled_from([OFFERS, PARAMETERS, IAC])))
def test_telnet_bytes_may_be_cut_anywhere(pieces):
    decoder = TelnetDecoder()
    parts = [decoder.feed(piece) for piece in pieces]
    text, replies = TelnetDecoder().feed(b"".join(pieces))
    assert b"".join(t for t, _ in parts) == text
    assert b"".join(r for _, r in parts) == replies


async def test_telnet(probe):
    async with ScriptedServer.close_early(OFFERS) as server:
        assert await probe(Telnet(), server.target()) == ("PASS", "L7OK", "negotiates options")
    async with ScriptedServer.close_early(OFFERS + b"hi\x07") as server:
        assert await probe(Telnet(), server.target()) == ("PASS", "L7OK", '"hi\\x07"')
        got = await probe(Telnet(receive="login"), server.target())
        assert got == ("FAIL", "L7RSP", 'no match for "login" in "hi\\x07"')
    async with ScriptedServer.slow_drip(b"log" + OFFERS + b"in: ", every=0.01) as server:
        sent = []
        got = await probe(
            Telnet(receive="^login: $"), server.target(), trace=lambda *s: sent.append(s)
        )
        assert got == ("PASS", "L7OK", '"login: "')
        assert b"".join(data for direction, data in sent if direction == ">") == REFUSALS
    async with ScriptedServer.close_early() as server:
        assert (await probe(Telnet(), server.target()))[:2] == ("FAIL", "L7RSP")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"a\nb\r\t", b"a\nb\r\t"),
        (r"\x00\xff\x7F", b"\x00\xff\x7f"),
        (r"\\n", b"\\n"),
        (r"\d\q", rb"\d\q"),
        ("ä", "ä".encode()),
        ("end\\", b"end\\"),
        ("\udce4", b"\xe4"),
    ],
)
def test_escapes(text, data):
    assert unescape(text) == data


@given(st.binary())
def test_every_byte_can_be_written(data):
    assert unescape("".join(f"\\x{byte:02x}" for byte in data)) == data


def test_settings():
    with pytest.raises(SettingError) as caught:
        SimpleTcp(request=r"ab\x4")
    assert (caught.value.field, caught.value.position) == ("request", 2)
    with pytest.raises(SettingError, match="request"):
        SimpleTcp(request="x" * 40000)
    for kind in (SimpleTcp, Telnet):
        with pytest.raises(SettingError, match="receive"):
            kind(receive="(")


async def test_simpletcp(probe):
    async with ScriptedServer.close_early(b"one\r\ntwo") as server:
        target = server.target()
        assert await probe(SimpleTcp(), target) == ("PASS", "L7OK", '"one"')
        assert await probe(SimpleTcp(receive="^two$"), target) == ("PASS", "L7OK", '"two"')
        got = await probe(SimpleTcp(receive="one.*two"), target)
        assert got == ("FAIL", "L7RSP", 'no line matches "one.*two"; the first is "one"')
    async with ScriptedServer.slow_drip(b"ready\n", every=0.01) as server:
        got = await probe(SimpleTcp(receive="ready"), server.target())
        assert got == ("PASS", "L7OK", '"ready"')


async def test_sctp_is_our_error(probe):
    target = Target("127.0.0.1", 9, TransportProtocol.SCTP)
    assert await probe(SimpleTcp(), target) == (
        "ERROR",
        "SOCKERR",
        "simpletcp does not work over sctp",
    )
