"""What an HTTP answer must hold besides its status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.http_message import Response, ResponseReader
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Target

TARGET = Target("192.0.2.1", 80)
JSON = b'{"status": "UP", "n": 3, "ok": true, "no": null, "f": 1.5, "l": [{"s": "a"}, 2], "a.b": 1}'


def verdict(settings, body=b"", *fields):
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(field + b"\r\n" for field in fields)
    checker = Http(**settings)
    reader = checker.reader()
    response = reader.feed(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    try:
        return checker.judge(response, TARGET).detail
    except CheckFailed as failure:
        return failure.detail if failure.status == "L7RSP" else "?"


@pytest.mark.parametrize(
    ("settings", "field", "position"),
    [
        ({"expect_headers": (("a b", "x"),)}, "expect_headers", None),
        ({"expect_headers": (("a", "x(y"),)}, "expect_headers", 1),
        ({"expect_json": (("", 1),)}, "expect_json", None),
        ({"expect_json": (("a..b", 1),)}, "expect_json", None),
        ({"expect_json": (("a", 1.5),)}, "expect_json", None),
        ({"expect_json": (("a", None),)}, "expect_json", None),
    ],
)
@pytest.mark.parametrize("kind", [Http, Https])
def test_settings_are_refused(kind, settings, field, position):
    with pytest.raises(SettingError) as error:
        kind(**settings)
    assert (error.value.field, error.value.position) == (field, position)


def test_values():
    one = Http(expect_headers=[["A", "b"]], expect_json=[["c", 1]])
    assert one == Http(expect_headers=(("A", "b"),), expect_json=(("c", 1),))
    assert hash(one) != hash(Http())


def test_body_not():
    assert verdict({"body_not": "sick"}, b"well") == "200"
    assert verdict({"body_not": "sick"}, b"I am sick") == '200, but the body contains "sick"'
    assert Http(body_not="x").body_limit == Http.SEARCHED


def test_body_not_regex():
    assert verdict({"body_not_regex": "s[ai]ck"}, b"well") == "200"
    words = '200, but the body matches "s[ai]ck"'
    assert verdict({"body_not_regex": "s[ai]ck"}, b"I am sick") == words
    assert Http(body_not_regex="x").body_limit == Http.SEARCHED
    with pytest.raises(SettingError) as caught:
        Http(body_not_regex="(")
    assert caught.value.field == "body_not_regex"


@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        ((("X-State", "^rea.y$"),), "200"),
        ((("x-state", "ready"), ("Via", "b")), "200"),
        ((("X-State", "^sick"),), '200, but X-State is "ready" and does not match "^sick"'),
        ((("Via", "c"),), '200, but Via is "a, b" and does not match "c"'),
        ((("X-Other", ""),), "200, but it has no header field X-Other"),
    ],
)
def test_headers(expected, wanted):
    fields = (b"X-State: ready", b"Via: a", b"via: b")
    assert verdict({"expect_headers": expected}, b"", *fields) == wanted


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("status", "UP", "200"),
        ("n", 3, "200"),
        ("ok", True, "200"),
        ("l.0.s", "a", "200"),
        ("l.1", 2, "200"),
        ("status", "DOWN", '200, but "status" in its JSON is "UP", not "DOWN"'),
        ("ok", False, '200, but "ok" in its JSON is true, not false'),
        ("no", 0, '200, but "no" in its JSON is null, not 0'),
        ("n", "3", '200, but "n" in its JSON is 3, not "3"'),
        ("l", "a", '200, but "l" in its JSON is an array, not "a"'),
        ("l.0", "a", '200, but "l.0" in its JSON is an object, not "a"'),
        ("l.2", 1, '200, but its JSON has no "l.2"'),
        ("l.x", 1, '200, but its JSON has no "l.x"'),
        ("status.x", 1, '200, but its JSON has no "status.x"'),
        ("x.y", 1, '200, but its JSON has no "x.y"'),
    ],
)
def test_json(path, value, wanted):
    assert verdict({"expect_json": ((path, value),)}, JSON) == wanted


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100000, b"9" * 5000, b"\xff{}"])
def test_no_json(body):
    assert "200, but the body is not JSON" in verdict({"expect_json": (("a", 1),)}, body)


def test_truncated_json():
    checker = Http(expect_json=(("status", "UP"),))
    with pytest.raises(CheckFailed, match="too long to be read as JSON"):
        checker.judge(Response(200, b"HTTP/1.1 200 OK\r\n\r\n", JSON, truncated=True), TARGET)
    assert checker.body_limit > ResponseReader.BODY_LIMIT


@given(st.binary(max_size=200))
def test_any_bytes_have_a_verdict(body):
    assert verdict({"expect_json": (("a.0", 1),)}, body).startswith("200")
