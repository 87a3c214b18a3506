"""The LDAP checks against OpenLDAP."""

import asyncio
import os
import time

import pytest

from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.model import Target
from tests.servers import kit
from tests.servers.kit import certificates
from tests.servers.slapd import BASE, LOGIN, PASSWORD, slapd, strict_slapd

__all__ = ["certificates", "slapd", "strict_slapd"]

pytestmark = pytest.mark.xdist_group("slapd")

USER = {"login": LOGIN, "password": PASSWORD}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ("PASS", "L7OK", "bound anonymously")),
        (USER, ("PASS", "L7OK", f"bound as {LOGIN}")),
        ({"request": BASE}, ("PASS", "L7OK", f'found "{BASE}"')),
        ({"request": BASE, "receive": "^dc=example,"}, ("PASS", "L7OK", f'found "{BASE}"')),
        ({"request": LOGIN, **USER}, ("PASS", "L7OK", f'found "{LOGIN}"')),
        ({"request": BASE, "receive": "^o="}, ("FAIL", "L7RSP", 'does not match "^o="')),
        ({"request": LOGIN}, ("FAIL", "L7STS", "noSuchObject (32)")),
        ({"request": "dc=else"}, ("FAIL", "L7STS", "noSuchObject (32)")),
        ({"request": "no dn"}, ("FAIL", "L7STS", "invalidDNSyntax (34)")),
        (
            {"login": LOGIN, "password": "no"},
            ("FAIL", "L7STS", f'bind as "{LOGIN}" refused: invalidCredentials (49)'),
        ),
        ({"login": "nobody", "password": "no"}, ("FAIL", "L7STS", "invalidDNSyntax (34)")),
    ],
)
@pytest.mark.parametrize("tls", ["none", "implicit", "starttls"])
async def test_ldap(slapd, probe, address, settings, wanted, tls):
    target = slapd.target(slapd.ldaps if tls == "implicit" else slapd.ldap, address)
    verdict, status, detail = await probe(Ldap(**settings, tls=tls), target)
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_ldaps_is_implicit(slapd, probe):
    assert (await probe(Ldaps(), slapd.target(slapd.ldaps)))[0] == "PASS"


async def test_no_secret_in_the_dialogue(slapd, probe):
    heard = []
    checker = Ldap(request=LOGIN, **USER)
    await probe(checker, slapd.target(slapd.ldap), trace=lambda *step: heard.append(step))
    text = repr(heard) + repr(checker)
    assert "invalidCredentials" not in text
    assert "bind as" in text
    assert PASSWORD not in text
    assert "s3cret" not in text


@pytest.mark.parametrize("name", [None, kit.SERVER_NAME])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_verified(slapd, probe, certificates, tls, name):
    checker = Ldap(tls=tls, verify=True, ca_file=str(certificates.ca))
    target = slapd.target(slapd.ldaps if tls == "implicit" else slapd.ldap, server_name=name)
    assert (await probe(checker, target))[:2] == ("PASS", "L7OK")


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_tls_refused(slapd, strict_slapd, probe, certificates, tls):
    def port(server):
        return server.ldaps if tls == "implicit" else server.ldap

    checker = Ldap(tls=tls, verify=True, ca_file=str(certificates.ca))
    other = slapd.target(port(slapd), server_name="other.example.org")
    verdict, status, detail = await probe(checker, other)
    assert (verdict, status) == ("FAIL", "L6RSP")
    assert "does not match the name" in detail
    expired = strict_slapd.target(port(strict_slapd))
    assert await probe(checker, expired) == ("FAIL", "L6RSP", "certificate expired")
    assert (await probe(Ldap(tls=tls, **USER), expired))[0] == "PASS"
    refused = await probe(Ldap(tls=tls), expired)
    assert refused[:2] == ("FAIL", "L7STS")
    assert "anonymous bind refused: inappropriateAuthentication (48)" in refused[2]
    plain = await probe(Ldaps(), slapd.target(slapd.ldap))
    assert plain[:2] == ("FAIL", "L6RSP")


async def test_refused(probe):
    got = await probe(Ldap(), Target("127.0.0.1", kit.free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize(("tls", "status"), [("none", "L7TOUT"), ("implicit", "L6TOUT")])
async def test_stopped(slapd, probe, tls, status):
    target = slapd.target(slapd.ldaps if tls == "implicit" else slapd.ldap)
    with kit.stopped(slapd.process):
        start = time.monotonic()
        got = await probe(Ldap(tls=tls), target, 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", status)
    assert (await probe(Ldap(tls=tls), target))[0] == "PASS"


async def test_many_at_once(slapd, probe):
    """None waits for another, and no descriptor is left."""
    checkers = [Ldap(request=BASE, receive=f"dc=|{n}") for n in range(200)]
    before = len(os.listdir("/proc/self/fd"))
    got = await asyncio.gather(*(probe(c, slapd.target(slapd.ldap), 10) for c in checkers))
    assert {verdict for verdict, *_ in got} == {"PASS"}
    assert len(os.listdir("/proc/self/fd")) <= before
