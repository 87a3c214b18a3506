"""The RADIUS codec by the RFCs' examples and by chance, and the check by scripted servers."""

import contextlib
import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.radius import Radius
from lbhealth.checkers.radius_packet import (
    Attribute,
    Code,
    PacketError,
    decode,
    encode_request,
    hide_password,
    verify_response,
)
from lbhealth.errors import SettingError
from lbhealth.testing import CheckerContract
from tests.checkers.udp import closed_port, udp_server

SECRET = b"xyzzy5461"
# RFC 2865, 7.1
REQUEST = bytes.fromhex(
    "010000380f403f9473978057bd83d5cb98f4227a01066e656d6f02120dbe708d93d413ce3196e43f782a0aee"
    "0406c0a80110050600000003"
)
ACCEPT = bytes.fromhex(
    "0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f06000000000e06c0a80103"
)
# RFC 5997, 6.1
STATUS = bytes.fromhex(
    "0cda00268a54f4686fb394c52866e302185d062350125a665e2e1e8411f3e243822097c84fa3"
)
STATUS_ANSWER = bytes.fromhex("02da0014ef0d552a4bf2d693ec2b6fe8b5411d66")

CHECK = Radius("hc", "top secret", "shared one")


class TestContract(CheckerContract):
    speaks_tcp = False
    talks = False

    def checker(self):
        return CHECK


def test_rfc_2865_request():
    packet = decode(REQUEST)
    assert (packet.code, packet.identifier) == (Code.ACCESS_REQUEST, 0)
    hidden = hide_password(b"arctangent", SECRET, packet.authenticator)
    assert packet.attributes == (
        (Attribute.USER_NAME, b"nemo"),
        (Attribute.USER_PASSWORD, hidden),
        (Attribute.NAS_IP_ADDRESS, bytes((192, 168, 1, 16))),
        (5, (3).to_bytes(4)),
    )


def test_rfc_2865_response():
    packet = verify_response(ACCEPT, REQUEST[4:20], SECRET)
    assert packet.code == Code.ACCESS_ACCEPT
    assert len(packet.attributes) == 3
    assert verify_response(ACCEPT + b"padding", REQUEST[4:20], SECRET) == packet
    with pytest.raises(PacketError, match="is the secret the same"):
        verify_response(ACCEPT, REQUEST[4:20], b"xyzzy5462")


def test_rfc_5997():
    made = encode_request(Code.STATUS_SERVER, 0xDA, STATUS[4:20], [], SECRET)
    assert made == STATUS
    assert verify_response(STATUS_ANSWER, STATUS[4:20], SECRET).code == Code.ACCESS_ACCEPT


def respond(request, code, attributes=b"", secret=b"shared one", identifier=None):
    number = request[1] if identifier is None else identifier
    head = bytes((code, number)) + (20 + len(attributes)).to_bytes(2)
    digest = hashlib.md5(head + request[4:20] + attributes + secret).digest()
    return head + digest + attributes


def test_message_authenticator_of_a_response():
    attributes = bytes((80, 18)) + bytes(16)
    with pytest.raises(PacketError, match="wrong Message-Authenticator"):
        verify_response(respond(REQUEST, 2, attributes, SECRET), REQUEST[4:20], SECRET)
    good = encode_request(Code.ACCESS_ACCEPT, 0, REQUEST[4:20], [(18, b"hi")], SECRET)
    whole = respond(REQUEST, 2, good[20:], SECRET)
    assert verify_response(whole, REQUEST[4:20], SECRET).values(Attribute.REPLY_MESSAGE) == [b"hi"]
    twice = respond(REQUEST, 2, good[20:38] * 2, SECRET)
    with pytest.raises(PacketError, match="wrong Message-Authenticator"):
        verify_response(twice, REQUEST[4:20], SECRET)


@given(
    st.binary(max_size=128), st.binary(min_size=1, max_size=40), st.binary(min_size=16, max_size=16)
)
def test_hidden_passwords_can_be_read_with_the_secret(password, secret, authenticator):
    hidden = hide_password(password, secret, authenticator)
    assert len(hidden) % 16 == 0
    assert 16 <= len(hidden) <= 128
    clear, last = b"", authenticator
    for place in range(0, len(hidden), 16):
        block = hidden[place : place + 16]
        mask = hashlib.md5(secret + last).digest()
        clear += bytes(a ^ b for a, b in zip(block, mask, strict=True))
        last = block
    assert clear.rstrip(b"\0") == password.rstrip(b"\0")


ATTRIBUTES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=253)), max_size=8)


