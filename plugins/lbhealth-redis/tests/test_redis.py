"""The redis check against a real Redis, bad servers, and its parser against anything."""

import contextlib
import socket
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lbhealth_redis.checker import Redis
from lbhealth_redis.resp import ErrorReply, Malformed, command, parse

from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.servers.kit import (
    SERVER_NAME,
    accepts,
    certificates,
    find_program,
    free_port,
    has_v6,
    running,
    stopped,
)

__all__ = ["certificates"]

pytestmark = pytest.mark.xdist_group("redis")
PASSWORD = "correct horse"


async def probe(checker, target, timeout=2.0, trace=None):
    result = await run_check(checker, target, timeout, trace)
    return (str(result.verdict), str(result.status), result.detail)


class TestContract(CheckerContract):
    def checker(self):
        return Redis(password="x", role="master")


# ---------------------------------------------------------------- a real server


@contextlib.contextmanager
def redis(directory, *options):
    port = free_port()
    command = [find_program("redis-server"), "--port", port, "--dir", directory, "--save", ""]
    addresses = ["127.0.0.1", "::1"] if has_v6() else ["127.0.0.1"]
    words = [*command, "--bind", *addresses, "--appendonly", "no", *options]
    log = directory / "log"
    with running(words, lambda: accepts(port), log=log, seconds=10) as process:
        process.port = port
        yield process


@pytest.fixture(scope="session")
def server(tmp_path_factory, certificates):
    tls = free_port()
    options = [
        "--repl-diskless-sync-delay",
        "0",
        "--requirepass",
        PASSWORD,
        "--tls-port",
        tls,
        "--tls-auth-clients",
        "no",
    ]
    options += ["--tls-cert-file", certificates.good_cert, "--tls-key-file"]
    options += [certificates.good_key, "--tls-ca-cert-file", certificates.ca]
    with redis(tmp_path_factory.mktemp("redis"), *options) as process:
        process.tls = tls
        yield process


