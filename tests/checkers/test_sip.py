"""The SIP parser on hostile bytes, and the check against scripted servers."""

import asyncio
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers import sip as sip_module
from lbhealth.checkers.sip import Sip
from lbhealth.checkers.sip_message import MessageError, MessageReader, parse_datagram
from lbhealth.errors import SettingError
from lbhealth.model import Target, TransportProtocol
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.checkers.udp import closed_port, udp_server


class TestContract(CheckerContract):
    def checker(self):
        return Sip("hc@example.org")


def header(request, name):
    return re.search(rb"(?mi)^" + name + rb": ([^\r\n]*)", request)[1]


def answer(request, line=b"200 OK", end=b"Content-Length: 0\r\n\r\n"):
    names = (b"Via", b"From", b"To", b"Call-ID", b"CSeq")
    lines = [name + b": " + header(request, name) for name in names]
    return b"SIP/2.0 " + line + b"\r\n" + b"\r\n".join(lines) + b"\r\n" + end


class SipTcp(ScriptedServer):
    """Answers the first request with what `script` makes of it, in `pieces`, and closes."""

    @classmethod
    def scripted(cls, script, cut=None):
        async def behave(reader, writer):
            data = script(await reader.read(65536))
            for piece in [data] if cut is None else [data[:cut], data[cut:]]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)

        return cls(behave)


@pytest.mark.parametrize(
    ("settings", "field", "position"),
    [
        ({"login": "a b@c"}, "login", 1),
        ({"login": "a@c\r\nX: y"}, "login", 3),
        ({"login": "@c"}, "login", 0),
        ({"login": "a@"}, "login", 1),
        ({"login": "a@c>"}, "login", 3),
        ({"login": "b\xe4r@c"}, "login", 1),
        ({"status": ()}, "status", None),
        ({"status": ("199",)}, "status", None),
        ({"status": ("700",)}, "status", None),
        ({"status": ("299-200",)}, "status", None),
    ],
)
def test_settings_are_refused(settings, field, position):
    with pytest.raises(SettingError) as error:
        Sip(**settings)
    assert (error.value.field, error.value.position) == (field, position)


def test_values():
    assert Sip(status=[200, "300-301"]) == Sip(status=("200", "300-301"))
    assert Sip("sip:a@b.example:5070").login == "sip:a@b.example:5070"
    assert Sip("+49-30;x=%41@[2001:db8::1]") == Sip("+49-30;x=%41@[2001:db8::1]")


async def test_request(probe):
    async with udp_server(lambda n, data: [answer(data)]) as server:
        assert await probe(Sip("hc@example.org"), server.target()) == ("PASS", "L7OK", "200 OK")
        assert (await probe(Sip(), server.target()))[0] == "PASS"
        assert (await probe(Sip("hc"), server.target()))[0] == "PASS"
        named, bare, user = server.received
        port = server.sender[1]
    message = parse_datagram(named)
    assert message.status is None
    names = [name for name, _ in message.headers]
    assert names[:6] == ["via", "max-forwards", "from", "to", "call-id", "cseq"]
    assert named.startswith(b"OPTIONS sip:hc@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:")
    assert re.search(r";branch=z9hG4bK[0-9a-f]{24};rport$", message.header("via"))
    assert re.fullmatch(r"<sip:hc@example\.org>;tag=[0-9a-f]{16}", message.header("from"))
    assert message.header("to") == "<sip:hc@example.org>"
    assert message.header("content-length") == "0"
    assert bare.startswith(f"OPTIONS sip:127.0.0.1:{server.port} SIP/2.0\r\n".encode())
    assert user.startswith(f"OPTIONS sip:hc@127.0.0.1:{server.port} SIP/2.0\r\n".encode())
    assert header(user, b"Contact") == f"<sip:hc@127.0.0.1:{port}>".encode()
    for name in (b"Via", b"From", b"Call-ID"):
        assert header(named, name) != header(user, name)


async def test_request_over_tcp(probe):
    async with SipTcp.scripted(answer) as server:
        assert (await probe(Sip("a@b"), server.target()))[0] == "PASS"
        request = bytes(server.received[0])
    assert header(request, b"Via").startswith(b"SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK")
    assert header(request, b"Contact") == b"<sip:a@127.0.0.1;transport=tcp>"


async def test_ipv6_is_bracketed(probe):
    async with udp_server(lambda n, data: [answer(data)], "::1") as server:
        assert (await probe(Sip(), server.target()))[0] == "PASS"
        request, port = server.received[0], server.sender[1]
    assert request.startswith(f"OPTIONS sip:[::1]:{server.port} SIP/2.0\r\n".encode())
    assert header(request, b"Via").startswith(f"SIP/2.0/UDP [::1]:{port};".encode())


