"""The LDAP checks against servers that misbehave, and what reads their bytes."""

import contextlib
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers import ldap_codec as codec
from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.testing import CheckerContract, ScriptedServer


def message(number, operation, body):
    inner = bytes([2, 1, number, operation, len(body)]) + body
    return bytes([0x30, len(inner)]) + inner


def result(code, text=b""):
    return bytes([10, 1, code, 4, 0, 4, len(text)]) + text


def entry(dn):
    return bytes([4, len(dn)]) + dn + b"\x30\x00"


BOUND = message(1, 0x61, result(0))
DONE = message(2, 0x65, result(0))
FOUND = message(2, 0x64, entry(b"dc=a")) + DONE


class TestLdap(CheckerContract):
    def checker(self):
        return Ldap(login="cn=a", password="b", request="dc=a")


class TestLdapStartTls(CheckerContract):
    def checker(self):
        return Ldap(tls="starttls")


class TestLdaps(CheckerContract):
    def checker(self):
        return Ldaps()


@pytest.mark.parametrize(
    ("replies", "wanted"),
    [
        ((BOUND, FOUND), ("PASS", "L7OK", 'found "dc=a"')),
        ((BOUND, DONE), ("FAIL", "L7RSP", 'the search for "dc=a" found no entry')),
        ((BOUND, FOUND[: -len(DONE)] + FOUND), ("FAIL", "L7RSP", "found 2 entries")),
        ((BOUND, message(2, 0x65, result(10))), ("FAIL", "L7STS", "referral (10)")),
        ((message(1, 0x61, result(51)),), ("FAIL", "L7STS", "busy: busy (51)")),
        (
            (message(1, 0x61, result(52, b"go\x1b")),),
            ("FAIL", "L7STS", 'busy: unavailable (52), "go\\x1b"'),
        ),
        ((message(1, 0x61, result(99)),), ("FAIL", "L7STS", "unknown result (99)")),
        ((message(2, 0x61, result(0)),), ("FAIL", "L7RSP", "an answer to another request")),
        ((message(1, 0x65, result(0)),), ("FAIL", "L7RSP", "an answer to another request")),
        (
            (message(0, 0x78, result(52)),),
            ("FAIL", "L7STS", "the server takes leave: unavailable (52)"),
        ),
        ((message(1, 0x61, b""),), ("FAIL", "L7RSP", "malformed LDAP message")),
        ((b"\x30\x84\x7f\xff\xff\xff",), ("FAIL", "L7RSP", "claims to be")),
        ((b"\x30\x80\0\0",), ("FAIL", "L7RSP", "the answer is not LDAP")),
        ((b"HTTP/1.0 400 Bad\r\n\r\n",), ("FAIL", "L7RSP", "the answer is not LDAP")),
        ((BOUND[:5],), ("FAIL", "L7RSP", "closed the connection early")),
    ],
)
async def test_answers(probe, replies, wanted):
    async with ScriptedServer.reply(*replies) as server:
        verdict, status, detail = await probe(Ldap(request="dc=a"), server.target(), 1.0)
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_long_form_lengths(probe):
    """Active Directory writes every length in five bytes."""
    inner = b"\x02\x01\x01\x61\x84\0\0\0\x07" + result(0)
    async with ScriptedServer.reply(b"\x30\x84\0\0\0" + bytes([len(inner)]) + inner) as server:
        assert (await probe(Ldap(), server.target()))[0] == "PASS"


async def test_byte_by_byte_and_farewell(probe):
    async with ScriptedServer.slow_drip(BOUND + FOUND, every=0.001) as server:
        assert (await probe(Ldap(request="dc=a"), server.target()))[0] == "PASS"
        sent = bytes(server.received[0])
    assert sent.endswith(codec.unbind(3))


async def test_no_tls_on_offer(probe):
    async with ScriptedServer.reply(message(1, 0x78, result(2, b"what?"))) as server:
        got = await probe(Ldap(tls="starttls"), server.target())
    assert got == ("FAIL", "L7STS", 'StartTLS refused: protocolError (2), "what?"')


async def test_data_before_tls_is_refused(probe):
    async with ScriptedServer.reply(message(1, 0x78, result(0)) + BOUND) as server:
        got = await probe(Ldap(tls="starttls"), server.target())
    assert got[:2] == ("FAIL", "L7RSP")
    assert "between its consent and TLS" in got[2]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"login": "cn=a"}, "password"),
        ({"password": "b"}, "login"),
        ({"receive": "a"}, "receive"),
        ({"request": "a", "receive": "("}, "receive"),
        ({"request": "a" * 3000}, "request"),
        ({"tls": "yes"}, "tls"),
        ({"verify": True}, "verify"),
    ],
)
def test_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Ldap(**settings)
    assert caught.value.field == field


def test_empty_is_none():
    assert Ldap(login="", password="", request="", receive="") == Ldap()
    assert Ldaps().tls == "implicit"
    assert "b" not in repr(Ldap(login="x", password="b")).replace("verify", "").replace("ldap", "")


def read(data):
    """All messages in `data`, as the check reads them."""
    answers = []
    while (length := codec.frame_length(data)) is not None and length <= len(data):
        answers.append(codec.decode(data[:length]))
        data = data[length:]
    return answers


@pytest.mark.parametrize("cut", range(len(FOUND)))
def test_cut(cut):
    assert len(read(FOUND[:cut])) == (1 if cut >= len(FOUND) - len(DONE) else 0)


@given(st.binary(max_size=200) | st.binary(max_size=120).map(functools.partial(message, 1, 0x61)))
def test_any_bytes(data):
    with contextlib.suppress(CheckFailed):
        for answer in read(data):
            assert isinstance(answer, codec.Answer)


@given(st.data())
def test_any_changed_byte(data):
    changed = bytearray(BOUND + FOUND)
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CheckFailed):
        read(bytes(changed))
