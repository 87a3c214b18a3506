"""The codec: whole, cut anywhere, cut short, hostile; from a socket; against aiohttp's client."""

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.http import Http
from lbhealth.checkers.http_message import Response, ResponseReader
from lbhealth.engine.runner import run_check
from lbhealth.errors import CheckFailed
from lbhealth.model import Status, Target
from lbhealth.testing import ScriptedServer

TARGET = Target("192.0.2.1", 80)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CORPUS = {
    "nginx": b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK",
    "no-reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nOK",
    "until-close": b"HTTP/1.1 200 OK\r\n\r\nOK",
    "http10": b"HTTP/1.0 200 OK\r\n\r\nOK",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nOK",
    "shorter": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
    "long": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOKOKOK",
    "chunked": CHUNKED + b"1\r\nO\r\n1;x=y\r\nK\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"2\r\nOK\r\n0\r\nA: b\r\n\r\n",
    "chunk-short": CHUNKED + b"5\r\nOK",
    "chunk-unended": CHUNKED + b"2\r\nOK\r\n",
    "chunk-bad": CHUNKED + b"zz\r\nOK\r\n0\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "hints": b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
    "only-continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nOK",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nOK",
    "latin1": b"HTTP/1.1 200 OK\r\nX: \xe9\xff\r\nContent-Length: 2\r\n\r\nOK",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOKO",
    "bad-length": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nOK",
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nOK",
    "huge": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nOK",
    "half-header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half-status": b"HTTP/1.1 20",
    "nothing": b"",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http09": b"<html>OK</html>",
    "http2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "binary": bytes(range(256)),
    "four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nOK",
    "redirect-away": b"HTTP/1.1 302 Found\r\nLocation: //192.0.2.9/\r\nContent-Length: 0\r\n\r\n",
    "no-location": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "evil-location": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "error-with-OK": b"HTTP/1.1 500 OK\r\nContent-Length: 2\r\n\r\nOK",
}


def judged(checker, pieces, target=TARGET):
    """Verdict and status as the codec and the judge see them."""
    reader = checker.reader()
    try:
        for piece in pieces:
            response = reader.feed(piece)
            if response is not None:
                break
        else:
            response = reader.eof()
        passed = checker.judge(response, target)
    except CheckFailed as failure:
        return ("FAIL" if failure.detail.isprintable() else "UNPRINTABLE", failure.status)
    return ("PASS", passed.status)


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_cut_does_not_matter(name, method):
    data = CORPUS[name]
    checker = Http(method=method) if method == "HEAD" else Http(body="OK")
    whole = judged(checker, [data])
    for cut in range(len(data) + 1):
        assert judged(checker, [data[:cut], data[cut:]]) == whole, cut
    assert judged(checker, [data[i : i + 1] for i in range(len(data))]) == whole


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("settings", [{}, {"body": "OK"}, {"method": "HEAD"}], ids=str)
async def test_same_verdict_from_a_server(name, settings):
    checker = Http(**settings)
    async with ScriptedServer.reply(CORPUS[name]) as server:
        result = await run_check(checker, server.target(), 2)
        assert len(server.received) == 1, "a check is not repeated"
    assert (result.verdict, result.status) == judged(checker, [CORPUS[name]]), result.detail


# aiohttp's client takes or refuses, as the pieces fall, what comes behind the end.
@pytest.mark.parametrize("name", [name for name in CORPUS if name != "long"])
async def test_aiohttp_reads_the_same(name):
    async with ScriptedServer.reply(CORPUS[name]) as server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/"
        try:
            async with session.get(url, allow_redirects=False) as answer:
                theirs = (answer.status, await answer.read())
        except aiohttp.ClientError:
            theirs = None
    reader = ResponseReader()
    try:
        response = reader.feed(CORPUS[name]) or reader.eof()
        ours = (response.status, response.body)
    except CheckFailed:
        ours = None
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("short", "200, but the body ended after 2 of 20 bytes"),
        ("chunk-unended", "200, but the body ended before its last chunk"),
        ("nothing", "the server closed the connection without a response"),
        ("ssh", 'not an HTTP response: "SSH-2.0-OpenSSH_9.2\\r\\n"'),
        ("half-header", "the server closed the connection inside the header"),
        ("chunk-bad", "200, but the body is malformed"),
    ],
)
def test_reasons(name, text):
    def read():
        reader = ResponseReader()
        return reader.feed(CORPUS[name]) or reader.eof()

    with pytest.raises(CheckFailed) as failure:
        read()
    assert failure.value.status is Status.L7RSP
    assert text in failure.value.detail


def test_response_tells_its_header():
    data = CORPUS["hints"].replace(b"No\r\n", b"No Way\r\nX-A: 1\r\nx-a: 2\r\n")
    response = ResponseReader().feed(data)
    assert response.status_line == "503 No Way"
    assert response.headers == (("x-a", "1"), ("x-a", "2"), ("content-length", "0"))
    assert response.header("x-a") == "1"
    assert response.header("link") is None


def test_body_beyond_the_limit_is_cut_and_good():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    response = ResponseReader(limit=10).feed(head + b"x" * 11)
    assert response == Response(200, head + b"x" * 11, b"x" * 10, True)
    assert ResponseReader(limit=10).feed(head + b"x" * 10) is None


def test_header_limit_is_exact_however_it_is_fed():
    start, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\nContent-Length: 0\r\n\r\n"
    fit = start + b"x" * (ResponseReader.HEAD_LIMIT - len(start + end)) + end
    assert ResponseReader().feed(fit).status == 200
    big = fit.replace(b"X: ", b"X: x", 1)
    for pieces in ([big], [big[:100], big[100:]], [big[:-1], big[-1:]]):
        assert judged(Http(), pieces) == ("FAIL", "L7RSP")


def test_interim_responses_do_not_go_on_for_ever():
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert judged(Http(), [interim] * 2700) == ("FAIL", "L7RSP")
    with pytest.raises(CheckFailed, match="header block over"):
        ResponseReader().feed(interim * 2700)


def test_buffer_may_be_reused():
    buffer = bytearray(CORPUS["no-location"][:30])
    reader = ResponseReader()
    assert reader.feed(memoryview(buffer)) is None
    buffer[:] = b"z" * 30
    assert reader.feed(CORPUS["no-location"][30:]).reason == "Found"


BITS = [b"\r\n", b"HTTP/1.1 ", b"200 OK\r\n", b"0\r\n\r\n", b"\0"]
PIECES = st.sampled_from([*CORPUS.values(), *BITS])


@given(st.lists(PIECES | st.binary(max_size=40), max_size=8), st.sampled_from(["GET", "HEAD"]))
def test_nothing_but_check_failed(pieces, method):
    judged(Http(method=method), pieces)


@given(st.sampled_from(sorted(CORPUS)), st.data())
def test_mutations_do_not_depend_on_the_cut(name, data):
    raw = bytearray(CORPUS[name])
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw)
    cut = data.draw(st.integers(0, len(raw)))
    assert judged(Http(), [raw]) == judged(Http(), [raw[:cut], raw[cut:]])
