"""The MySQL check against MariaDB."""

import contextlib
import socket
import time

import pytest

from lbhealth.checkers.mysql import Mysql
from lbhealth.model import Target
from tests.servers import kit
from tests.servers.kit import certificates
from tests.servers.mariadb import (
    DATABASE,
    LOGIN,
    PASSWORD,
    expired_mariadb,
    mariadb,
    mariadb_files,
    say,
    wary_mariadb,
)

__all__ = ["certificates", "expired_mariadb", "mariadb", "mariadb_files", "wary_mariadb"]

pytestmark = pytest.mark.xdist_group("mariadb")

USER = {"login": LOGIN, "password": PASSWORD}
ROW = "select id, name from item"
SHOP = {**USER, "database": DATABASE}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", ["none", "starttls"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ("PASS", "L7OK", "MariaDB")),
        (USER, ("PASS", "L7OK", "logged in to ")),
        (SHOP, ("PASS", "L7OK", "logged in to ")),
        ({**SHOP, "request": ROW}, ("PASS", "L7OK", "the query gave a row")),
        ({**SHOP, "request": ROW, "value": "7"}, ("PASS", "L7OK", 'the query gave "7"')),
        ({**USER, "request": "do 1"}, ("FAIL", "L7RSP", "the query gave no row")),
        ({**SHOP, "request": ROW, "value": "8"}, ("FAIL", "L7RSP", 'gave "7" instead of "8"')),
        ({**USER, "request": "select null", "value": "8"}, ("FAIL", "L7RSP", "gave NULL instead")),
        ({**USER, "request": "select 'sélect'", "value": "sélect"}, ("PASS", "L7OK", "sélect")),
        ({**USER, "request": "select x'00ff'", "value": "\0"}, None),
        ({**SHOP, "request": f"{ROW} where 0"}, ("FAIL", "L7RSP", "the query gave no row")),
        ({**SHOP, "request": "select * from nothing"}, ("FAIL", "L7STS", "(1146)")),
        ({**SHOP, "request": "selct"}, ("FAIL", "L7STS", "query failed: ")),
        (
            {**USER, "request": "select repeat('x', 60000) from information_schema.columns"},
            ("PASS", "L7OK", "the query gave a row"),
        ),
        (
            {**USER, "request": "select repeat('x', 600000)"},
            ("FAIL", "L7RSP", "the server "),
        ),
        ({"login": LOGIN, "password": "no"}, ("FAIL", "L7STS", "login refused: ")),
        ({"login": LOGIN}, ("FAIL", "L7STS", "(1045)")),
        ({**USER, "database": "else"}, ("FAIL", "L7STS", "login refused: ")),
    ],
)
async def test_mysql(mariadb, probe, address, tls, settings, wanted):
    if wanted is None:
        with pytest.raises(ValueError, match="NUL"):
            Mysql(**settings)
        return
    verdict, status, detail = await probe(Mysql(**settings, tls=tls), mariadb.target(address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_no_secret_in_the_dialogue(mariadb, probe):
    heard = []
    checker = Mysql(**SHOP, request=ROW)
    await probe(checker, mariadb.target(), trace=lambda *step: heard.append(step))
    text = repr(heard) + repr(checker)
    assert f'login as "{LOGIN}"' in text
    assert "COM_QUIT" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("name", [None, kit.SERVER_NAME])
async def test_verified(mariadb, probe, certificates, name):
    checker = Mysql(**USER, tls="starttls", verify=True, ca_file=str(certificates.ca))
    assert (await probe(checker, mariadb.target(server_name=name)))[0] == "PASS"


async def test_tls_is_really_used(mariadb, probe):
    sql = "select variable_value <> '' from information_schema.session_status"
    sql += " where variable_name = 'ssl_cipher'"
    for tls, value in (("starttls", "1"), ("none", "0")):
        checker = Mysql(**USER, request=sql, value=value, tls=tls)
        assert (await probe(checker, mariadb.target()))[0] == "PASS"


async def test_tls_refused(mariadb, expired_mariadb, probe, certificates):
    checker = Mysql(**USER, tls="starttls", verify=True, ca_file=str(certificates.ca))
    got = await probe(checker, mariadb.target(server_name="other.example.org"))
    assert got[:2] == ("FAIL", "L6RSP")
    assert "does not match the name" in got[2]
    got = await probe(checker, expired_mariadb.target())
    assert got == ("FAIL", "L6RSP", "certificate expired")
    assert (await probe(Mysql(**USER, tls="starttls"), expired_mariadb.target()))[0] == "PASS"


async def test_no_plain_text_when_tls_is_asked_for(wary_mariadb, probe):
    got = await probe(Mysql(**USER, tls="starttls"), wary_mariadb.target())
    assert got == ("FAIL", "L6RSP", "the server does not offer TLS")


async def test_refused(probe):
    got = await probe(Mysql(), Target("127.0.0.1", kit.free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


@pytest.mark.parametrize("tls", ["none", "starttls"])
async def test_stopped(mariadb, probe, tls):
    with kit.stopped(mariadb.process):
        start = time.monotonic()
        got = await probe(Mysql(**USER, tls=tls), mariadb.target(), 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", "L7TOUT")
    assert (await probe(Mysql(**USER, tls=tls), mariadb.target()))[0] == "PASS"


async def test_a_slow_query_ends_in_time(mariadb, probe):
    checker = Mysql(**USER, request="select sleep(3)")
    assert (await probe(checker, mariadb.target(), 0.3))[:2] == ("FAIL", "L7TOUT")


async def test_checks_never_get_the_host_blocked(wary_mariadb, probe):
    """max_connect_errors is 1: one handshake cut short is enough."""
    target = wary_mariadb.target(source="127.0.0.21")
    for checker in (Mysql(), Mysql(tls="starttls"), Mysql(), Mysql(**USER)) * 3:
        verdict, _, detail = await probe(checker, target)
        assert "blocked" not in detail
        assert verdict == ("FAIL" if checker.tls == "starttls" or checker.login else "PASS")


async def test_a_blocked_host_is_told_so(wary_mariadb, probe):
    for _ in range(3):
        say(wary_mariadb.port, "127.0.0.22", b"\x05\0\0\1junk!")
    got = await probe(Mysql(), wary_mariadb.target(source="127.0.0.22"))
    assert got[:2] == ("FAIL", "L7STS")
    assert "the server turns this host away: " in got[2]
    assert "is blocked because of many connection errors" in got[2]
    assert "(1129)" in got[2]


async def test_a_host_without_grants_is_told_so(wary_mariadb, probe):
    got = await probe(Mysql(), wary_mariadb.target(source="127.1.0.1"))
    assert got[:2] == ("FAIL", "L7STS")
    assert "is not allowed to connect" in got[2]


async def test_busy(wary_mariadb, probe):
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", wary_mariadb.port)))
            sock.settimeout(2)
            sock.recv(1000)
        got = await probe(Mysql(**USER), wary_mariadb.target())
    assert got[:2] == ("FAIL", "L7STS")
    assert got[2] == 'busy: "Too many connections" (1040)'
