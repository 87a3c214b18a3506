"""The IMAP and POP3 checks against Dovecot."""

import asyncio
import contextlib
import time

import pytest

from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.pop import Pop, Pops
from tests.servers import kit
from tests.servers.dovecot import (
    EXPIRED,
    PASSWORD,
    UMLAUT,
    USER,
    WRONG_NAME,
    dovecot,
    strict_dovecot,
)
from tests.servers.kit import certificates

__all__ = ["certificates", "dovecot", "strict_dovecot"]

pytestmark = pytest.mark.xdist_group("dovecot")

GOOD = {"login": USER, "password": PASSWORD}
KINDS = [(Imap, "imap"), (Pop, "pop3")]
TLS = [(Imaps, "imaps"), (Pops, "pop3s")]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_good_and_wrong(dovecot, probe, kind, service, tls, address):
    target = dovecot.target(service + "s" * (tls == "implicit"), address)
    assert await probe(kind(tls=tls), target) == ("PASS", "L7OK", "ready")
    assert await probe(kind(**GOOD, tls=tls), target) == ("PASS", "L7OK", "logged in")
    verdict, status, detail = await probe(kind(login=USER, password="wrong", tls=tls), target)
    assert (verdict, status) == ("FAIL", "L7STS")
    assert "refused" in detail
    assert "uthentication failed" in detail


@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_password_beyond_ascii(dovecot, probe, kind, service):
    checker = kind(login="umlaut", password=UMLAUT)
    assert await probe(checker, dovecot.target(service)) == ("PASS", "L7OK", "logged in")


@pytest.mark.parametrize(("kind", "service"), TLS)
async def test_variants_speak_tls_at_once(dovecot, probe, kind, service):
    assert await probe(kind(**GOOD), dovecot.target(service)) == ("PASS", "L7OK", "logged in")
    verdict, status, detail = await probe(kind(), dovecot.target(service[:-1]))
    assert (verdict, status) == ("FAIL", "L6RSP")
    assert "does not speak TLS" in detail


@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_plain_on_the_tls_port(dovecot, probe, kind, service):
    verdict, status, _ = await probe(kind(), dovecot.target(service + "s"), 0.3)
    assert (verdict, status) == ("FAIL", "L7TOUT")  # the server waits for a ClientHello


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_certificates(dovecot, probe, certificates, kind, service, tls):
    service += "s" * (tls == "implicit")
    checker = kind(tls=tls, verify=True, ca_file=str(certificates.ca))
    for address, name, wanted in [
        ("127.0.0.1", None, None),
        ("127.0.0.1", kit.SERVER_NAME, None),
        ("127.0.0.1", "other.example.org", "does not match the name"),
        (EXPIRED, kit.SERVER_NAME, "certificate expired"),
        (WRONG_NAME, kit.SERVER_NAME, "does not match the name"),
    ]:
        got = await probe(checker, dovecot.target(service, address, server_name=name))
        if wanted is None:
            assert got == ("PASS", "L7OK", "ready")
        else:
            assert got[:2] == ("FAIL", "L6RSP")
            assert wanted in got[2]
    got = await probe(kind(tls=tls, verify=True), dovecot.target(service))
    assert got[:2] == ("FAIL", "L6RSP")
    assert (await probe(kind(tls=tls), dovecot.target(service, EXPIRED)))[0] == "PASS"


@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_impossible_server_name_is_our_error(dovecot, probe, kind, service):
    target = dovecot.target(service, server_name="." + "x" * 70)
    verdict, _, detail = await probe(kind(tls="starttls"), target)
    assert verdict == "ERROR"
    assert "cannot be a TLS server name" in detail


@pytest.mark.parametrize(
    ("kind", "service", "status"), [(*k, "L7TOUT") for k in KINDS] + [(*k, "L6TOUT") for k in TLS]
)
async def test_stopped(dovecot, probe, kind, service, status):
    start = time.monotonic()
    with kit.stopped(dovecot.process):
        got = await probe(kind(**GOOD), dovecot.target(service), 0.3)
    assert got[:2] == ("FAIL", status)
    assert time.monotonic() - start < 1.3


@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_source_far_away_may_not_log_in_plainly(strict_dovecot, probe, kind, service):
    # Dovecot takes a client with the address that it came to for a local one.
    target = strict_dovecot.target(service, source="127.0.0.9")
    assert await probe(kind(), target) == ("PASS", "L7OK", "ready")
    assert await probe(kind(**GOOD, tls="starttls"), target) == ("PASS", "L7OK", "logged in")
    if kind is Imap:
        got = await probe(kind(**GOOD), target)
        assert got == ("FAIL", "L7STS", "the server forbids LOGIN here (LOGINDISABLED)")


async def test_apop(strict_dovecot, probe):
    heard = []
    target = strict_dovecot.target("pop3", source="127.0.0.9")
    got = await probe(Pop(**GOOD), target, trace=lambda *step: heard.append(step))
    assert got == ("PASS", "L7OK", "logged in")
    assert (">", b"APOP hc ***\r\n") in heard
    verdict, status, detail = await probe(Pop(login=USER, password="wrong"), target)
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail.startswith("APOP refused")


@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_busy(strict_dovecot, probe, kind, service):
    """One session for each user and address: a second is turned away after its login."""
    target = strict_dovecot.target(service)
    reader, writer = await asyncio.open_connection(target.address, target.port)
    try:
        await reader.readline()
        quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
        words = (
            f'a LOGIN {USER} "{quoted}"\r\n'
            if kind is Imap
            else f"USER {USER}\r\nPASS {PASSWORD}\r\n"
        )
        writer.write(words.encode())
        await reader.readline()
        if kind is Pop:
            await reader.readline()
        got = await probe(kind(**GOOD), target)
        assert got[:2] == ("FAIL", "L7STS")
        assert "Maximum number of connections" in got[2]
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("password", [PASSWORD, "wrong-one"])
@pytest.mark.parametrize(("kind", "service"), KINDS)
async def test_nothing_secret_is_told(dovecot, probe, kind, service, password):
    heard = []
    checker = kind(login=USER, password=password)
    target = dovecot.target(service)
    got = await probe(checker, target, trace=lambda *step: heard.append(step))
    text = repr([*heard, got, checker])
    assert "wrong-one" not in text
    assert 'se"cr' not in text
    assert 'se\\"cr' not in text
    assert "***" in text
    assert got[0] != "PASS" or "QUIT" in text or "LOGOUT" in text
