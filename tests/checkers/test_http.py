"""Settings, the request and the judge, without a server."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth import __version__
from lbhealth.checkers.http import Http, Https, Redirect
from lbhealth.checkers.http_message import ResponseReader
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Target
from lbhealth.testing import ScriptedServer

TARGET = Target("192.0.2.1", 8080)


def response(status, body=b"", location=None):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode()
    if location is not None:
        head += b"Location: " + location + b"\r\n"
    return ResponseReader().feed(head + b"\r\n" + body)


@pytest.mark.parametrize(
    ("settings", "field", "position"),
    [
        ({"path": "x"}, "path", 0),
        ({"path": ""}, "path", 0),
        ({"path": "/a b"}, "path", 2),
        ({"path": "/a\r\nX: y"}, "path", 2),
        ({"path": "/a\x00"}, "path", 2),
        ({"path": "http:///x"}, "path", 7),
        ({"path": "http://u@h/x"}, "path", 8),
        ({"path": "ftp://h/x"}, "path", 0),
        ({"host": ""}, "host", 0),
        ({"host": "a b"}, "host", 1),
        ({"host": "a\r\nX: y"}, "host", 1),
        ({"host": "a:0"}, "host", 2),
        ({"host": "a:99999"}, "host", 2),
        ({"host": "a/b"}, "host", 1),
        ({"method": "GE T"}, "method", 2),
        ({"method": ""}, "method", 0),
        ({"method": "CONNECT"}, "method", 0),
        ({"headers": (("A B", "c"),)}, "headers", None),
        ({"headers": (("A", "c\r\nX: y"),)}, "headers", 1),
        ({"headers": (("A", " c"),)}, "headers", None),
        ({"headers": (("Host", "c"),)}, "headers", None),
        ({"status": ()}, "status", None),
        ({"status": ("99",)}, "status", None),
        ({"status": ("600",)}, "status", None),
        ({"status": ("299-200",)}, "status", None),
        ({"status": ("2xx",)}, "status", None),
        ({"body_regex": "ab(c"}, "body_regex", 2),
        ({"redirects": -1}, "redirects", None),
    ],
)
def test_settings_are_refused(settings, field, position):
    with pytest.raises(SettingError) as error:
        Http(**settings)
    assert (error.value.field, error.value.position) == (field, position)


def test_ca_file_needs_verify():
    with pytest.raises(SettingError, match="ca_file"):
        Https(ca_file="/x")


def test_values():
    one = Http(path="/x", headers=[["A", "b"]], status=[200, "300-301"])
    assert one == Http(path="/x", headers=(("A", "b"),), status=("200", "300-301"))
    assert hash(one) == hash(dataclasses.replace(one))
    assert Http() != Https()
    assert "secret" not in repr(Http(headers=(("Authorization", "secret"),)))


@pytest.mark.parametrize(
    ("settings", "line", "host"),
    [
        ({}, "GET / HTTP/1.1", "192.0.2.1"),
        ({"method": "head", "path": "/x?y=z#f"}, "HEAD /x?y=z HTTP/1.1", "192.0.2.1"),
        ({"host": "www.example.org"}, "GET / HTTP/1.1", "www.example.org"),
        ({"host": "2001:db8::1"}, "GET / HTTP/1.1", "[2001:db8::1]"),
        ({"path": "http://a.test:81/x"}, "GET /x HTTP/1.1", "a.test:81"),
        ({"path": "http://a.test", "host": "b.test"}, "GET / HTTP/1.1", "b.test"),
        ({"path": "/grün"}, "GET /gr%C3%BCn HTTP/1.1", "192.0.2.1"),
    ],
)
def test_request(settings, line, host):
    lines = Http(**settings).request(TARGET).decode().split("\r\n")
    assert lines == [
        line,
        f"Host: {host}",
        "Connection: close",
        f"User-Agent: lbhealth/{__version__}",
        "Accept: */*",
        "",
        "",
    ]


def test_request_to_ipv6():
    assert b"\r\nHost: [2001:db8::1]\r\n" in Http().request(Target("2001:db8::1", 80))
    assert b"\r\nHost: [fe80::1]\r\n" in Http().request(Target("fe80::1%lo", 80))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"path": "/a/../b//c?x=%20&y=[1]&z={a}|^`\"<>\\'#f", "host": "www.example.org:81"},
        {"path": "//x"},
        {"path": "/?"},
        {"path": "/%zz;a=b:c@d+e"},
        {"path": "/grün?ö"},
        {"method": "HEAD", "headers": (("User-Agent", "me"), ("X-Ü".replace("Ü", "U"), "grün"))},
        {"method": "POST", "headers": (("Accept", "text/html"), ("A", "1"), ("A", "2"))},
        {"method": "OPTIONS"},
    ],
    ids=str,
)
async def test_the_request_is_sent_as_it_is(settings, probe):
    checker = Http(**settings)
    async with ScriptedServer.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as server:
        assert (await probe(checker, server.target()))[0] == "PASS"
        assert server.received == [checker.request(server.target())]


async def test_ipv6_and_zones(probe):
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedServer.reply(ok, host="::1") as server:
        assert (await probe(Http(), server.target()))[0] == "PASS"
        zoned = Target("::1%lo", server.port)
        assert (await probe(Http(), zoned))[0] == "PASS"
        nowhere = Target("fe80::1%nosuch0", server.port)
        assert (await probe(Http(), nowhere))[0] == "ERROR"


# A request may not depend on what is in the settings beyond its own fields.
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_nothing_is_injected(path, host, value):
    try:
        checker = Http(path="/" + path, host=host or None, headers=(("A", value),))
    except SettingError:
        return
    request = checker.request(TARGET)
    assert request.count(b"\r\n") == request.count(b"\n") == request.count(b"\r") == 7
    assert request.split(b"\r\n")[0].count(b" ") == 2


@pytest.mark.parametrize(
    ("settings", "location", "path"),
    [
        ({}, b"/x", "/x"),
        ({}, b"x", "/a/x"),
        ({}, b"?q", "/a/b?q"),
        ({}, b"../x#f", "/x"),
        ({}, b"/gr\xc3\xbcn", "/grün"),
        ({}, b"http://192.0.2.1:8080/x?y", "/x?y"),
        ({}, b"http://192.0.2.1:8080", "/"),
        ({}, b"//192.0.2.1:8080/x", "/x"),
        ({"host": "www.example.org"}, b"http://WWW.example.org:8080/x", "/x"),
        ({"host": "www.example.org"}, b"http://www.example.org/x", "/x"),
        ({"host": "www.example.org:81"}, b"http://www.example.org:81/x", "/x"),
        ({}, b"http://192.0.2.1/x", None),
        ({}, b"http://192.0.2.1:81/x", None),
        ({}, b"http://192.0.2.2:8080/x", None),
        ({}, b"https://192.0.2.1:8080/x", None),
        ({}, b"http://192.0.2.1:8080@evil/x", None),
        ({}, b"http://u@192.0.2.1:8080/x", None),
        ({"host": "www.example.org"}, b"http://www.example.com:8080/x", None),
        ({"host": "www.example.org"}, b"http://www.example.org:82/x", None),
        ({}, b"http://[", None),
        ({}, b"http://192.0.2.1:99999/", None),
        ({}, b"javascript:alert(1)", None),
        ({}, b"/a b", None),
    ],
)
def test_redirects(settings, location, path):
    checker = Http(path="/a/b", **settings)
    if path is not None:
        assert checker.judge(response("302 Found", location=location), TARGET) == Redirect(path)
        return
    with pytest.raises(CheckFailed) as failure:
        checker.judge(response("302 Found", location=location), TARGET)
    assert failure.value.status == "L7STS"
    assert location.decode() in failure.value.detail


def test_redirect_text_is_one_short_line():
    long = b"http://evil/\x1b[31m\xe2\x80\xa8" + b"x" * 5000
    with pytest.raises(CheckFailed) as failure:
        Http().judge(response("302 Found", location=long), TARGET)
    assert failure.value.detail.isprintable()
    assert len(failure.value.detail) < 300


def test_https_defaults():
    found = response("301 Moved", location=b"https://www.example.org/x")
    checker = Https(host="www.example.org")
    assert checker.judge(found, Target("192.0.2.1", 443)) == Redirect("/x")
    with pytest.raises(CheckFailed):
        Http(host="www.example.org").judge(found, Target("192.0.2.1", 80))


def test_redirect_of_a_post_is_not_followed():
    with pytest.raises(CheckFailed, match="302 Found"):
        Http(method="POST").judge(response("302 Found", location=b"/x"), TARGET)


@pytest.mark.parametrize(
    ("settings", "body", "text"),
    [
        ({"body": "OK"}, b"no\x00pe", 'body does not contain "OK"; it begins "no\\x00pe"'),
        ({"body": "OK"}, b"", "the body is empty"),
        ({"body_regex": "O+K"}, b"nope", 'does not match "O+K"'),
        ({"body": "OK"}, b"n" * 100, '"' + "n" * 57 + '..."'),
    ],
)
def test_mismatch_texts(settings, body, text):
    with pytest.raises(CheckFailed) as failure:
        Http(**settings).judge(response("200 OK", body), TARGET)
    assert failure.value.status == "L7RSP"
    assert failure.value.detail.startswith("200, but ")
    assert text in failure.value.detail


def test_body_and_regex_must_both_match():
    both = Http(body="OK", body_regex="^h")
    assert both.judge(response("200 OK", b"hey OK"), TARGET).detail == "200"
    with pytest.raises(CheckFailed):
        both.judge(response("200 OK", b"hey"), TARGET)


def test_body_that_is_not_utf8():
    raw = b"\xff\xe9".decode("utf-8", "surrogateescape")
    assert Http(body=raw).judge(response("200 OK", b"a\xff\xe9b"), TARGET).status == "L7OK"


async def test_secrets_stay_out_of_the_dialogue(probe):
    heard = []
    checker = Http(headers=(("X-Api-Key", "hunter2"), ("Authorization", "Basic hunter2")))
    async with ScriptedServer.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK") as server:
        await probe(checker, server.target(), trace=lambda *step: heard.append(step))
        assert b"hunter2" in server.received[0]
    assert "hunter2" not in repr(heard)
    assert heard[-1][1].endswith(b"\r\n\r\nOK")
