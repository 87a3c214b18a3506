"""The DNS check against scripted servers and hostile bytes."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.datagram import NoAnswer
from lbhealth.checkers.dns import Dns
from lbhealth.checkers.dns_message import answer_texts, question, rcode_of, read_answer
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.testing import CheckerContract, ScriptedServer
from tests.checkers.udp import udp_server

CHECK = Dns("www.example.org", receive="192.0.2")


class TestContract(CheckerContract):
    def checker(self):
        return CHECK


def answer(query, *texts, kind="A", rcode=0, flags=0):
    response = dns.message.make_response(dns.message.from_wire(query))
    response.set_rcode(rcode)
    response.flags |= flags
    if texts:
        name = response.question[0].name
        response.answer.append(dns.rrset.from_text(name, 1, "IN", kind, *texts))
    return response.to_wire()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "request"),
        ({"request": "a..b"}, "request"),
        ({"request": "x" * 64}, "request"),
        ({"request": "a.example.org", "record": "B"}, "record"),
        ({"request": "a.example.org", "record": ""}, "record"),
        ({"request": "a.example.org", "record": "AXFR"}, "record"),
        ({"request": "a.example.org", "record": "TYPE99999"}, "record"),
        ({"request": "a.example.org", "rcode": "FINE"}, "rcode"),
        ({"request": "a.example.org", "receive": "(("}, "receive"),
        ({"request": "a.example.org", "receive": "x", "rcode": "NXDOMAIN"}, "receive"),
    ],
)
def test_settings_are_refused(settings, field):
    with pytest.raises(SettingError) as error:
        Dns(**settings)
    assert error.value.field == field


def test_values():
    assert Dns("a.b", "mx") == Dns("a.b", "MX", "noerror")
    assert Dns("192.0.2.1").asked == "PTR"
    assert Dns("2001:db8::1", "AAAA").asked == "PTR"
    assert Dns("192.0.2.1", "NS").asked == "NS"
    assert Dns("www.example.org", "TYPE65").asked == "TYPE65"
    assert Dns("b\xfccher.example").asked == "A"


async def test_udp(probe):
    async with udp_server(lambda n, data: [answer(data, "192.0.2.1")]) as server:
        assert await probe(CHECK, server.target()) == ("PASS", "L7OK", "192.0.2.1")


async def test_sent_again(probe):
    script = lambda n, data: [answer(data, "192.0.2.1")] if n else []  # noqa: E731
    async with udp_server(script) as server:
        assert (await probe(CHECK, server.target(), 0.6))[0] == "PASS"
        assert server.received[0] == server.received[1]


async def test_forged_answers_are_skipped(probe):
    def script(number, data):
        other = dns.message.make_query("other.example.org", "A", id=int.from_bytes(data[:2]))
        wrong_id = bytes((data[0] ^ 1, data[1])) + answer(data, "10.0.0.1")[2:]
        return [
            wrong_id,
            answer(other.to_wire(), "10.0.0.1"),
            data,
            b"x",
            b"",
            answer(data, "192.0.2.1"),
        ]

    async with udp_server(script) as server:
        assert await probe(CHECK, server.target()) == ("PASS", "L7OK", "192.0.2.1")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda q: answer(q, rcode=2), ("L7STS", "SERVFAIL, expected NOERROR")),
        (lambda q: answer(q, rcode=5)[:12], ("L7RSP", "malformed DNS response")),
        (lambda q: q[:2] + b"\x80\x05" + bytes(8), ("L7STS", "REFUSED, expected NOERROR")),
        (lambda q: answer(q), ("L7RSP", "no A record in the answer")),
        (lambda q: answer(q, "::1", kind="AAAA"), ("L7RSP", "no A record in the answer")),
        (lambda q: answer(q, "10.0.0.1"), ("L7RSP", 'no A record matches "192.0.2": 10.0.0.1')),
        (lambda q: answer(q, "192.0.2.1")[:-2], ("L7RSP", "malformed DNS response")),
        (lambda q: q[:2] + b"\x80\0\0\1\xff\xff\0\0\0\0", ("L7RSP", "more than 1000 records")),
        (lambda q: b"HTTP/1.1 400 Bad Request\r\n", ("L7RSP", 'another ID, or none: "HTTP')),
    ],
)
async def test_bad_answers(make, wanted, probe):
    async with udp_server(lambda n, data: [make(data)]) as server:
        verdict, status, detail = await probe(CHECK, server.target(), 0.3)
    assert (verdict, status) == ("FAIL", wanted[0])
    assert wanted[1] in detail


async def test_truncated_and_no_tcp(probe):
    script = lambda n, data: [answer(data, flags=dns.flags.TC)]  # noqa: E731
    async with udp_server(script) as server:
        verdict, status, detail = await probe(CHECK, server.target())
    assert (verdict, status) == ("FAIL", "L4CON")
    assert detail == "truncated over UDP, and over TCP: connection refused"


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", "closed the connection early"),
        (b"\0\x0cshort", "closed the connection early"),
        (b"\0\x0c" + bytes(12), "another ID"),
        (b"\0\0", "not a DNS message"),
        (b"220 mail ESMTP ready\r\n" * 700, "another ID"),
    ],
)
async def test_tcp_nonsense(data, wanted, probe):
    async with ScriptedServer.reply(data) as server:
        verdict, status, detail = await probe(CHECK, server.target())
    assert (verdict, status) == ("FAIL", "L7RSP")
    assert wanted in detail


QUERY = question("www.example.org", "A")
GOOD = answer(QUERY.to_wire(), "192.0.2.1", "192.0.2.2")


def read(data):
    """What reading makes of bytes; anything but these two exceptions is a fault."""
    try:
        found = read_answer(QUERY, data)
    except (NoAnswer, CheckFailed):
        return None
    return rcode_of(found), sorted(answer_texts(found, "A"))


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda b: GOOD[:12] + b))
def test_any_bytes(data):
    read(data)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
def test_any_change(changes):
    data = bytearray(GOOD)
    for place, byte in changes:
        data[place] = byte
    read(bytes(data))


def test_every_cut():
    assert read(GOOD) == ("NOERROR", [("192.0.2.1",), ("192.0.2.2",)])
    for cut in range(len(GOOD)):
        assert read(GOOD[:cut]) is None
        tc = bytes((*GOOD[:2], GOOD[2] | 2, *GOOD[3:]))[:cut]
        read(tc)


def test_forms():
    found = dns.message.make_response(QUERY)
    for kind, text in (("TXT", '"a b" "c"'), ("MX", "10 mail.example.org.")):
        found.answer.append(dns.rrset.from_text("x.", 1, "IN", kind, text))
    assert answer_texts(found, "TXT") == [('"a b" "c"', "a bc")]
    assert answer_texts(found, "MX") == [("10 mail.example.org.", "10 mail.example.org")]
    assert len(answer_texts(found, "ANY")) == 2
