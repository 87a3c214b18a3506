"""The HTTP checks against nginx, over aiohttp and over the codec alone."""

import asyncio

import pytest

from lbhealth.checkers.http import Http, Https, Redirect
from lbhealth.engine.runner import run_check
from tests.servers.nginx import BIG

PLACES = ["127.0.0.1", "::1"]


async def over_codec(checker, target):
    """What the socket prober does, on asyncio streams."""
    path, hops = None, 0
    while True:
        reader, writer = await asyncio.open_connection(target.address, target.port)
        try:
            writer.write(checker.request(target, path))
            codec = checker.reader()
            response = None
            while response is None:
                data = await reader.read(65536)
                response = codec.feed(data) if data else codec.eof()
        finally:
            writer.transport.abort()
        verdict = checker.judge(response, target, hops, path)
        if not isinstance(verdict, Redirect):
            return ("PASS", verdict.status, verdict.detail)
        path, hops = verdict.path, hops + 1


async def both(checker, target):
    result = await run_check(checker, target, 5)
    try:
        codec = await over_codec(checker, target)
    except Exception as error:
        codec = ("FAIL", error.status, error.detail)
    got = (result.verdict, result.status, result.detail)
    assert got == codec
    return got


@pytest.mark.parametrize("address", PLACES)
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"path": "/ok"}, ("PASS", "L7OK", "200")),
        ({"path": "/ok", "body": "healthy"}, ("PASS", "L7OK", "200")),
        ({"path": "/ok", "body_regex": "^OK h.*y$"}, ("PASS", "L7OK", "200")),
        ({"path": "/ok", "body": "sick"}, ("FAIL", "L7RSP", 'not contain "sick"')),
        ({"path": "/503"}, ("FAIL", "L7STS", "503 Service Temporarily Unavailable")),
        ({"path": "/missing"}, ("FAIL", "L7STS", "404 Not Found")),
        ({"path": "/missing", "status": ("404",)}, ("PASS", "L7OK", "404")),
        ({"path": "/204"}, ("PASS", "L7OK", "204")),
        ({"path": "/relative", "body": "OK"}, ("PASS", "L7OK", "200")),
        ({"path": "/relative", "status": ("302",)}, ("PASS", "L7OK", "302")),
        ({"path": "/relative", "redirects": 0}, ("FAIL", "L7STS", "302 ")),
        ({"path": "/elsewhere"}, ("FAIL", "L7STS", "another server: http://192.0.2.1/ok")),
        ({"path": "/loop"}, ("FAIL", "L7STS", "more than 7 redirects")),
        ({"path": "/ok", "method": "HEAD"}, ("PASS", "L7OK", "200")),
        ({"path": "/big", "method": "HEAD"}, ("PASS", "L7OK", "200")),
        ({"path": "/ok", "method": "HEAD", "body": "OK"}, ("FAIL", "L7RSP", "has no body")),
        ({"path": "/big"}, ("PASS", "L7OK", "200")),
        ({"path": "/big", "body": "END"}, ("FAIL", "L7RSP", "first 1048576 bytes")),
        ({"path": "/chunked", "body": "before /chunked after"}, ("PASS", "L7OK", "200")),
        ({"path": "/echo", "host": "a.test", "body": "host=a.test "}, ("PASS", "L7OK", "200")),
        ({"path": "http://b.test:8/echo", "body": "host=b.test:8 "}, ("PASS", "L7OK", "200")),
        ({"path": "/method", "method": "post", "body": "method=POST"}, ("PASS", "L7OK", "200")),
    ],
)
async def test_http(nginx, address, settings, wanted):
    verdict, status, detail = await both(Http(**settings), nginx.target(nginx.http, address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


async def test_absolute_redirect_to_itself(nginx):
    got = await both(Http(path="/absolute", body="OK"), nginx.target(nginx.http))
    assert got == ("PASS", "L7OK", "200")


async def test_slow_body_is_a_timeout(nginx):
    result = await run_check(Http(path="/slow", body="x"), nginx.target(nginx.http), 0.3)
    assert (result.verdict, result.status) == ("FAIL", "L7TOUT")


@pytest.mark.parametrize("address", PLACES)
async def test_tls_without_verification(nginx, address, probe):
    target = nginx.target(nginx.https, address)
    assert await probe(Https(path="/ok", body="OK"), target) == ("PASS", "L7OK", "200")


async def test_server_name_is_sent(nginx, probe):
    target = nginx.target(nginx.https, server_name="www.example.org")
    checker = Https(path="/echo", host="a.test", body="host=a.test sni=www.example.org ")
    assert await probe(checker, target) == ("PASS", "L7OK", "200")


async def test_server_name_follows_the_host(nginx, probe):
    checker = Https(path="/echo", host="a.test:81", body="host=a.test:81 sni=a.test end")
    assert await probe(checker, nginx.target(nginx.https)) == ("PASS", "L7OK", "200")
    checker = Https(path="https://b.test/echo", body="host=b.test sni=b.test end")
    assert await probe(checker, nginx.target(nginx.https)) == ("PASS", "L7OK", "200")
    checker = Https(path="/echo", host="[::1]:81", body="host=[::1]:81 sni= end")
    assert await probe(checker, nginx.target(nginx.https)) == ("PASS", "L7OK", "200")


async def test_impossible_server_name_is_our_error(nginx, probe):
    target = nginx.target(nginx.https, server_name="." + "x" * 70)
    verdict, _, detail = await probe(Https(path="/ok"), target)
    assert verdict == "ERROR"
    assert "cannot be a TLS server name" in detail


async def test_no_server_name_for_an_address(nginx, probe):
    checker = Https(path="/echo", body="sni= end")
    assert await probe(checker, nginx.target(nginx.https)) == ("PASS", "L7OK", "200")


@pytest.mark.parametrize("name", ["www.example.org", None])
async def test_verified(nginx, probe, name):
    checker = Https(path="/ok", verify=True, ca_file=nginx.ca_file)
    target = nginx.target(nginx.https, server_name=name)
    assert await probe(checker, target) == ("PASS", "L7OK", "200")


@pytest.mark.parametrize(
    ("port", "name", "own_ca", "reason"),
    [
        ("expired", "www.example.org", True, "certificate expired"),
        ("https", "other.example.org", True, "does not match the name"),
        ("https", "www.example.org", False, "unknown"),
        ("http", "www.example.org", True, "does not speak TLS"),
    ],
)
async def test_tls_refused(nginx, probe, port, name, own_ca, reason):
    checker = Https(path="/ok", verify=True, ca_file=nginx.ca_file if own_ca else None)
    target = nginx.target(getattr(nginx, port), server_name=name)
    verdict, status, detail = await probe(checker, target)
    assert (verdict, status) == ("FAIL", "L6RSP")
    assert reason in detail


async def test_expired_is_good_enough_unverified(nginx, probe):
    target = nginx.target(nginx.expired)
    assert await probe(Https(path="/ok"), target) == ("PASS", "L7OK", "200")


async def test_tls_redirect_to_itself(nginx, probe):
    checker = Https(path="/absolute", body="OK")
    assert await probe(checker, nginx.target(nginx.https)) == ("PASS", "L7OK", "200")


def test_the_big_body_is_beyond_what_is_searched():
    assert BIG > Http.SEARCHED