@given(ATTRIBUTES, st.integers(0, 255), st.binary(min_size=16, max_size=16))
def test_round_trip(attributes, identifier, authenticator):
    made = encode_request(Code.ACCESS_REQUEST, identifier, authenticator, attributes, SECRET)
    packet = decode(made)
    assert packet.attributes[0][0] == Attribute.MESSAGE_AUTHENTICATOR
    assert list(packet.attributes[1:]) == attributes
    assert (packet.identifier, packet.authenticator) == (identifier, authenticator)
    for cut in range(0, len(made), 7):
        with pytest.raises(PacketError):
            decode(made[:cut])


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda b: b"\x02\0\0\x40" + b))
def test_any_bytes(data):
    with contextlib.suppress(PacketError):
        decode(data)
    with pytest.raises(PacketError):
        verify_response(data, bytes(16), SECRET)


@given(st.integers(0, len(ACCEPT) - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(place, change):
    data = bytearray(ACCEPT)
    data[place] ^= change
    with pytest.raises(PacketError):
        verify_response(bytes(data), REQUEST[4:20], SECRET)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="128"):
        hide_password(b"x" * 129, SECRET, bytes(16))
    with pytest.raises(ValueError, match="253"):
        encode_request(Code.ACCESS_REQUEST, 0, bytes(16), [(1, b"x" * 254)], SECRET)
    with pytest.raises(ValueError, match="4096"):
        encode_request(Code.ACCESS_REQUEST, 0, bytes(16), [(1, b"x" * 253)] * 17, SECRET)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "secret"),
        ({"secret": "s", "password": "x"}, "login"),
        ({"secret": "s", "login": "\xe4" * 127}, "login"),
        ({"secret": "s", "login": "x", "password": "x" * 129}, "password"),
        ({"secret": "s", "nas_identifier": ""}, "nas_identifier"),
        ({"secret": "s", "nas_identifier": "x" * 254}, "nas_identifier"),
    ],
)
def test_settings_are_refused(settings, field):
    with pytest.raises(SettingError) as error:
        Radius(**settings)
    assert error.value.field == field


def test_secrets_are_marked():
    assert "top secret" not in repr(CHECK)
    assert "shared one" not in repr(CHECK)
    marked = [f.name for f in dataclasses.fields(CHECK) if f.metadata.get("secret")]
    assert marked == ["password", "secret"]


async def test_request(probe):
    async with udp_server(lambda n, data: [respond(data, 2)]) as server:
        assert await probe(CHECK, server.target()) == ("PASS", "L7OK", "Access-Accept")
        packet = decode(server.received[0])
    kinds = [kind for kind, _ in packet.attributes]
    assert kinds == [80, 1, 2, 61, 4, 32]
    assert packet.values(Attribute.NAS_IP_ADDRESS) == [bytes((127, 0, 0, 1))]
    assert packet.values(Attribute.NAS_IDENTIFIER) == [b"lbhealth"]


async def test_sent_again_unchanged(probe):
    async with udp_server(lambda n, data: [respond(data, 2)] if n == 2 else []) as server:
        assert (await probe(CHECK, server.target(), 0.9))[0] == "PASS"
        assert len(set(server.received)) == 1


@pytest.mark.parametrize("code", [2, 5])
async def test_status_server(code, probe):
    async with udp_server(lambda n, data: [respond(data, code)]) as server:
        assert (await probe(Radius(secret="shared one"), server.target()))[0] == "PASS"
        assert server.received[0][0] == Code.STATUS_SERVER


async def test_forgeries_are_skipped(probe):
    def script(number, data):
        wrong = respond(data, 3, secret=b"guessed")
        other = respond(data, 3, identifier=data[1] ^ 1)
        return [wrong, other, respond(data, 5), data, b"", b"x" * 30, respond(data, 2)]

    async with udp_server(script) as server:
        assert await probe(CHECK, server.target()) == ("PASS", "L7OK", "Access-Accept")


async def test_another_secret_is_named(probe):
    async with udp_server(lambda n, data: [respond(data, 2, secret=b"other")]) as server:
        verdict, status, detail = await probe(CHECK, server.target(), 0.3)
    assert (verdict, status) == ("FAIL", "L7RSP")
    assert detail.endswith("a response with a wrong authenticator: is the secret the same?")


async def test_hostile_words(probe):
    words = b"\x12\x20no top secret\x1b[2J\r\nshared one...."
    words = bytes((18, len(words))) + words[2:]
    async with udp_server(lambda n, data: [respond(data, 3, words)]) as server:
        verdict, status, detail = await probe(CHECK, server.target())
    assert (verdict, status) == ("FAIL", "L7STS")
    assert detail == 'authentication refused: Access-Reject: "no ***\\x1b[2J\\r\\n***...."'


async def test_refused(probe):
    with closed_port() as target:
        assert (await probe(CHECK, target))[:2] == ("FAIL", "L4CON")
