"""The SMTP checks without a real server: settings, and servers that misbehave."""

import asyncio
import dataclasses
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbhealth.checkers.smtp import Smtp, Submission
from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Verdict
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.checkers.scripts import conversation

GREETING = b"220-mail.test ESMTP\r\n220 ready\r\n"
REPLIES = {
    b"EHLO": b"250-mail.test\r\n250-SIZE 1000\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n",
    b"HELO": b"250 mail.test\r\n",
    b"AUTH CRAM": b"504 No\r\n",
    b"AUTH PLAIN": b"235 In\r\n",
    b"QUIT": b"221 Bye\r\n",
    b"": b"500 What?\r\n",
}
PASS = ("PASS", "L7OK", "220 mail.test ESMTP")
USER = {"login": "a", "password": "b"}


class TestSmtp(CheckerContract):
    def checker(self):
        return Smtp()


class TestSmtps(CheckerContract):
    def checker(self):
        return Smtp(tls="implicit")


class TestSubmission(CheckerContract):
    def checker(self):
        return Submission(tls="starttls", login="a", password="b")


@pytest.mark.parametrize(
    ("fields", "field", "position"),
    [
        ({"helo": ""}, "helo", None),
        ({"helo": "a b"}, "helo", None),
        ({"helo": "a\r\nQUIT"}, "helo", None),
        ({"helo": "ä.test"}, "helo", None),
        ({"helo": "a" * 256}, "helo", None),
        ({"login": "a\n"}, "login", 1),
        ({"login": "a", "password": "b\0"}, "password", 1),
        ({"password": "b"}, "password", None),
        ({"tls": "auto"}, "tls", None),
        ({"verify": True}, "verify", None),
        ({"tls": "starttls", "ca_file": "/x"}, "ca_file", None),
    ],
)
def test_settings_are_refused(fields, field, position):
    with pytest.raises(SettingError) as error:
        Smtp(**fields)
    assert (error.value.field, error.value.position) == (field, position)


def test_values():
    assert (Smtp.kind, Submission.kind) == ("smtp", "submission")
    assert Smtp() != Submission()
    assert "hidden" not in repr(Smtp(login="a", password="hidden"))
    field = next(f for f in dataclasses.fields(Submission) if f.name == "password")
    assert field.metadata["secret"]


@pytest.mark.parametrize(
    ("helo", "host", "said"),
    [
        (None, "lb1.example.org", b"lb1.example.org"),
        (None, "lb1", b"localhost.localdomain"),
        (None, "ä.example.org", b"localhost.localdomain"),
        ("[IPv6:2001:db8::1]", "lb1.example.org", b"[IPv6:2001:db8::1]"),
    ],
)
async def test_the_name_given_to_the_server(probe, monkeypatch, helo, host, said):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    async with conversation(GREETING, REPLIES) as server:
        assert await probe(Smtp(helo=helo), server.target()) == PASS
        assert server.received[0] == b"EHLO " + said + b"\r\nQUIT\r\n"


@pytest.mark.parametrize("piece", [None, 1, 2, 3, 4, 5, 7])
async def test_pieces(probe, piece):
    async with conversation(GREETING, REPLIES, piece=piece) as server:
        assert await probe(Smtp(**USER), server.target()) == PASS


