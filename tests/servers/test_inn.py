"""The NNTP check against INN."""

import time

import pytest

from lbhealth.checkers.nntp import Nntp
from tests.servers import kit
from tests.servers.inn import GROUP, PASSWORD, USER, inn
from tests.servers.kit import certificates

__all__ = ["certificates", "inn"]

pytestmark = pytest.mark.xdist_group("inn")

GOOD = {"login": USER, "password": PASSWORD}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", ["none", "starttls"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ("PASS", "L7OK", "ready")),
        ({"group": GROUP}, ("PASS", "L7OK", f", group {GROUP}")),
        (GOOD, ("PASS", "L7OK", ", logged in")),
        ({**GOOD, "group": GROUP}, ("PASS", "L7OK", f", logged in, group {GROUP}")),
        ({"group": "no.such.group"}, ("FAIL", "L7RSP", "no such group")),
        ({"login": USER, "password": "wrong"}, ("FAIL", "L7STS", "login refused")),
    ],
)
async def test_nntp(inn, probe, address, tls, settings, wanted):
    verdict, status, detail = await probe(Nntp(**settings, tls=tls), inn.target(address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_certificate(inn, probe, certificates):
    checker = Nntp(tls="starttls", verify=True, ca_file=str(certificates.ca))
    assert (await probe(checker, inn.target()))[0] == "PASS"
    got = await probe(checker, inn.target(server_name="other.example.org"))
    assert got[:2] == ("FAIL", "L6RSP")
    assert "does not match the name" in got[2]


async def test_tls_on_the_plain_port(inn, probe):
    got = await probe(Nntp(tls="implicit"), inn.target())
    assert got[:2] == ("FAIL", "L6RSP")
    assert "does not speak TLS" in got[2]


async def test_stopped(inn, probe):
    start = time.monotonic()
    with kit.stopped(inn.process):
        got = await probe(Nntp(), inn.target(), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")
    assert time.monotonic() - start < 1.3


async def test_nothing_secret_is_told(inn, probe):
    heard = []
    checker = Nntp(**GOOD)
    heard.append(await probe(checker, inn.target(), trace=lambda *step: heard.append(step)))
    text = repr(heard) + repr(checker)
    assert PASSWORD not in text
    assert "AUTHINFO PASS ***" in text
    assert "QUIT" in text
