"""The shared connection and the dialogue engine."""

import asyncio
import ssl
import time

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.dialogue import (
    MAX_BYTES,
    MAX_LINES,
    Dialogue,
    Expect,
    Heard,
    LineBuffer,
    Quit,
    Send,
    StartTls,
)
from lbhealth.checkers.settings import TLS_AT_ONCE, check_line, check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Status, Target
from lbhealth.testing import ScriptedServer


def context(seconds=2.0, trace=None):
    return CheckContext(asyncio.get_running_loop().time() + seconds, trace)


async def connect_tls(server, ctx):
    async with Stream.connect(server.target(), ctx, tls="implicit"):
        pass


async def read_on(stream, reader, *args):
    while True:
        await getattr(stream, reader)(*args)


@pytest.fixture(scope="module")
def server_tls():
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    return tls


async def test_lines_until_and_some():
    async with (
        ScriptedServer.close_early(b"one\r\ntwo\nthree--rest") as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        assert await stream.read_line() == b"one"
        assert await stream.read_line() == b"two"
        assert await stream.read_until(b"--") == b"three--"
        assert await stream.read_some() == b"rest"
        assert await stream.read_some() == b""
        with pytest.raises(CheckFailed, match="closed the connection early"):
            await stream.read_line()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_exact_reads(host):
    heard = []
    ctx = context(trace=lambda *step: heard.append(step))
    async with (
        ScriptedServer.close_early(b"abcdef\nrest", host=host) as server,
        Stream.connect(server.target(), ctx) as stream,
    ):
        assert await stream.peek(2) == b"ab"
        assert await stream.read_exactly(3) == b"abc"
        assert await stream.read_exactly(2, note=False) == b"de"
        stream.put_back(b"de")
        assert await stream.read_line() == b"def"
        assert await stream.read_exactly(0) == b""
        with pytest.raises(CheckFailed, match="closed the connection early"):
            await stream.read_exactly(5)
        assert await stream.read_exactly(4) == b"rest"
    assert [step for step in heard if step[0] == "<"][:2] == [("<", b"abc"), ("<", b"def")]


async def test_exact_reads_have_limits():
    async with (
        ScriptedServer.close_early(b"x" * 100_000) as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        with pytest.raises(CheckFailed, match=f"announces {MAX_BYTES + 1} bytes"):
            await stream.read_exactly(MAX_BYTES + 1)
        with pytest.raises(CheckFailed, match=f"more than {MAX_BYTES} bytes"):
            await read_on(stream, "read_exactly", 1000)


async def test_a_library_can_take_over():
    async with (
        ScriptedServer.reply(b"") as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        assert stream.transport.get_extra_info("peername")[1] == server.target().port
        assert stream.alpn is None


async def test_source_that_is_not_here():
    with pytest.raises(CheckError, match=r"source address 192\.0\.2\.77 is not on this host"):
        async with Stream.connect(Target("127.0.0.1", 9, source="192.0.2.77"), context()):
            pass


async def test_phases():
    ctx = context()
    with pytest.raises(CheckFailed) as caught:
        async with (
            ScriptedServer.refuse() as server,
            Stream.connect(server.target(), ctx),
        ):
            pass
    assert (caught.value.status, ctx.phase) == (Status.L4CON, Status.L4TOUT)
    async with ScriptedServer.accept_then_silence() as server:
        async with Stream.connect(server.target(), ctx):
            assert ctx.phase == Status.L7TOUT
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect_tls(server, ctx), 0.1)
        assert ctx.phase == Status.L6TOUT


async def test_tls(server_tls):
    async with ScriptedServer.reply(b"hello\r\n", tls=server_tls) as server:
        heard = []
        ctx = context(trace=lambda *step: heard.append(step))
        async with Stream.connect(server.target(), ctx, tls="implicit") as stream:
            await stream.write(b"hi\r\n")
            assert await stream.read_line() == b"hello"
            assert await stream.read_some() == b""
        assert any(str(text).startswith("TLSv1") for _, text in heard)


@pytest.mark.parametrize(("offered", "chosen"), [("h2", "h2"), (None, None), ("h9", None)])
async def test_alpn(offered, chosen):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        ScriptedServer.reply(b"OK", tls=tls) as server,
        Stream.connect(server.target(), context(), tls="implicit", alpn=offered) as stream,
    ):
        assert stream.alpn == chosen


async def test_verify(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.test").configure_cert(tls)
    settings = {"tls": "implicit", "verify": True, "ca_file": str(tmp_path / "ca.pem")}
    async with ScriptedServer.reply(b"OK", tls=tls) as server:
        async with Stream.connect(server.target("a.test"), context(), **settings) as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(2) == b"OK"
        with pytest.raises(CheckFailed, match="does not match the name"):
            async with Stream.connect(server.target("x.test"), context(), **settings):
                pass


@pytest.mark.parametrize("name", ["." + "x" * 70, "a..b", "x\0y"])
async def test_impossible_server_name(server_tls, name):
    async with ScriptedServer.reply(b"", tls=server_tls) as server:
        with pytest.raises(CheckError, match="cannot be a TLS server name"):
            async with Stream.connect(server.target(name), context(), tls="implicit"):
                pass


@pytest.mark.parametrize("early", [ScriptedServer.close_early, ScriptedServer.reset])
async def test_tls_cut_off_in_the_handshake(early):
    async with early() as server:
        with pytest.raises(CheckFailed) as caught:
            async with Stream.connect(server.target(), context(), tls="implicit"):
                pass
    assert caught.value.status == Status.L6RSP


async def test_nothing_unread_may_cross_into_tls():
    async with (
        ScriptedServer.close_early(b"220 go\r\n250 injected\r\n") as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        await stream.read_line()
        with pytest.raises(CheckFailed, match="between its consent and TLS"):
            await stream.start_tls()


async def test_secrets_are_masked():
    heard = []
    ctx = context(trace=lambda *step: heard.append(step))
    async with (
        ScriptedServer.reply(b"you said sesame\r\n") as server,
        Stream.connect(server.target(), ctx, secrets=("sesame", b"c2VzYW1l")) as stream,
    ):
        await stream.write(b"sesame c2VzYW1l\r\n")
        line = await stream.read_line()
        assert line == b"you said sesame"
        assert stream.show(line) == '"you said ***"'
        await stream.write(b"PASS hunter2\r\n", shown="PASS of somebody")
    assert (">", b"*** ***\r\n") in heard
    assert ("<", b"you said ***") in heard
    assert (">", "PASS of somebody") in heard
    assert "hunter2" not in repr(heard)


async def test_a_farewell_waits_briefly_and_never_fails():
    async with ScriptedServer.accept_then_silence() as server:
        start = time.monotonic()
        async with Stream.connect(server.target(), context()) as stream:
            await stream.farewell(b"QUIT\r\n", 0.05)
        assert time.monotonic() - start < 0.5
        assert server.received[0] == b"QUIT\r\n"
    async with (
        ScriptedServer.reset() as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        await asyncio.sleep(0.1)
        await stream.farewell(b"QUIT\r\n")


@pytest.mark.parametrize("reader", ["read_line", "read_some"])
async def test_limits(reader):
    async with (
        ScriptedServer.endless_line() as server,
        Stream.connect(server.target(), context()) as stream,
    ):
        with pytest.raises(CheckFailed, match="endless line"):
            await read_on(stream, reader)


def test_line_limits():
    buffer = LineBuffer()
    buffer.feed(b"\n" * (MAX_LINES + 1))
    for _ in range(MAX_LINES):
        assert buffer.line() == b""
    with pytest.raises(CheckFailed, match=f"more than {MAX_LINES} lines"):
        buffer.line()
    buffer = LineBuffer()
    buffer.feed((b"x" * 999 + b"\n") * 66)
    with pytest.raises(CheckFailed, match=f"more than {MAX_BYTES} bytes"):
        buffer.take()


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_the_cuts(pieces):
    whole, cut = LineBuffer(), LineBuffer()
    whole.feed(b"".join(pieces))
    expected, got = [], []
    while (line := whole.line(keep_end=True)) is not None:
        expected.append(line)
    for piece in pieces:
        cut.feed(piece)
        while (line := cut.line(keep_end=True)) is not None:
            got.append(line)
    assert got == expected
    assert b"".join(got) + cut.take() == b"".join(pieces)


def script():
    lines = yield Expect("the greeting", lambda line: line.startswith(b"2 "))
    yield Send(b"hi\r\n")
    yield Expect("consent")
    yield StartTls()
    yield Send(b"again\r\n")
    yield Expect("the end")
    yield Quit(b"bye\r\n")
    return f"{len(lines)} lines"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_dialogue(size):
    dialogue = Dialogue(script())
    assert dialogue.start() == []
    actions = []
    for data in (b"2-a\r\n2 b\r\n", b"go\r\n", b"fin\r\n"):
        for start in range(0, len(data), size):
            actions += dialogue.feed(data[start : start + size])
    assert [a for a in actions if not isinstance(a, Heard)] == [
        Send(b"hi\r\n"),
        StartTls(),
        Send(b"again\r\n"),
        Quit(b"bye\r\n"),
    ]
    assert [a.line for a in actions if isinstance(a, Heard)] == [b"2-a", b"2 b", b"go", b"fin"]
    assert dialogue.result == "2 lines"


def test_dialogue_refuses_what_came_before_tls():
    dialogue = Dialogue(script())
    dialogue.start()
    with pytest.raises(CheckFailed, match="between its consent and TLS"):
        dialogue.feed(b"2 b\r\ngo\r\nx")
    assert "instead of the greeting" in new_dialogue().eof().detail


def new_dialogue():
    dialogue = Dialogue(script())
    dialogue.start()
    return dialogue


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (("maybe", False, None), "tls"),
        (("starttls", False, None, TLS_AT_ONCE), "tls"),
        (("none", True, None), "verify"),
        (("implicit", False, "/x"), "ca_file"),
        (("implicit", True, ""), "ca_file"),
        (("starttls", True, "a\0b"), "ca_file"),
    ],
)
def test_tls_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        check_tls(*settings)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "strict", "position"),
    [
        ("ab\rc", False, 2),
        ("\0", True, 0),
        ("a\t", True, 1),
        ("\x7f", True, 0),
        ("a\udc80", True, 1),
    ],
)
def test_what_is_no_line(text, strict, position):
    with pytest.raises(SettingError) as caught:
        check_line("login", text, strict=strict)
    assert (caught.value.field, caught.value.position) == ("login", position)


def test_what_is_a_line():
    check_line("login", None)
    check_line("login", "tab\t and byte \udc80")
    check_line("login", "ä b", strict=True)
