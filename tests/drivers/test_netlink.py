"""Generic netlink framing, against bytes written out by hand (little-endian hosts)."""

from __future__ import annotations

import errno
import struct
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.drivers import netlink
from lbhealth.drivers.netlink import Message, NetlinkFormatError, Status
from lbhealth.errors import DriverError

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="golden bytes are x86's")


@little_endian
def test_a_request_is_two_headers_and_attributes() -> None:
    payload = netlink.attribute(2, b"IPVS\0")
    assert netlink.request(16, 3, netlink.NLM_F_ACK, 7, payload).hex(" ", 4) == (
        "20000000 10000500 07000000 00000000"  # length 32, type 16, REQUEST | ACK, sequence 7
        " 03010000"  # command 3, version 1
        " 09000200 49505653 00000000"  # length 9, type 2, "IPVS\0", padding
    )


@little_endian
def test_a_barrier_is_a_noop_that_wants_an_acknowledgement() -> None:
    assert netlink.barrier(9).hex(" ", 4) == "10000000 01000500 09000000 00000000"


@pytest.mark.parametrize(("size", "total"), [(0, 4), (1, 8), (4, 8), (5, 12), (16, 20)])
def test_attributes_are_padded_to_four_bytes(size: int, total: int) -> None:
    assert len(netlink.attribute(1, bytes(size))) == total


def test_a_datagram_is_split_into_messages() -> None:
    data = netlink.request(28, 1, 0, 1, netlink.attribute(1, b"abc")) + netlink.barrier(2)
    first, second = netlink.messages(data)
    assert (first.kind, first.sequence, second.kind, second.sequence) == (28, 1, 1, 2)
    assert netlink.generic(first) == {1: b"abc"}


def test_the_last_of_repeated_attributes_counts_and_flag_bits_do_not() -> None:
    data = netlink.attribute(0x8001, b"a") + netlink.attribute(0x4001, b"b")
    assert netlink.attributes(data) == {1: b"b"}


REQUEST = netlink.request(28, 1, 0, 5, netlink.attribute(1, b"12345"))
WORDS = netlink.attribute(1, b"no such thing\0") + netlink.attribute(2, bytes(4))


@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        (0, struct.pack("=i", 0) + REQUEST[:16], Status(0)),
        (0, struct.pack("=i", -2) + REQUEST, Status(2)),
        (netlink.NLM_F_CAPPED, struct.pack("=i", -22) + REQUEST[:16], Status(22)),
        (
            netlink.NLM_F_CAPPED | netlink.NLM_F_ACK_TLVS,
            struct.pack("=i", -22) + REQUEST[:16] + WORDS,
            Status(22, "no such thing"),
        ),
        (
            netlink.NLM_F_ACK_TLVS,
            struct.pack("=i", -22) + REQUEST + WORDS,
            Status(22, "no such thing"),
        ),
        (netlink.NLM_F_ACK_TLVS, struct.pack("=i", -22), Status(22)),
    ],
)
def test_errors_with_and_without_the_kernels_words(
    flags: int, payload: bytes, expected: Status
) -> None:
    assert netlink.status(Message(netlink.NLMSG_ERROR, flags, 5, payload)) == expected


def test_the_end_of_a_dump_may_carry_an_error_or_nothing() -> None:
    done = netlink.NLMSG_DONE
    assert netlink.status(Message(done, 2, 1, struct.pack("=i", 0))) == Status(0)
    assert netlink.status(Message(done, 2, 1, b"")) == Status(0)
    code = struct.pack("=i", -errno.EBUSY)
    assert netlink.status(Message(done, 2, 1, code)) == Status(errno.EBUSY)


@pytest.mark.parametrize(
    "message",
    [
        Message(netlink.NLMSG_ERROR, 0, 1, b""),
        Message(netlink.NLMSG_ERROR, 0, 1, struct.pack("=i", 5)),
    ],
)
def test_errors_without_sense(message: Message) -> None:
    with pytest.raises(NetlinkFormatError):
        netlink.status(message)


def test_integers_have_their_size() -> None:
    assert netlink.integer({4: b"\x00\x50"}, 4, 2, order="big") == 80
    assert netlink.integer({}, 4, 2, default=3) == 3
    with pytest.raises(NetlinkFormatError, match="missing"):
        netlink.integer({}, 4, 2)
    with pytest.raises(NetlinkFormatError, match="1 bytes, not 2"):
        netlink.integer({4: b"x"}, 4, 2)


def test_strings_end_at_their_nul_and_bad_bytes_are_escaped() -> None:
    assert netlink.text(b"wrr\0junk") == "wrr"
    assert netlink.text(b"a\xff") == "a\\xff"


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_the_modules_own_error(data: bytes) -> None:
    with suppress(NetlinkFormatError):
        for message in netlink.messages(data):
            netlink.generic(message)
            netlink.status(message)


def test_the_modules_own_error_is_a_driver_error() -> None:
    assert issubclass(NetlinkFormatError, DriverError)


@given(st.data())
def test_cut_messages_are_refused(data: st.DataObject) -> None:
    whole = netlink.request(28, 1, 0, 1, netlink.attribute(1, b"abcdefgh"))
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(NetlinkFormatError):
        list(netlink.messages(whole[:cut]))
