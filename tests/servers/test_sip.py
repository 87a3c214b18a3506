"""The SIP check against kamailio and sipp."""

import asyncio
import time

import pytest

from lbhealth.checkers.sip import Sip
from lbhealth.engine.runner import run_check
from tests.servers.kit import free_port, stopped
from tests.servers.sip import kamailio_server, sipp  # noqa: F401 - a fixture

pytestmark = pytest.mark.xdist_group("kamailio")

PLACES = [("127.0.0.1", "udp"), ("127.0.0.1", "tcp"), ("::1", "udp"), ("::1", "tcp")]


@pytest.mark.parametrize(("address", "protocol"), PLACES)
@pytest.mark.parametrize(
    ("checker", "wanted"),
    [
        (Sip(), ("PASS", "L7OK", "200 OK")),
        (Sip("hc@example.org"), ("PASS", "L7OK", "200 OK")),
        (Sip("hc"), ("PASS", "L7OK", "200 OK")),
        (Sip("slow"), ("PASS", "L7OK", "200 At last")),
        (Sip("busy"), ("FAIL", "L7STS", "503 Service Unavailable (busy)")),
        (Sip("busy", status=("200", "500-503")), ("PASS", "L7OK", "503 Service Unavailable")),
        (Sip("secret"), ("FAIL", "L7STS", "401 Unauthorized (authentication refused)")),
        (Sip("nobody"), ("FAIL", "L7STS", "404 Not Found")),
        (Sip("nobody", status=(404,)), ("PASS", "L7OK", "404 Not Found")),
        (Sip(status=("404",)), ("FAIL", "L7STS", "200 OK")),
    ],
)
async def test_options(kamailio, address, protocol, checker, wanted, probe):
    assert await probe(checker, kamailio.target(address, protocol)) == wanted


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("login", ["drop", "trying"])
async def test_no_final_answer(kamailio, protocol, login, probe):
    verdict, status, _ = await probe(Sip(login), kamailio.target(protocol=protocol), 0.3)
    assert (verdict, status) == ("FAIL", "L7TOUT")


@pytest.mark.parametrize(("address", "protocol"), PLACES)
async def test_refused(kamailio, address, protocol, probe):
    verdict, status, detail = await probe(
        Sip(), kamailio.target(address, protocol, port=free_port())
    )
    assert (verdict, status) == ("FAIL", "L4CON")
    assert "connection refused" in detail


async def test_source_address(kamailio, probe):
    for protocol in ("udp", "tcp"):
        target = kamailio.target(protocol=protocol, source="127.0.0.9")
        steps = []
        got = await probe(Sip(), target, trace=lambda *step, into=steps: into.append(step))
        assert got[0] == "PASS"
        (request,) = [text for direction, text in steps if direction == ">"]
        assert f"Via: SIP/2.0/{protocol.upper()} 127.0.0.9".encode() in request


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_stopped(kamailio, protocol):
    with stopped(kamailio.process):
        await asyncio.sleep(0.05)  # its processes stop one by one
        start = time.monotonic()
        result = await run_check(Sip(), kamailio.target(protocol=protocol), 0.7)
    assert (result.verdict, result.status) == ("FAIL", "L7TOUT")
    assert time.monotonic() - start < 1.7


async def test_many_at_once(kamailio):
    results = await asyncio.gather(*(run_check(Sip(), kamailio.target(), 3) for _ in range(30)))
    assert {r.verdict for r in results} == {"PASS"}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("202 Accepted", ("PASS", "L7OK", "202 Accepted")),
        ("486 Busy Here", ("FAIL", "L7STS", "486 Busy Here (busy)")),
        ("603 Decline", ("FAIL", "L7STS", "603 Decline")),
    ],
)
async def test_sipp(tmp_path, answer, wanted, probe):
    with sipp(tmp_path / "sipp", answer) as server:
        assert await probe(Sip("hc@example.org"), server.target()) == wanted


async def test_sipp_answers_late(tmp_path, probe):
    steps = []
    with sipp(tmp_path / "sipp", "200 OK", '<pause milliseconds="700"/>') as server:
        got = await probe(Sip(), server.target(), trace=lambda *step: steps.append(step))
    assert got == ("PASS", "L7OK", "200 OK")
    assert ("*", "no answer within 0.5 s, sending again") in steps
