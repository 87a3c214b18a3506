"""The PostgreSQL check against PostgreSQL."""

import asyncio
import contextlib
import socket
import time

import pytest

from lbhealth.checkers.pgsql import Pgsql
from lbhealth.checkers.pgsql_packets import startup
from lbhealth.model import Target
from tests.servers import kit
from tests.servers.kit import certificates
from tests.servers.postgres import (
    DATABASE,
    LOGIN,
    PASSWORD,
    expired_postgres,
    plain_postgres,
    postgres,
)

__all__ = ["certificates", "expired_postgres", "plain_postgres", "postgres"]

pytestmark = pytest.mark.xdist_group("postgres")

USER = {"login": LOGIN, "password": PASSWORD, "database": DATABASE}
CASES = [
    ({}, ("PASS", "L7OK", "ready for a login")),
    (USER, ("PASS", "L7OK", "logged in")),
    ({**USER, "request": "select 7"}, ("PASS", "L7OK", "the query gave a row")),
    ({**USER, "request": "select 7, 8", "value": "7"}, ("PASS", "L7OK", 'gave "7"')),
    ({**USER, "request": "select true", "value": "t"}, ("PASS", "L7OK", 'gave "t"')),
    ({**USER, "request": "select 'é' || 1", "value": "é1"}, ("PASS", "L7OK", "é1")),
    ({**USER, "request": "select 7", "value": "8"}, ("FAIL", "L7RSP", 'gave "7" instead of "8"')),
    ({**USER, "request": "select null", "value": "8"}, ("FAIL", "L7RSP", "gave NULL instead")),
    ({**USER, "request": "select 1 where false"}, ("FAIL", "L7RSP", "the query gave no row")),
    ({**USER, "request": "set work_mem = 64"}, ("FAIL", "L7RSP", "the query gave no row")),
    ({**USER, "request": "select * from nothing"}, ("FAIL", "L7STS", "(42P01)")),
    ({**USER, "request": "selct"}, ("FAIL", "L7STS", "query failed: ")),
    (
        {**USER, "request": "select repeat('x', 60000) from generate_series(1, 100)"},
        ("PASS", "L7OK", "the query gave a row"),
    ),
    ({**USER, "request": "select repeat('x', 600000)"}, ("FAIL", "L7RSP", "")),
    ({**USER, "password": "no"}, ("FAIL", "L7STS", "login refused: ")),
    ({"login": LOGIN}, ("FAIL", "L7STS", "(28P01)")),
    ({**USER, "database": "else"}, ("FAIL", "L7STS", "(3D000)")),
]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", ["none", "starttls"])
@pytest.mark.parametrize(("settings", "wanted"), CASES)
async def test_pgsql(postgres, probe, address, tls, settings, wanted):
    verdict, status, detail = await probe(Pgsql(**settings, tls=tls), postgres.target(address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_no_secret_in_the_dialogue(postgres, probe):
    heard = []
    checker = Pgsql(**USER, request="select 1", tls="starttls")
    await probe(checker, postgres.target(), trace=lambda *step: heard.append(step))
    text = repr(heard) + repr(checker)
    assert f'login as "{LOGIN}"' in text
    assert "s3cret" not in text


@pytest.mark.parametrize("name", [None, kit.SERVER_NAME])
async def test_verified(postgres, probe, certificates, name):
    checker = Pgsql(**USER, tls="starttls", verify=True, ca_file=str(certificates.ca))
    assert (await probe(checker, postgres.target(server_name=name)))[0] == "PASS"


async def test_tls_is_really_used(postgres, probe):
    sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
    for tls, value in (("starttls", "t"), ("none", "f")):
        got = await probe(Pgsql(**USER, request=sql, value=value, tls=tls), postgres.target())
        assert got[0] == "PASS"


async def test_tls_refused(postgres, expired_postgres, plain_postgres, probe, certificates):
    checker = Pgsql(**USER, tls="starttls", verify=True, ca_file=str(certificates.ca))
    got = await probe(checker, postgres.target(server_name="other.example.org"))
    assert got[:2] == ("FAIL", "L6RSP")
    assert "does not match the name" in got[2]
    got = await probe(checker, expired_postgres.target())
    assert got == ("FAIL", "L6RSP", "certificate expired")
    got = await probe(Pgsql(**USER, tls="starttls"), plain_postgres.target())
    assert got == ("FAIL", "L6RSP", "the server does not offer TLS")


async def test_refused(probe):
    got = await probe(Pgsql(), Target("127.0.0.1", kit.free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize("settings", [{}, USER, {**USER, "tls": "starttls"}])
async def test_stopped(postgres, probe, settings):
    with kit.stopped(postgres.process):
        start = time.monotonic()
        got = await probe(Pgsql(**settings), postgres.target(), 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", "L7TOUT")
    assert (await probe(Pgsql(**settings), postgres.target()))[0] == "PASS"


async def test_a_slow_query_ends_in_time_and_leaves_nothing(postgres, probe):
    troubles = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: troubles.append(what))
    before = asyncio.all_tasks()
    checker = Pgsql(**USER, request="select pg_sleep(1)")
    assert (await probe(checker, postgres.target(), 0.3))[:2] == ("FAIL", "L7TOUT")
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    assert not troubles


@pytest.mark.parametrize("settings", [{}, USER])
async def test_busy(plain_postgres, probe, settings):
    target = plain_postgres.target()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.create_connection((target.address, target.port)))
            sock.settimeout(2)
            sock.sendall(startup(LOGIN, DATABASE))
            sock.recv(100)
        got = await probe(Pgsql(**settings), target)
    assert got[:2] == ("FAIL", "L7STS")
    assert got[2] == 'busy: "sorry, too many clients already" (53300)'
