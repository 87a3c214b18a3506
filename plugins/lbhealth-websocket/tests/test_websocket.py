"""The websocket check against aiohttp's server and bad ones."""

import contextlib
import ssl
import sys

import pytest
from aiohttp import WSMsgType, web
from lbhealth_websocket.checker import Websocket

from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.servers.kit import (
    SERVER_NAME,
    accepts,
    certificates,
    free_port,
    has_v6,
    running,
    stopped,
)

__all__ = ["certificates"]

pytestmark = pytest.mark.xdist_group("websocket")
V6 = pytest.mark.skipif(not has_v6(), reason="this host has no IPv6 loopback")
PLACES = ["127.0.0.1", pytest.param("::1", marks=V6)]


async def probe(checker, target, timeout=2.0, trace=None):
    result = await run_check(checker, target, timeout, trace)
    return (str(result.verdict), str(result.status), result.detail)


class TestContract(CheckerContract):
    def checker(self):
        return Websocket(send="ping", receive="pong")


async def echo(request):
    socket = web.WebSocketResponse(protocols=["chat.v2"], max_msg_size=10**6)
    await socket.prepare(request)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        if message.data == "headers":
            await socket.send_str(f"{request.headers['Host']} {request.headers.get('Origin')}")
        elif message.data == "long":
            await socket.send_str("x" * 70000)
        elif message.data == "ping me":
            await socket.ping(b"x")
            await socket.send_bytes(b"\x00bytes\xff")
        elif message.data == "bye":
            await socket.close(code=1001)
        else:
            await socket.send_str("first")
            await socket.send_str(f"echo {message.data} {request.query_string}")
    return socket


async def refuse(request):
    raise web.HTTPServiceUnavailable


@contextlib.asynccontextmanager
async def served(host="127.0.0.1", tls=None, application=None):
    if application is None:
        application = web.Application()
        application.router.add_get("/echo", echo)
        application.router.add_get("/503", refuse)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("host", PLACES)
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ("PASS", "L7OK", "upgraded")),
        ({"subprotocols": ("chat.v1", "chat.v2")}, ("PASS", "L7OK", "subprotocol chat.v2")),
        ({"subprotocols": ("chat.v1",)}, ("FAIL", "L7STS", "chose no subprotocol")),
        (
            {"path": "/echo?a=b", "send": "hi", "receive": "^echo hi a=b"},
            ("PASS", "L7OK", "match"),
        ),
        ({"send": "ping me", "receive": r"^\x00bytes"}, ("PASS", "L7OK", "match")),
        ({"send": "bye", "receive": "x"}, ("FAIL", "L7RSP", "before the server closed")),
        ({"send": "long", "receive": "y"}, ("FAIL", "L7RSP", "")),
        ({"path": "/503"}, ("FAIL", "L7STS", "not upgraded: 503 Service Unavailable")),
        ({"path": "/missing"}, ("FAIL", "L7STS", "not upgraded: 404 Not Found")),
        (
            {
                "host": "chat.example.org",
                "headers": (("Origin", "http://a.test"),),
                "send": "headers",
                "receive": "^chat.example.org http://a.test$",
            },
            ("PASS", "L7OK", "match"),
        ),
    ],
)
async def test_real(host, settings, wanted):
    async with served(host) as port:
        got = await probe(Websocket(**{"path": "/echo", **settings}), Target(host, port))
    assert got[:2] == wanted[:2], got
    assert wanted[2] in got[2]


async def test_no_message_that_matches():
    async with served() as port:
        checker = Websocket(path="/echo", send="hi", receive="other")
        got = await probe(checker, Target("127.0.0.1", port), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


async def test_upgraded_and_closed_at_once():
    """All in one packet: the upgrade is what counts, unless a message is wanted."""

    async def close(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    application = web.Application()
    application.router.add_get("/", close)
    async with served(application=application) as port:
        target = Target("127.0.0.1", port)
        assert await probe(Websocket(), target) == ("PASS", "L7OK", "upgraded")
        got = await probe(Websocket(receive="x"), target)
    assert got[:2] == ("FAIL", "L7RSP")


async def test_headers_are_not_shown():
    steps = []
    async with served() as port:
        checker = Websocket(path="/echo", headers=(("Cookie", "hunter2"),))
        target = Target("127.0.0.1", port)
        await probe(checker, target, trace=lambda *step: steps.append(step))
    assert steps
    assert "hunter2" not in repr(steps) + repr(checker)


@pytest.mark.parametrize(
    ("file", "name", "verify", "wanted"),
    [
        ("good", None, False, ("PASS", "L7OK", "upgraded")),
        ("good", SERVER_NAME, True, ("PASS", "L7OK", "upgraded")),
        ("wrong_name", SERVER_NAME, True, ("FAIL", "L6RSP", "does not match the name")),
        ("expired", SERVER_NAME, True, ("FAIL", "L6RSP", "certificate expired")),
    ],
)
async def test_tls(certificates, file, name, verify, wanted):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(getattr(certificates, file))
    ca_file = str(certificates.ca) if verify else None
    checker = Websocket(path="/echo", tls="implicit", verify=verify, ca_file=ca_file)
    async with served(tls=tls) as port:
        got = await probe(checker, Target("127.0.0.1", port, server_name=name))
    assert got[:2] == wanted[:2]
    assert wanted[2] in got[2]


async def test_plain_text_on_the_tls_port():
    async with served() as port:
        got = await probe(Websocket(tls="implicit"), Target("127.0.0.1", port))
    assert got[:2] == ("FAIL", "L6RSP")


async def test_refused():
    got = await probe(Websocket(), Target("127.0.0.1", free_port()))
    assert got == ("FAIL", "L4CON", "connection refused")


async def test_stopped(tmp_path):
    port = free_port()
    code = (
        "from aiohttp import web\n"
        f"web.run_app(web.Application(), host='127.0.0.1', port={port}, print=None)\n"
    )
    words = [sys.executable, "-c", code]
    log = tmp_path / "log"
    with running(words, lambda: accepts(port), log=log, seconds=20) as process, stopped(process):
        got = await probe(Websocket(), Target("127.0.0.1", port), 0.3)
    assert got[:2] == ("FAIL", "L7TOUT")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
        b"220 mail ready\r\n",
        b"\x00" * 100,
    ],
    ids=["bare", "wrong key", "mail", "zeros"],
)
async def test_bad_answers(answer):
    async with ScriptedServer.reply(answer) as server:
        got = await probe(Websocket(), server.target())
    assert got[:2] == ("FAIL", "L7RSP")
    assert got[2].startswith("not upgraded: ")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"path": "chat"}, "path"),
        ({"path": "ws://a/chat"}, "path"),
        ({"host": "a b"}, "host"),
        ({"headers": (("Upgrade", "x"),)}, "headers"),
        ({"headers": (("A", "x\r\ny"),)}, "headers"),
        ({"subprotocols": ("a b",)}, "subprotocols"),
        ({"receive": "("}, "receive"),
        ({"tls": "starttls"}, "tls"),
    ],
)
def test_wrong_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Websocket(**settings)
    assert caught.value.field == field