def test_timer_e():
    options = sip_module._Options("", Target("127.0.0.1", 5060), "UDP", "127.0.0.1:1")
    assert list(itertools.islice(options.retransmissions(), 5)) == [0.5, 1.0, 2.0, 4.0, 4.0]
    waits = options.retransmissions()
    assert next(waits) == 0.5
    assert options.datagram(answer(options.request, b"100 Trying")) is None
    assert [next(waits), next(waits)] == [4.0, 4.0]
    assert options.request.startswith(b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n")


async def test_retransmits_the_same_request(probe):
    async with udp_server(lambda n, data: [answer(data)] if n else []) as server:
        assert (await probe(Sip(), server.target(), 1))[0] == "PASS"
        assert server.received[0] == server.received[1]


async def test_strangers_are_skipped(probe):
    def script(number, data):
        bad = b"503 Service Unavailable"
        changed = answer(data, bad)
        return [
            changed.replace(b"z9hG4bK", b"z9hG4bKx"),
            re.sub(rb"CSeq: \d+", b"CSeq: 70000", changed),
            changed.replace(b"OPTIONS", b"INVITE"),
            re.sub(rb"Call-ID: ", b"Call-ID: x", changed),
            data,
            b"x",
            b"\r\n\r\n",
            b"\0\0\0\0",
            answer(data, bad, b"Content-Length: 5\r\n\r\nab"),
            answer(data, b"100 Trying"),
            answer(data, b"183 Session Progress"),
            answer(data, b"200 Good"),
        ]

    async with udp_server(script) as server:
        assert await probe(Sip(), server.target()) == ("PASS", "L7OK", "200 Good")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda q: b"220 mail ready\r\n\r\n", ("L7RSP", 'not a SIP message: "220 mail')),
        (lambda q: b"HTTP/1.1 200 OK\r\n\r\n", ("L7RSP", "not a SIP message")),
        (lambda q: answer(q, b"503 Over\x1b[2Jload"), ("L7STS", "503 Over\\x1b[2Jload (busy)")),
        (lambda q: answer(q, b"302 Moved"), ("L7STS", "302 Moved")),
        (lambda q: answer(q, b"407 Proxy"), ("L7STS", "407 Proxy (authentication refused)")),
        (lambda q: answer(q).replace(b"z9hG4bK", b"other"), ("L7RSP", "to another request")),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
async def test_bad_answers(make, wanted, tcp, probe):
    if tcp:
        async with SipTcp.scripted(make) as server:
            verdict, status, detail = await probe(Sip(), server.target(), 0.5)
    else:
        async with udp_server(lambda n, data: [make(data)]) as server:
            verdict, status, detail = await probe(Sip(), server.target(), 0.3)
    assert (verdict, status) == ("FAIL", wanted[0])
    assert wanted[1] in detail


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda q: b"", "without an answer"),
        (lambda q: b"\r\n\r\n", "without an answer"),
        (lambda q: answer(q)[:-2], 'inside its answer: "SIP/2.0 200 OK'),
        (lambda q: answer(q, b"100 Trying"), "without an answer"),
        (lambda q: q, "but with a SIP request"),
        (lambda q: answer(q, end=b"Content-Length: 4\r\n\r\nabc"), "inside its answer"),
        (lambda q: answer(q, end=b"Content-Length: -1\r\n\r\n"), "a bad Content-Length"),
        (lambda q: answer(q, end=b"Content-Length: 99999\r\n\r\n"), "more than 65536 bytes"),
        (lambda q: answer(q, end=b"l: 1\r\nContent-Length: 2\r\n\r\nab"), "a bad Content-Length"),
        (lambda q: answer(q, end=b"no colon\r\n\r\n"), 'not a SIP header: "no colon"'),
        (lambda q: answer(q, end=b"A: b\r\n" * 1000 + b"\r\n"), "more than 1000 lines"),
    ],
)
async def test_bad_streams(make, wanted, probe):
    async with SipTcp.scripted(make) as server:
        verdict, status, detail = await probe(Sip(), server.target())
    assert (verdict, status) == ("FAIL", "L7RSP")
    assert wanted in detail


async def test_split_at_every_place(probe):
    def script(request):
        trying = answer(request, b"100 Trying", b"Content-Length: 2\r\n\r\nhi")
        return b"\r\n\r\n" + request + trying + answer(request)

    async def one(cut):
        async with SipTcp.scripted(script, cut) as server:
            return await probe(Sip("a@b"), server.target(), 5)

    results = [await asyncio.gather(*map(one, range(n, n + 40))) for n in range(0, 1000, 40)]
    assert set(itertools.chain(*results)) == {("PASS", "L7OK", "200 OK")}


