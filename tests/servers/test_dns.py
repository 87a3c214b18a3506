"""The DNS check against Knot DNS."""

import asyncio
import time

import pytest

from lbhealth.checkers.dns import Dns
from lbhealth.engine.runner import run_check
from tests.servers.kit import free_port, stopped
from tests.servers.knot import knot_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.xdist_group("knot")

PLACES = [("127.0.0.1", "udp"), ("127.0.0.1", "tcp"), ("::1", "udp"), ("::1", "tcp")]

GOOD = [
    (Dns("www.example.org"), "192.0.2.1"),
    (Dns("www.example.org", receive=r"^192\.0\.2\.11$"), "192.0.2.11"),
    (Dns("WWW.Example.org."), "192.0.2.1"),
    (Dns("alias.example.org", receive=r"2\.10"), "192.0.2.10"),
    (Dns("www.example.org", "aaaa", receive="^2001:db8::10$"), "2001:db8::10"),
    (Dns("192.0.2.10", receive=r"^www\.example\.org$"), "www.example.org."),
    (Dns("192.0.2.10", "PTR", receive=r"^www\.example\.org\.$"), "www.example.org."),
    (Dns("2001:db8::10", receive="www"), "www.example.org."),
    (Dns("10.2.0.192.in-addr.arpa", "PTR"), "www.example.org."),
    (Dns("example.org", "SOA", receive=r" 42 "), "ns.example.org. admin.example.org. 42"),
    (Dns("example.org", "MX", receive=r"^10 mail\.example\.org$"), "10 mail.example.org."),
    (Dns("example.org", "TXT", receive="^v=spf1 -allhello$"), '"v=spf1 -all" "hello"'),
    (Dns("example.org", "NS"), "ns.example.org."),
    (Dns("big.example.org", "TXT", receive="number 59 "), "record number 59 of many"),
    (Dns("nothing.example.org", rcode="nxdomain"), "NXDOMAIN"),
    (Dns("x.broken.test", rcode="SERVFAIL"), "SERVFAIL"),
]

BAD = [
    (Dns("nothing.example.org"), "L7STS", "NXDOMAIN, expected NOERROR"),
    (Dns("x.broken.test"), "L7STS", "SERVFAIL, expected NOERROR"),
    (Dns("www.example.net"), "L7STS", "REFUSED, expected NOERROR"),
    (Dns("www.example.org", rcode="NXDOMAIN"), "L7STS", "NOERROR, expected NXDOMAIN"),
    (Dns("www.example.org", "MX"), "L7RSP", "no MX record in the answer"),
    (
        Dns("www.example.org", receive="^10[.]"),
        "L7RSP",
        'no A record matches "^10[.]": 192.0.2.1',
    ),
    (Dns("big.example.org", "TXT", receive="number 60 "), "L7RSP", " and 57 more"),
]


@pytest.mark.parametrize(("address", "protocol"), PLACES)
async def test_good(knot, address, protocol, probe):
    for checker, wanted in GOOD:
        verdict, status, detail = await probe(checker, knot.target(address, protocol))
        assert (verdict, status) == ("PASS", "L7OK"), (checker, detail)
        assert wanted in detail


@pytest.mark.parametrize(("address", "protocol"), PLACES)
async def test_bad(knot, address, protocol, probe):
    for checker, wanted_status, wanted in BAD:
        verdict, status, detail = await probe(checker, knot.target(address, protocol))
        assert (verdict, status) == ("FAIL", wanted_status), (checker, detail)
        assert wanted in detail


async def test_truncated_answer_is_asked_again_over_tcp(knot, probe):
    steps = []
    await probe(
        Dns("big.example.org", "TXT"), knot.target(), trace=lambda *step: steps.append(step)
    )
    assert ("*", "truncated: asking again over TCP") in steps
    assert [direction for direction, _ in steps].count(">") == 2


async def test_source_address(knot, probe):
    got = await probe(Dns("www.example.org"), knot.target(source="127.0.0.9"))
    assert got[0] == "PASS"
    got = await probe(Dns("www.example.org"), knot.target(source="192.0.2.77"))
    assert got == ("ERROR", "SOCKERR", "source address 192.0.2.77 is not on this host")


@pytest.mark.parametrize(("address", "protocol"), PLACES)
async def test_refused(knot, address, protocol, probe):
    target = knot.target(address, protocol, port=free_port())
    verdict, status, detail = await probe(Dns("www.example.org"), target)
    assert (verdict, status) == ("FAIL", "L4CON")
    assert "connection refused" in detail


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_stopped(knot, protocol):
    with stopped(knot.process):
        await asyncio.sleep(0.05)  # its threads stop one by one
        start = time.monotonic()
        result = await run_check(Dns("www.example.org"), knot.target(protocol=protocol), 0.4)
    assert (result.verdict, result.status) == ("FAIL", "L7TOUT")
    assert "timed out after 0.4 s waiting for the response" in result.detail
    assert time.monotonic() - start < 1.4


async def test_many_at_once(knot):
    checker = Dns("www.example.org", receive="192")
    results = await asyncio.gather(*(run_check(checker, knot.target(), 3) for _ in range(50)))
    assert {r.verdict for r in results} == {"PASS"}