def say(port, *words):
    """Send a command as the administrator, wait for the answer and return it."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(command(b"AUTH", PASSWORD.encode()) + command(*words))
        sock.settimeout(5)
        answer = sock.recv(4096)
        while answer.count(b"\r\n") < 2:
            answer += sock.recv(4096)
        return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"password": PASSWORD}, ("PASS", "L7OK", "PONG")),
        ({"password": PASSWORD, "role": "master"}, ("PASS", "L7OK", "master")),
        ({"password": PASSWORD, "username": "default"}, ("PASS", "L7OK", "PONG")),
        ({}, ("FAIL", "L7STS", "the server wants a password")),
        ({"password": "wrong"}, ("FAIL", "L7STS", "authentication refused")),
        ({"password": "x", "username": "nobody"}, ("FAIL", "L7STS", "authentication refused")),
        ({"password": PASSWORD, "role": "replica"}, ("FAIL", "L7STS", "a master, not a replica")),
    ],
)
async def test_real(server, host, settings, wanted):
    if ":" in host and not has_v6():
        pytest.skip("this host has no IPv6 loopback")
    steps = []
    got = await probe(
        Redis(**settings), Target(host, server.port), trace=lambda *step: steps.append(step)
    )
    assert got[:2] == wanted[:2]
    assert wanted[2] in got[2]
    assert not any(settings.get("password", "no secret") in str(step) for step in steps)


async def test_without_a_password_a_needless_one_is_refused(tmp_path):
    with redis(tmp_path) as process:
        target = Target("127.0.0.1", process.port)
        assert await probe(Redis(), target) == ("PASS", "L7OK", "PONG")
        verdict, status, detail = await probe(Redis(password="x"), target)
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail.startswith("authentication refused")


async def test_replica_without_master(tmp_path):
    with redis(tmp_path, "--replicaof", "127.0.0.1", free_port()) as process:
        verdict, status, detail = await probe(
            Redis(role="replica"), Target("127.0.0.1", process.port)
        )
    assert (verdict, status) == ("FAIL", "L7STS")
    assert "not connected to its master" in detail


async def test_replica(server, tmp_path):
    master = ["--replicaof", "127.0.0.1", server.port, "--masterauth", PASSWORD]
    with redis(tmp_path, *master) as process:
        target = Target("127.0.0.1", process.port)
        for _ in range(50):
            got = await probe(Redis(role="replica"), target)
            if got[0] == "PASS":
                break
            subprocess.run(["sleep", "0.1"], check=True)
    assert got == ("PASS", "L7OK", "replica")


async def test_too_many_clients(tmp_path):
    with redis(tmp_path, "--maxclients", "1") as process, contextlib.ExitStack() as stack:
        held = b""
        while held != b"+PONG\r\n":  # the one before may not be gone yet
            sock = socket.create_connection(("127.0.0.1", process.port), 5)
            stack.callback(sock.close)
            sock.sendall(command(b"PING"))
            held = sock.recv(7)
        got = await probe(Redis(), Target("127.0.0.1", process.port))
    assert got[:2] == ("FAIL", "L7STS")
    assert got[2].startswith("busy: ")


async def test_stopped(server):
    with stopped(server):
        got = await probe(Redis(password=PASSWORD), Target("127.0.0.1", server.port), 0.3)
        assert got[:2] == ("FAIL", "L7TOUT")
        checker = Redis(password=PASSWORD, tls="implicit")
        got = await probe(checker, Target("127.0.0.1", server.tls), 0.3)
        assert got[:2] == ("FAIL", "L6TOUT")


async def test_refused():
    got = await probe(Redis(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        (None, {}, ("PASS", "L7OK", "PONG")),
        (SERVER_NAME, {"verify": True}, ("PASS", "L7OK", "PONG")),
        ("other.example.org", {"verify": True}, ("FAIL", "L6RSP", "does not match the name")),
    ],
)
async def test_tls(server, certificates, name, settings, wanted):
    if settings:
        settings = {**settings, "ca_file": str(certificates.ca)}
    checker = Redis(password=PASSWORD, tls="implicit", **settings)
    got = await probe(checker, Target("127.0.0.1", server.tls, server_name=name))
    assert got[:2] == wanted[:2]
    assert wanted[2] in got[2]


async def test_plain_text_and_tls_mixed_up(server):
    got = await probe(Redis(tls="implicit"), Target("127.0.0.1", server.port), 0.3)
    assert got[:2] == ("FAIL", "L6TOUT")  # Redis waits for the rest of a command
    got = await probe(Redis(), Target("127.0.0.1", server.tls))
    assert got[0] == "FAIL"


# ---------------------------------------------------------------- scripted servers


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "L7STS", "busy"),
        (b"-BUSY Redis is busy running a script\r\n", "L7STS", "busy"),
        (b"-ERR \x1b[31m\r\n", "L7STS", "\\x1b"),
        (b"+PANG\r\n", "L7RSP", "PANG"),
        (b"$-1\r\n", "L7RSP", "None"),
        (b"HTTP/1.1 400 Bad Request\r\n", "L7RSP", "not a reply of Redis"),
        (b"*100000\r\n", "L7RSP", "an array of 100000 items"),
    ],
)
async def test_bad_answers(answer, status, text):
    async with ScriptedServer.reply(answer) as server:
        got = await probe(Redis(), server.target())
    assert got[:2] == ("FAIL", status)
    assert text in got[2]


@pytest.mark.parametrize("role", [b"*1\r\n:1\r\n", b"*0\r\n", b"+OK\r\n"])
async def test_bad_roles(role):
    async with ScriptedServer.reply(b"+PONG\r\n", role) as server:
        got = await probe(Redis(role="master"), server.target())
    assert got[:2] == ("FAIL", "L7RSP")


async def test_trickle():
    async with ScriptedServer.slow_drip(b"+PONG\r\n", every=0.005) as server:
        assert await probe(Redis(), server.target()) == ("PASS", "L7OK", "PONG")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"username": "x"}, "username"),
        ({"role": "slave"}, "role"),
        ({"tls": "starttls"}, "tls"),
        ({"verify": True}, "verify"),
    ],
)
def test_wrong_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Redis(**settings)
    assert caught.value.field == field


def test_the_password_is_not_shown():
    assert PASSWORD not in repr(Redis(password=PASSWORD))


# ---------------------------------------------------------------- the parser

REPLIES = st.recursive(
    st.binary(max_size=40)
    | st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.from_regex(rb"[A-Z]+ [a-z ]*", fullmatch=True).map(ErrorReply),
    lambda items: st.lists(items, max_size=4),
    max_leaves=8,
)


def encode(value):
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, ErrorReply):
        return b"-%b\r\n" % value.text
    return b"*%d\r\n" % len(value) + b"".join(map(encode, value))


@given(REPLIES, st.binary(max_size=10))
def test_round_trip_cut_anywhere(value, rest):
    data = encode(value)
    assert parse(data + rest) == (value, len(data))
    for cut in range(len(data)):
        assert parse(data[:cut]) is None


@given(st.binary() | st.from_regex(rb"[*$:+-][0-9-]{0,9}\r\n.*"))
def test_any_bytes(data):
    try:
        found = parse(data)
    except Malformed:
        return
    assert found is None or 0 < found[1] <= len(data)


@pytest.mark.parametrize(
    "data",
    [b"*1\r\n" * 10, b"+" + b"x" * 5000, b"$70000\r\n", b":1x\r\n", b"$-2\r\n", b"$1\r\nabc\r\n"],
)
def test_malformed(data):
    with pytest.raises(Malformed):
        parse(data)