async def test_refused(probe):
    with closed_port() as target:
        assert (await probe(Sip(), target))[:2] == ("FAIL", "L4CON")


async def test_source_that_is_not_here(probe):
    for protocol in TransportProtocol.UDP, TransportProtocol.TCP:
        target = Target("127.0.0.1", 5060, protocol, source="192.0.2.77")
        got = await probe(Sip(), target)
        assert got == ("ERROR", "SOCKERR", "source address 192.0.2.77 is not on this host")


# -- the parser

FOLDED = (
    b"\r\nSIP/2.0 200 All  right\r\nv: SIP/2.0/UDP h;branch=z9\r\n ;rport,\r\n\tSIP/2.0/UDP i\r\n"
    b"CSeq : 1\r\n  OPTIONS\r\ni:  x@y  \r\nEmpty:\r\n"
    b"Subject: gr\xc3\xbcn \xff\r\nL: 3\r\n\r\nabcdef"
)


def test_compact_and_folded():
    message = parse_datagram(FOLDED)
    assert (message.status, message.reason, message.body) == (200, "All  right", b"abc")
    assert message.header("via") == "SIP/2.0/UDP h;branch=z9 ;rport, SIP/2.0/UDP i"
    assert message.header("cseq") == "1 OPTIONS"
    assert message.header("call-id") == "x@y"
    assert message.header("empty") == ""
    assert message.header("subject") == "gr\xfcn \ufffd"
    assert message.header("missing") == ""


def test_bare_newlines_and_no_reason():
    message = parse_datagram(b"SIP/2.0 486\nTo: x\n\nrest")
    assert (message.status, message.start_line, message.body) == (486, "486", b"rest")


@pytest.mark.parametrize(
    "line",
    [b"SIP/2.0 99 x", b"SIP/2.0 700 x", b"SIP/3.0 200 OK", b"SIP/2.0 2000", b"OPTIONS SIP/2.0"],
)
def test_no_start_line(line):
    with pytest.raises(MessageError, match="not a SIP message"):
        parse_datagram(line + b"\r\nTo: x\r\n\r\n")


def messages(pieces):
    """What a reader makes of a stream: messages, then an error or what is left."""
    reader, found = MessageReader(), []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (message := reader.next()) is not None:
                found.append(message)
    except MessageError:
        return found, None
    return found, reader.rest.lstrip(b"\r\n")


STREAM = FOLDED[:-3] + b"SIP/2.0 100 T\r\n\r\n" + b"OPTIONS sip:a SIP/2.0\nl: 1\n\nx" + b"\r\n\r\n"


def test_stream_cut_anywhere():
    whole = messages([STREAM])
    assert [m.status for m in whole[0]] == [200, 100, None]
    assert whole[1] == b""
    for cut in range(len(STREAM)):
        assert messages([STREAM[:cut], STREAM[cut:]]) == whole
    assert messages([bytes([b]) for b in STREAM]) == whole


PIECES = st.sampled_from(
    [STREAM, FOLDED, b"\r\n", b"\r\n\r\n", b"SIP/2.0 200 OK\r\n", b"l: 2\r\n", b"\n ", b": ", b"\0"]
)


@given(st.lists(PIECES | st.binary(max_size=30), max_size=8))
def test_any_bytes(pieces):
    messages(pieces)
    data = b"".join(pieces)
    try:
        parse_datagram(data)
    except MessageError as error:
        reason = str(error)
    else:
        reason = ""
    assert reason == "" or reason.isprintable()


@given(st.data())
def test_changes_do_not_depend_on_the_cut(data):
    raw = bytearray(STREAM)
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    whole, halves = messages([bytes(raw)]), messages([bytes(raw[:cut]), bytes(raw[cut:])])
    assert whole[0] == halves[0] or whole[1] is None or halves[1] is None
    assert (whole[1] is None) == (halves[1] is None)


def test_start_line_cannot_be_folded():
    data = b"OPTIONS\r\n sip:a SIP/2.0\r\n\r\n"
    assert messages([data]) == messages([data[:9], data[9:]]) == ([], None)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"SIP/2.0 200 OK\r\nX: " + b"x" * 65536, "more than 65536 bytes"),
        (b"* OK IMAP ready\r\n", "not a SIP message"),
    ],
)
def test_what_can_become_no_message(data, wanted):
    reader = MessageReader()
    reader.feed(data)
    with pytest.raises(MessageError, match=wanted):
        reader.next()
