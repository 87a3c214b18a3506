"""The memcached check against a real memcached and bad servers."""

import contextlib
import socket

import pytest
from lbhealth_memcached.checker import Memcached

from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.servers.kit import accepts, find_program, free_port, has_v6, running, stopped

pytestmark = pytest.mark.xdist_group("memcached")


async def probe(checker, target, timeout=2.0):
    result = await run_check(checker, target, timeout)
    return (str(result.verdict), str(result.status), result.detail)


class TestContract(CheckerContract):
    def checker(self):
        return Memcached(stats=True)


@contextlib.contextmanager
def memcached(directory, *options):
    port = free_port()
    addresses = "127.0.0.1,::1" if has_v6() else "127.0.0.1"
    words = [find_program("memcached"), "-u", "nobody", "-l", addresses, "-p", port, "-m", "8"]
    log = directory / "log"
    with running([*words, *options], lambda: accepts(port), log=log, seconds=10) as process:
        process.port = port
        yield process


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with memcached(tmp_path_factory.mktemp("memcached")) as process:
        yield process


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("stats", [False, True])
async def test_real(server, host, stats):
    if ":" in host and not has_v6():
        pytest.skip("this host has no IPv6 loopback")
    verdict, status, detail = await probe(Memcached(stats=stats), Target(host, server.port))
    assert (verdict, status) == ("PASS", "L7OK")
    assert detail.startswith("version 1.")
    assert detail.endswith(" of 1024 connections") == stats


async def test_full(tmp_path):
    """At its limit memcached refuses with an error (maxconns_fast), the way it is built now."""
    with memcached(tmp_path, "-c", "64") as process, contextlib.ExitStack() as stack:
        for _ in range(80):
            sock = socket.create_connection(("127.0.0.1", process.port), 1)
            stack.enter_context(sock)
        got = await probe(Memcached(), Target("127.0.0.1", process.port), 0.5)
    assert got[0] == "FAIL"
    assert got[1] in ("L7STS", "L7RSP", "L7TOUT")


async def test_stopped(server):
    with stopped(server):
        got = await probe(Memcached(), Target("127.0.0.1", server.port), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_refused():
    got = await probe(Memcached(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


async def test_tls_to_plain_text(server):
    got = await probe(Memcached(tls="implicit"), Target("127.0.0.1", server.port), 0.5)
    assert got[0] == "FAIL"
    assert got[1] in ("L6RSP", "L6TOUT")


FULL = (
    b"STAT curr_connections 1024\r\nSTAT max_connections 1024\r\nSTAT accepting_conns 0\r\nEND\r\n"
)


@pytest.mark.parametrize(
    ("replies", "status", "text"),
    [
        ([b"ERROR\r\n"], "L7STS", "ERROR"),
        ([b"SERVER_ERROR out of memory\r\n"], "L7STS", "out of memory"),
        ([b"ERROR Too many open connections\r\n"], "L7STS", "Too many"),
        ([b"220 mail ready\r\n"], "L7RSP", "220 mail"),
        ([b"VERSION \x1b[31m\r\n"], "L7RSP", "\\x1b"),
        ([b"VERSION 1.6\r\n", b"END\r\n"], "L7RSP", "lack curr_connections"),
        ([b"VERSION 1.6\r\n", b"what\r\n"], "L7RSP", "not a statistic"),
        ([b"VERSION 1.6\r\n", b"STAT a 1\r\n"], "L7RSP", "closed"),
        ([b"VERSION 1.6\r\n", b"STAT a 1\r\n" * 1200], "L7RSP", "more than 1000 lines"),
        ([b"VERSION 1.6\r\n", FULL], "L7STS", "1024 of 1024 connections"),
    ],
)
async def test_bad_answers(replies, status, text):
    async with ScriptedServer.reply(*replies) as server:
        got = await probe(Memcached(stats=True), server.target())
    assert got[:2] == ("FAIL", status)
    assert text in got[2]


async def test_trickle():
    async with ScriptedServer.slow_drip(b"VERSION 1.6.18\r\n", every=0.005) as server:
        assert await probe(Memcached(), server.target()) == ("PASS", "L7OK", "version 1.6.18")


def test_wrong_settings():
    with pytest.raises(SettingError):
        Memcached(tls="starttls")
