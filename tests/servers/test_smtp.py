"""The SMTP checks against Postfix."""

import socket
import time

import pytest

from lbhealth.checkers.smtp import Smtp, Submission
from lbhealth.model import Target
from tests.servers.kit import SERVER_NAME, certificates, free_port, stopped
from tests.servers.postfix import LOGIN, PASSWORD, postfix

__all__ = ["certificates", "postfix"]

pytestmark = pytest.mark.xdist_group("postfix")

PASS = ("PASS", "L7OK", "220 mail.test ESMTP ready")
USER = {"login": LOGIN, "password": PASSWORD}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("port", "settings", "wanted"),
    [
        ("smtp", {}, PASS),
        ("smtp", {"helo": "[192.0.2.1]"}, PASS),
        ("smtp", {"tls": "starttls"}, PASS),
        ("smtps", {"tls": "implicit"}, PASS),
        ("expired", {"tls": "implicit"}, PASS),
        ("helo", {"helo": "lb.example.org"}, PASS),
        ("open_auth", USER, PASS),
        ("submission", {"tls": "starttls", **USER}, PASS),
        ("smtps", {"tls": "implicit", **USER}, PASS),
        ("submission", {"tls": "starttls", "login": LOGIN, "password": "x"}, "login refused: 535"),
        ("open_auth", {"login": LOGIN, "password": "x"}, "login refused: 535"),
        ("open_auth", {"login": "nobody", "password": "x"}, "login refused: 535"),
        ("submission", USER, "offers no way to log in"),
        ("smtp", {"tls": "starttls", **USER}, "offers no way to log in"),
        ("no_tls", {"tls": "starttls"}, "does not offer STARTTLS"),
        ("reject", {}, "greeting refused: 554"),
    ],
)
async def test_smtp(postfix, probe, address, port, settings, wanted):
    got = await probe(Submission(**settings), postfix.target(port, address))
    if isinstance(wanted, tuple):
        assert got == wanted
    else:
        assert got[:2] == ("FAIL", "L7STS"), got
        assert wanted in got[2]


async def test_refused_name(postfix, probe):
    verdict, status, detail = await probe(Smtp(helo="short"), postfix.target("helo"))
    assert (verdict, status) == ("FAIL", "L7STS")
    assert "504" in detail


@pytest.mark.parametrize("name", [SERVER_NAME, None])
@pytest.mark.parametrize(("port", "tls"), [("smtp", "starttls"), ("smtps", "implicit")])
async def test_verified(postfix, probe, port, tls, name):
    checker = Smtp(tls=tls, verify=True, ca_file=postfix.ca_file)
    assert await probe(checker, postfix.target(port, server_name=name)) == PASS


@pytest.mark.parametrize(
    ("port", "tls", "name", "own_ca", "reason"),
    [
        ("expired", "implicit", SERVER_NAME, True, "certificate expired"),
        ("smtps", "implicit", "other.test", True, "does not match the name"),
        ("smtps", "implicit", SERVER_NAME, False, "unknown"),
        ("smtp", "implicit", SERVER_NAME, True, "does not speak TLS"),
        ("wrong_name", "starttls", SERVER_NAME, True, "does not match the name"),
        ("smtp", "starttls", SERVER_NAME, False, "unknown"),
    ],
)
async def test_tls_refused(postfix, probe, port, tls, name, own_ca, reason):
    ca_file = postfix.ca_file if own_ca else None
    checker = Smtp(tls=tls, verify=True, ca_file=ca_file)
    verdict, status, detail = await probe(checker, postfix.target(port, server_name=name))
    assert (verdict, status) == ("FAIL", "L6RSP"), detail
    assert reason in detail


@pytest.mark.parametrize(("port", "tls"), [("smtp", "starttls"), ("smtps", "implicit")])
async def test_impossible_server_name_is_our_error(postfix, probe, port, tls):
    target = postfix.target(port, server_name="." + "x" * 70)
    verdict, _, detail = await probe(Smtp(tls=tls), target)
    assert verdict == "ERROR"
    assert "cannot be a TLS server name" in detail


async def test_plain_text_on_the_tls_port_is_a_timeout(postfix, probe):
    assert (await probe(Smtp(), postfix.target("smtps"), 0.3))[:2] == ("FAIL", "L7TOUT")


async def test_busy(postfix, probe):
    target = postfix.target("one")
    with socket.create_connection((target.address, target.port)) as guest:
        assert guest.recv(100).startswith(b"220")
        verdict, status, detail = await probe(Smtp(), target)
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail.startswith("busy or closing: 421 ")


async def test_refused(probe):
    got = await probe(Smtp(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize(
    ("port", "tls", "status"), [("smtp", "none", "L7TOUT"), ("smtps", "implicit", "L6TOUT")]
)
async def test_stopped(postfix, probe, port, tls, status):
    with stopped(postfix.process):
        start = time.monotonic()
        got = await probe(Smtp(tls=tls), postfix.target(port), 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", status)
    assert await probe(Smtp(tls=tls), postfix.target(port)) == PASS


@pytest.mark.parametrize(
    ("port", "tls", "words"),
    [
        ("open_auth", "none", ["EHLO", "AUTH CRAM-MD5", "***", "QUIT"]),
        ("submission", "starttls", ["EHLO", "STARTTLS", "EHLO", "AUTH PLAIN ***", "QUIT"]),
    ],
)
async def test_dialogue_is_whole_and_shows_no_password(postfix, probe, port, tls, words):
    lines = []
    checker = Smtp(helo="lb.test", tls=tls, **USER)
    got = await probe(checker, postfix.target(port), trace=lambda d, t: lines.append((d, t)))
    assert got == PASS
    sent = [t if isinstance(t, str) else t.decode() for d, t in lines if d == ">"]
    assert [text.removesuffix(" lb.test") for text in sent] == words
    assert lines[-1][1].startswith("221 ")
    assert PASSWORD not in repr((lines, got, checker))
