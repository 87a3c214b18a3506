"""The FTP check against vsftpd."""

import socket
import time

import pytest

from lbhealth.checkers.ftp import Ftp
from lbhealth.model import Target
from tests.servers.kit import SERVER_NAME, certificates, free_port, stopped
from tests.servers.vsftpd import BIG, CONTENT, LOGIN, PASSWORD, vsftpd

__all__ = ["certificates", "vsftpd"]

pytestmark = pytest.mark.xdist_group("vsftpd")

PLACES = ["127.0.0.1", "::1"]
PASS = ("PASS", "L7OK")


@pytest.mark.parametrize("address", PLACES)
@pytest.mark.parametrize("tls", ["none", "starttls"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, (*PASS, "logged in")),
        ({"request": "status.txt"}, (*PASS, f"{len(CONTENT)} bytes")),
        ({"request": "/status.txt", "receive": "^state: re.dy$"}, (*PASS, "13 bytes")),
        ({"request": "status.txt", "receive": "sick"}, ("FAIL", "L7RSP", 'not match "sick"')),
        ({"request": "a b é.txt", "receive": "ready"}, (*PASS, "13 bytes")),
        ({"request": "empty.txt"}, (*PASS, "0 bytes")),
        ({"request": "empty.txt", "receive": "x"}, ("FAIL", "L7RSP", "0 bytes, but the file")),
        ({"request": "big"}, (*PASS, f"{BIG} bytes")),
        ({"request": "big", "receive": "END-OF"}, ("FAIL", "L7RSP", "first 1048576 do not")),
        ({"request": "missing"}, ("FAIL", "L7STS", "transfer refused: 550")),
        ({"request": "secret.txt"}, ("FAIL", "L7STS", "transfer refused: 550")),
        ({"login": LOGIN, "password": PASSWORD, "request": "status.txt"}, (*PASS, "13 bytes")),
        ({"login": LOGIN, "password": "wrong"}, ("FAIL", "L7STS", "login refused: 530")),
        ({"login": "nobody", "password": "x"}, ("FAIL", "L7STS", "login refused: 530")),
    ],
)
async def test_ftp(vsftpd, probe, address, tls, settings, wanted):
    target = vsftpd.target("plain", address)
    verdict, status, detail = await probe(Ftp(tls=tls, **settings), target)
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


@pytest.mark.parametrize("settings", [{}, {"request": "big"}])
async def test_implicit_tls(vsftpd, probe, settings):
    checker = Ftp(tls="implicit", verify=True, ca_file=vsftpd.ca_file, **settings)
    for name in (SERVER_NAME, None):
        got = await probe(checker, vsftpd.target("implicit", server_name=name))
        assert got[:2] == PASS, got


async def test_pasv_where_epsv_is_unknown(vsftpd, probe):
    got = await probe(Ftp(request="status.txt"), vsftpd.target("no_epsv"))
    assert got == (*PASS, "13 bytes")


@pytest.mark.parametrize(
    ("port", "tls", "name", "own_ca", "reason"),
    [
        ("expired", "implicit", SERVER_NAME, True, "certificate expired"),
        ("implicit", "implicit", "other.test", True, "does not match the name"),
        ("implicit", "implicit", SERVER_NAME, False, "unknown"),
        ("plain", "implicit", SERVER_NAME, True, "does not speak TLS"),
        ("wrong_name", "starttls", SERVER_NAME, True, "does not match the name"),
        ("plain", "starttls", SERVER_NAME, False, "unknown"),
    ],
)
async def test_tls_refused(vsftpd, probe, port, tls, name, own_ca, reason):
    ca_file = vsftpd.ca_file if own_ca else None
    checker = Ftp(tls=tls, verify=True, ca_file=ca_file)
    verdict, status, detail = await probe(checker, vsftpd.target(port, server_name=name))
    assert (verdict, status) == ("FAIL", "L6RSP"), detail
    assert reason in detail


async def test_any_certificate_without_verify(vsftpd, probe):
    assert await probe(Ftp(tls="implicit"), vsftpd.target("expired")) == (*PASS, "logged in")


async def test_no_starttls_on_offer(vsftpd, probe):
    verdict, status, detail = await probe(Ftp(tls="starttls"), vsftpd.target("no_tls"))
    assert (verdict, status) == ("FAIL", "L7STS"), detail
    assert detail.startswith("TLS refused: 530")


async def test_plain_text_on_the_tls_port_is_a_timeout(vsftpd, probe):
    got = await probe(Ftp(), vsftpd.target("implicit"), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_busy(vsftpd, probe):
    target = vsftpd.target("full")
    with socket.create_connection((target.address, target.port)) as guest:
        assert guest.recv(100).startswith(b"220")
        verdict, status, detail = await probe(Ftp(), target)
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail.startswith("busy or closing: 421 ")


async def test_refused(probe):
    got = await probe(Ftp(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize(
    ("port", "tls", "status"), [("plain", "none", "L7TOUT"), ("implicit", "implicit", "L6TOUT")]
)
async def test_stopped(vsftpd, probe, port, tls, status):
    with stopped(vsftpd.process):
        start = time.monotonic()
        got = await probe(Ftp(tls=tls), vsftpd.target(port), 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", status)
    assert (await probe(Ftp(tls=tls), vsftpd.target(port)))[:2] == PASS


async def test_dialogue_is_whole_and_shows_no_password(vsftpd, probe):
    lines = []
    checker = Ftp(login=LOGIN, password=PASSWORD, request="status.txt", tls="starttls")
    got = await probe(checker, vsftpd.target(), trace=lambda d, t: lines.append((d, str(t))))
    assert got[:2] == PASS
    sent = [text for direction, text in lines if direction == ">"]
    assert sent[:3] == ["AUTH TLS", "USER health", "PASS ***"]
    assert sent[-2:] == ["RETR status.txt", "QUIT"]
    assert any("221" in text for _, text in lines)
    assert PASSWORD not in repr((lines, got, checker))
