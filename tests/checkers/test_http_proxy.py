"""The http_proxy check without a proxy: settings and the request."""

import dataclasses

import pytest

from lbhealth.checkers.http import Http, Redirect
from lbhealth.checkers.http_message import ResponseReader
from lbhealth.checkers.http_proxy import HttpProxy
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract

TARGET = Target("192.0.2.1", 3128)
URL = "http://www.example.org:8080/a?b#c"


class TestHttpProxy(CheckerContract):
    def checker(self):
        return HttpProxy(url="http://www.example.org/", login="a", password="b")


@pytest.mark.parametrize(
    ("settings", "field", "position"),
    [
        ({}, "url", None),
        ({"url": "/x"}, "url", 0),
        ({"url": "https://h/"}, "url", 0),
        ({"url": "http://h/a b"}, "url", 10),
        ({"url": "http://u@h/"}, "url", 8),
        ({"url": "http:///x"}, "url", 7),
        ({"url": URL, "path": "/x"}, "path", None),
        ({"url": URL, "host": "h"}, "host", None),
        ({"url": URL, "login": "a:b"}, "login", 1),
        ({"url": URL, "login": "a", "password": "b\n"}, "password", 1),
        ({"url": URL, "password": "b"}, "password", None),
        ({"url": URL, "status": ("99",)}, "status", None),
    ],
)
def test_settings_are_refused(settings, field, position):
    with pytest.raises(SettingError) as error:
        HttpProxy(**settings)
    assert (error.value.field, error.value.position) == (field, position)


def test_values():
    checker = HttpProxy(url=URL, login="a", password="hidden")
    assert checker == dataclasses.replace(checker)
    assert "hidden" not in repr(checker)
    assert type(checker) is not Http


def test_request():
    lines = HttpProxy(url=URL, login="a", password="ü").request(TARGET).split(b"\r\n")
    assert lines[0] == b"GET http://www.example.org:8080/a?b HTTP/1.1"
    assert lines[1] == b"Host: www.example.org:8080"
    assert b"Proxy-Authorization: Basic YTrDvA==" in lines
    bare = HttpProxy(url="HTTP://h").request(TARGET)
    assert bare.startswith(b"GET http://h/ HTTP/1.1\r\nHost: h\r\n")
    assert b"Authorization" not in bare


def redirect(location):
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
    return HttpProxy(url=URL).judge(ResponseReader().feed(head.encode()), TARGET)


def test_redirects_go_through_the_proxy():
    assert redirect("/x") == Redirect("http://www.example.org:8080/x")
    assert redirect("http://other.test/x") == Redirect("http://other.test/x")
    asked = HttpProxy(url=URL, login="a").request(TARGET, "http://other.test/x")
    assert asked.startswith(b"GET http://other.test/x HTTP/1.1\r\nHost: other.test\r\n")
    assert b"Proxy-Authorization" in asked


@pytest.mark.parametrize("location", ["https://h/", "ftp://h/", "http://[/", "http://u@h/"])
def test_redirects_that_lead_nowhere(location):
    with pytest.raises(CheckFailed) as error:
        redirect(location)
    assert error.value.status == "L7STS"
