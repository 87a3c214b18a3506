"""The grpc check against grpcio's own health service and bad servers."""

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lbhealth_grpc.checker import Grpc
from lbhealth_grpc.message import Malformed, request, serving_status

from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.servers.kit import (
    SERVER_NAME,
    accepts,
    certificates,
    free_port,
    has_v6,
    running,
    stopped,
)

__all__ = ["certificates"]

pytestmark = pytest.mark.xdist_group("grpc")

# In a process of its own: grpcio keeps threads, and has to be stopped by a signal.
SERVER = """
import sys, grpc
from concurrent.futures import ThreadPoolExecutor
from grpc_health.v1 import health, health_pb2 as pb, health_pb2_grpc
plain, tls, bare, key, chain, v6 = sys.argv[1:]
places = ["127.0.0.1"] + (["[::1]"] if v6 == "True" else [])
service = health.HealthServicer()
states = {"": "SERVING", "good": "SERVING", "bad": "NOT_SERVING", "new": "UNKNOWN"}
for name, status in states.items():
    service.set(name, getattr(pb.HealthCheckResponse, status))
server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(service, server)
with open(key, "rb") as k, open(chain, "rb") as c:
    secure = grpc.ssl_server_credentials([(k.read(), c.read())])
for place in places:
    server.add_insecure_port(f"{place}:{plain}")
    server.add_secure_port(f"{place}:{tls}", secure)
server.start()
other = grpc.server(ThreadPoolExecutor(1))
other.add_insecure_port(f"127.0.0.1:{bare}")
other.start()
server.wait_for_termination()
"""


async def probe(checker, target, timeout=2.0):
    result = await run_check(checker, target, timeout)
    return (str(result.verdict), str(result.status), result.detail)


class TestContract(CheckerContract):
    def checker(self):
        return Grpc(service="x")


@pytest.fixture(scope="session")
def server(tmp_path_factory, certificates):
    pytest.importorskip("grpc_health.v1.health", reason="grpcio-health-checking is not installed")
    plain, tls, bare = free_port(), free_port(), free_port()
    log = tmp_path_factory.mktemp("grpc") / "log"
    files = (certificates.good_key, certificates.good_cert)
    words = [sys.executable, "-c", SERVER, plain, tls, bare, *files, has_v6()]
    with running(words, lambda: accepts(bare), log=log, seconds=30) as process:
        process.plain, process.tls, process.bare = plain, tls, bare
        yield process


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ("PASS", "L7OK", "SERVING")),
        ({"service": "good"}, ("PASS", "L7OK", "SERVING")),
        ({"authority": "shop.example.org:443"}, ("PASS", "L7OK", "SERVING")),
        ({"service": "bad"}, ("FAIL", "L7STS", "the server says NOT_SERVING")),
        ({"service": "new"}, ("FAIL", "L7STS", "the server says UNKNOWN")),
        ({"service": "other"}, ("FAIL", "L7STS", "does not know the service (grpc-status 5)")),
    ],
)
async def test_real(server, host, settings, wanted):
    if ":" in host and not has_v6():
        pytest.skip("this host has no IPv6 loopback")
    got = await probe(Grpc(**settings), Target(host, server.plain))
    assert got[:2] == wanted[:2]
    assert wanted[2] in got[2]


async def test_no_health_service(server):
    got = await probe(Grpc(), Target("127.0.0.1", server.bare))
    assert got[:2] == ("FAIL", "L7STS")
    assert got[2].startswith("the server has no health service")


@pytest.mark.parametrize(
    ("name", "verify", "wanted"),
    [
        (None, False, ("PASS", "L7OK", "SERVING")),
        (SERVER_NAME, True, ("PASS", "L7OK", "SERVING")),
        ("other.example.org", True, ("FAIL", "L6RSP", "does not match the name")),
    ],
)
async def test_tls(server, certificates, name, verify, wanted):
    ca_file = str(certificates.ca) if verify else None
    checker = Grpc(tls="implicit", verify=verify, ca_file=ca_file)
    got = await probe(checker, Target("127.0.0.1", server.tls, server_name=name))
    assert got[:2] == wanted[:2]
    assert wanted[2] in got[2]


async def test_plain_text_and_tls_mixed_up(server):
    got = await probe(Grpc(tls="implicit"), Target("127.0.0.1", server.plain), 1)
    assert got[:2] == ("FAIL", "L6RSP")
    got = await probe(Grpc(), Target("127.0.0.1", server.tls), 1)
    assert got[0] == "FAIL"


async def test_stopped(server):
    with stopped(server):
        got = await probe(Grpc(), Target("127.0.0.1", server.plain), 0.3)
        assert got[:2] == ("FAIL", "L7TOUT")
        got = await probe(Grpc(tls="implicit"), Target("127.0.0.1", server.tls), 0.3)
        assert got[:2] == ("FAIL", "L6TOUT")


async def test_refused():
    got = await probe(Grpc(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


async def test_a_web_server_is_none():
    async with ScriptedServer.reply(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        got = await probe(Grpc(), server.target())
    assert got[:2] == ("FAIL", "L7RSP")
    assert "HTTP/1.1 400" in got[2]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"service": "x" * 1001}, "service"),
        ({"service": "\ud800"}, "service"),
        ({"authority": "a b"}, "authority"),
        ({"authority": ""}, "authority"),
        ({"tls": "starttls"}, "tls"),
    ],
)
def test_wrong_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Grpc(**settings)
    assert caught.value.field == field


# ---------------------------------------------------------------- the messages


def framed(message):
    return b"\0" + len(message).to_bytes(4) + message


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_request_is_what_the_generated_code_writes(service):
    pb = pytest.importorskip("grpc_health.v1.health_pb2")
    assert request(service) == framed(pb.HealthCheckRequest(service=service).SerializeToString())


@pytest.mark.parametrize(
    ("message", "status"),
    [(b"", 0), (b"\x08\x01", 1), (b"\x08\x02", 2), (b"\x12\x01x\x08\x01", 1), (b"\x15abcd", 0)],
)
def test_answers(message, status):
    assert serving_status(framed(message)) == status


@given(st.binary(max_size=40))
def test_any_bytes(data):
    for whole in (data, framed(data)):
        with contextlib.suppress(Malformed):
            assert serving_status(whole) >= 0
    if len(data) > 0:
        with pytest.raises(Malformed):
            serving_status(framed(data)[:-1])
