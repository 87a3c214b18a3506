"""The http_proxy check against tinyproxy with nginx behind it."""

import time

import pytest

from lbhealth.checkers.http_proxy import HttpProxy
from lbhealth.model import Target
from tests.servers.kit import free_port, stopped
from tests.servers.tinyproxy import LOGIN, PASSWORD, tinyproxy

__all__ = ["tinyproxy"]

pytestmark = pytest.mark.xdist_group("tinyproxy")

PASS = ("PASS", "L7OK", "200")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("path", "settings", "wanted"),
    [
        ("/ok", {}, PASS),
        ("", {"status": ("200-499",), "method": "HEAD"}, ("PASS", "L7OK", "")),
        ("/ok#part", {"body": "healthy", "body_not": "sick"}, PASS),
        ("/ok", {"body_regex": "^OK h.*y$", "expect_headers": (("Content-Type", "plain"),)}, PASS),
        ("/ok", {"body": "sick"}, ("FAIL", "L7RSP", 'not contain "sick"')),
        ("/ok", {"body_not": "healthy"}, ("FAIL", "L7RSP", 'contains "healthy"')),
        ("/missing", {}, ("FAIL", "L7STS", "404")),
        ("/503", {}, ("FAIL", "L7STS", "503")),
        ("/relative", {"body": "healthy"}, PASS),
        ("/absolute", {"body": "healthy"}, PASS),
        ("/loop", {}, ("FAIL", "L7STS", "more than 7 redirects")),
        ("/loop", {"redirects": 0}, ("FAIL", "L7STS", "302")),
    ],
)
async def test_http_proxy(tinyproxy, nginx, probe, address, path, settings, wanted):
    checker = HttpProxy(url=f"http://127.0.0.1:{nginx.http}{path}", **settings)
    verdict, status, detail = await probe(checker, tinyproxy.target("open", address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_the_host_is_the_url_s(tinyproxy, nginx, probe):
    wanted = f"host=127.0.0.1:{nginx.http} sni= end"
    checker = HttpProxy(url=f"http://127.0.0.1:{nginx.http}/echo", body=wanted)
    assert await probe(checker, tinyproxy.target()) == PASS


async def test_login(tinyproxy, nginx, probe):
    url = f"http://127.0.0.1:{nginx.http}/relative"
    lines = []
    checker = HttpProxy(url=url, login=LOGIN, password=PASSWORD)
    target = tinyproxy.target("closed")
    assert await probe(checker, target, trace=lambda *line: lines.append(line)) == PASS
    assert "Proxy-Authorization: ***" in str(lines)
    assert "aGVhbHRoOnNlY3JldA" not in str(lines)
    for settings in ({}, {"login": LOGIN, "password": "wrong"}):
        verdict, status, detail = await probe(HttpProxy(url=url, **settings), target)
        assert (verdict, status) == ("FAIL", "L7STS")
        assert detail[:3] in ("401", "407")


async def test_nobody_behind_the_proxy(tinyproxy, probe):
    checker = HttpProxy(url=f"http://127.0.0.1:{free_port()}/")
    verdict, status, detail = await probe(checker, tinyproxy.target())
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail.startswith("50")


async def test_refused(probe):
    got = await probe(HttpProxy(url="http://192.0.2.1/"), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


async def test_stopped(tinyproxy, nginx, probe):
    checker = HttpProxy(url=f"http://127.0.0.1:{nginx.http}/ok")
    with stopped(tinyproxy.processes["open"]):
        start = time.monotonic()
        got = await probe(checker, tinyproxy.target(), 0.3)
        assert time.monotonic() - start < 1.3
    assert got[:2] == ("FAIL", "L7TOUT")
    assert await probe(checker, tinyproxy.target()) == PASS