async def test_slow_trickle_is_a_timeout(probe):
    async with conversation(GREETING, REPLIES, piece=1, every=0.02) as server:
        got = await probe(Smtp(), server.target(), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_helo_where_ehlo_is_unknown(probe):
    async with conversation(GREETING, REPLIES | {b"EHLO": b"502 What?\r\n"}) as server:
        assert await probe(Smtp(helo="a.test"), server.target()) == PASS
        assert server.received[0] == b"EHLO a.test\r\nHELO a.test\r\nQUIT\r\n"


@pytest.mark.parametrize(
    ("greeting", "replies", "wanted"),
    [
        (b"SSH-2.0-x\r\n", {}, ("L7RSP", "no SMTP reply: Malformed SMTP response line: SSH-2.0-x")),
        (b"250 Hi\r\n", {}, ("L7RSP", "unexpected reply: 250 Hi")),
        (b"421 Too busy\x1b\r\n", {}, ("L7STS", "busy or closing: 421 Too busy\\x1b")),
        (b"554-No\r\n554 Service\r\n", {}, ("L7STS", "greeting refused: 554 No\\nService")),
        (b"220-a\r\n" * 9000, {}, ("L7RSP", "Response too long")),
        (GREETING, {b"EHLO": b"421 Bye\r\n"}, ("L7STS", "busy or closing: 421 Bye")),
        (GREETING, {b"EHLO": b"450 Later\r\n"}, ("L7STS", "450 Later")),
        (GREETING, {b"EHLO": b"hm\r\n"}, ("L7RSP", "no SMTP reply")),
        (GREETING, {b"EHLO": None}, ("L7RSP", "connection")),
        (GREETING, {b"EHLO": b"500 x\r\n", b"HELO": b"550 y\r\n"}, ("L7STS", "550 y")),
        (GREETING, {b"AUTH CRAM": None}, ("L7RSP", "connection")),
        (GREETING, {b"EHLO": b"250 mail.test\r\n"}, ("L7STS", "no way to log in")),
        (GREETING, {b"EHLO": b"250-a\r\n250 AUTH NTLM\r\n"}, ("L7STS", "no way to log in")),
        (GREETING, {b"AUTH CRAM": b"334 !\r\n"}, ("L7STS", "login refused: 500")),
        (GREETING, {b"AUTH CRAM": b"454 Later\r\n"}, ("L7STS", "login refused: 454 Later")),
    ],
)
async def test_bad_replies(probe, greeting, replies, wanted):
    async with conversation(greeting, REPLIES | replies) as server:
        verdict, status, detail = await probe(Smtp(**USER), server.target())
    assert (verdict, status) == ("FAIL", wanted[0]), detail
    assert wanted[1] in detail


async def test_another_way_to_log_in_only_where_the_way_was_at_fault(probe):
    async with conversation(GREETING, REPLIES) as server:
        assert await probe(Smtp(**USER), server.target()) == PASS
    async with conversation(GREETING, REPLIES | {b"AUTH CRAM": b"535 No\r\n"}) as server:
        got = await probe(Smtp(**USER), server.target())
        assert got == ("FAIL", "L7STS", "login refused: 535 No")
        assert b"PLAIN" not in server.received[0]


async def test_tls_that_is_announced_and_refused(probe):
    replies = {b"EHLO": b"250-a\r\n250 STARTTLS\r\n", b"STARTTLS": b"454 Not now\r\n"}
    async with conversation(GREETING, REPLIES | replies) as server:
        got = await probe(Smtp(tls="starttls"), server.target())
    assert got == ("FAIL", "L7STS", "STARTTLS refused: 454 Not now")


async def test_tls_that_is_agreed_and_never_begins(probe):
    replies = {b"EHLO": b"250-a\r\n250 STARTTLS\r\n", b"STARTTLS": b"220 Go\r\n", b"\x16": b""}
    async with conversation(GREETING, REPLIES | replies | {b"": b""}) as server:
        got = await probe(Smtp(tls="starttls"), server.target(), 0.3)
    assert got[:2] == ("FAIL", "L6TOUT")


@pytest.mark.parametrize("farewell", [None, b"500 No\r\n", b"nonsense\r\n"])
async def test_the_farewell_does_not_matter(probe, farewell):
    async with conversation(GREETING, REPLIES | {b"QUIT": farewell}) as server:
        assert await probe(Smtp(), server.target()) == PASS


@settings(max_examples=60)
@given(st.lists(st.sampled_from([b"220", b"2", b"-", b" ", b"\r\n", b"\n", b"\xff", b"a"])))
def test_no_greeting_raises(pieces):
    async def run():
        async with ScriptedServer.close_early(b"".join(pieces)) as server:
            return await run_check(Smtp(), server.target(), 2)

    result = asyncio.run(run())
    assert result.verdict is Verdict.FAIL, result
