"""The IPVS family's bytes: golden vectors laid out by hand, round trips, bad input."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.drivers import ipvs_codec as codec
from lbhealth.drivers import ipvs_report as report
from lbhealth.drivers import netlink
from lbhealth.drivers.base import DestinationStats
from lbhealth.drivers.ipvs_uapi import Dst, Svc, Top
from lbhealth.drivers.netlink import NetlinkFormatError, attribute
from lbhealth.drivers.verbs import Verb
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    TransportProtocol,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from lbhealth.plan import Op, OpKind
from lbhealth.policy import canonical_flags, canonical_tunnel

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="golden bytes are x86's")
TCP, UDP = TransportProtocol.TCP, TransportProtocol.UDP
WEB = KernelService(InetKey(TCP, "192.0.2.10", 80), "wrr")


def hexes(text: str) -> bytes:
    """Bytes from hex, with remarks after #."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


SERVICES = [
    (
        WEB,
        """
        5400 0100                                            # service nest, 84 bytes
        0600 0100 0200 0000                                  # family 2
        0600 0200 0600 0000                                  # protocol 6
        1400 0300 c000020a 00000000 00000000 00000000        # 192.0.2.10
        0600 0400 0050 0000                                  # port 80, network order
        0800 0600 77727200                                   # "wrr"
        0c00 0700 00000000 ffffffff                          # flags, mask
        0800 0800 00000000                                   # time-out 0
        0800 0900 ffffffff                                   # netmask
        """,
    ),
    (
        KernelService(InetKey(UDP, "2001:db8::10", 5060), "sh", ("sh-port",), 300, 64, True, "sip"),
        """
        5c00 0100
        0600 0100 0a00 0000
        0600 0200 1100 0000
        1400 0300 20010db8 00000000 00000000 00000010
        0600 0400 13c4 0000
        0700 0600 73680000
        0800 0b00 73697000                                   # engine "sip"
        0c00 0700 15000000 ffffffff                          # persistent, one packet, flag 2
        0800 0800 2c010000                                   # 300 s
        0800 0900 40000000                                   # prefix 64 in the CPU's order
        """,
    ),
    (
        KernelService(FwmarkKey(0x80000001), "mh", ("mh-fallback",), 60, 24),
        """
        3800 0100
        0600 0100 0200 0000
        0800 0500 01000080                                   # the mark instead of an address
        0700 0600 6d680000
        0c00 0700 09000000 ffffffff
        0800 0800 3c000000
        0800 0900 ffffff00                                   # 255.255.255.0, network order
        """,
    ),
]

ROWS = [
    (
        Destination("10.0.0.1", 8080, Forwarding.MASQ, 3, 100, 50),
        """
        6000 0200                                            # destination nest, 96 bytes
        1400 0100 0a000001 00000000 00000000 00000000
        0600 0200 1f90 0000                                  # port 8080, network order
        0600 0b00 0200 0000                                  # family 2
        0800 0300 00000000                                   # masq
        0800 0400 03000000                                   # weight 3
        0800 0500 64000000                                   # upper 100
        0800 0600 32000000                                   # lower 50
        0500 0d00 00000000                                   # ipip
        0600 0e00 0000 0000
        0600 0f00 0000 0000
        """,
    ),
    (
        Destination(
            "2001:db8::1",
            80,
            Forwarding.TUNNEL,
            65535,
            tunnel=Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE),
        ),
        """
        6000 0200
        1400 0100 20010db8 00000000 00000000 00000001
        0600 0200 0050 0000
        0600 0b00 0a00 0000
        0800 0300 02000000                                   # tunnel
        0800 0400 ffff0000
        0800 0500 00000000
        0800 0600 00000000
        0500 0d00 01000000                                   # gue
        0600 0e00 17c0 0000                                  # port 6080, network order
        0600 0f00 0200 0000                                  # remote checksum
        """,
    ),
]


@little_endian
@pytest.mark.parametrize(("service", "golden"), SERVICES)
def test_services_as_bytes(service: KernelService, golden: str) -> None:
    data = codec.encode_service(service)
    assert data.hex(" ", 4) == hexes(golden).hex(" ", 4)
    assert codec.decode_service(codec.service_attributes(netlink.attributes(data))) == service


@little_endian
@pytest.mark.parametrize(("row", "golden"), ROWS)
def test_rows_as_bytes(row: Destination, golden: str) -> None:
    data = codec.encode_destination(row)
    assert data.hex(" ", 4) == hexes(golden).hex(" ", 4)
    nest = codec.destination_attributes(netlink.attributes(data))
    assert codec.decode_destination(nest, socket.AF_INET) == row


@little_endian
def test_a_deletion_names_its_victim_and_nothing_else() -> None:
    row = ROWS[0][0]
    key = codec.encode_key(WEB.key)
    assert codec.encode_op(Op(OpKind.DELETE_SERVICE, WEB)) == key
    assert codec.encode_op(Op(OpKind.DELETE_DESTINATION, WEB, row)) == key + hexes(
        "2800 0200 1400 0100 0a000001 00000000 00000000 00000000"
        "0600 0200 1f90 0000 0600 0b00 0200 0000"
    )


@pytest.mark.parametrize("kind", [OpKind.ADD_DESTINATION, OpKind.LOWER_DESTINATION])
def test_a_weight_never_goes_without_the_rest_of_the_row(kind: OpKind) -> None:
    nest = netlink.attributes(codec.encode_op(Op(kind, WEB, ROWS[1][0])))[Top.DEST]
    wanted = {Dst.FWD_METHOD, Dst.WEIGHT, Dst.U_THRESH, Dst.L_THRESH}
    assert set(netlink.attributes(nest)) >= wanted | {Dst.TUN_TYPE, Dst.TUN_PORT, Dst.TUN_FLAGS}


def test_there_is_no_way_to_say_flush() -> None:
    assert 17 not in list(Verb)


@pytest.mark.parametrize(
    "op",
    [
        Op(OpKind.ADD_SERVICE, KernelService(WEB.key, "rr", ("bogus",))),
        Op(OpKind.ADD_SERVICE, KernelService(WEB.key, "rr", timeout=9, netmask=33)),
        Op(OpKind.ADD_SERVICE, KernelService(WEB.key, "rr", timeout=9, netmask=-1)),
        Op(OpKind.ADD_SERVICE, KernelService(InetKey(TCP, "host", 80), "rr")),
        Op(OpKind.ADD_SERVICE, KernelService(InetKey(TCP, "192.0.2.1", 65536), "rr")),
        Op(OpKind.ADD_SERVICE, KernelService(FwmarkKey(2**32), "rr")),
        Op(OpKind.ADD_DESTINATION, WEB, Destination("10.0.0.1", 80, Forwarding.MASQ, -1)),
        Op(OpKind.ADD_DESTINATION, WEB, Destination("10.0.0.1", 80, Forwarding.MASQ, 1, 2**32)),
        Op(OpKind.ADD_DESTINATION, WEB, Destination("10.0.0.1", -1, Forwarding.MASQ, 1)),
    ],
)
def test_values_that_do_not_fit(op: Op) -> None:
    with pytest.raises(NetlinkFormatError):
        codec.encode_op(op)


# --------------------------------------------------------------------------- what dumps look like


def service_nest(**changes: bytes) -> dict[int, bytes]:
    nest = netlink.attributes(netlink.attributes(codec.encode_service(WEB))[Top.SERVICE])
    return nest | {getattr(Svc, name): value for name, value in changes.items()}


def u32(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def test_the_kernels_own_flag_is_not_seen() -> None:
    assert codec.decode_service(service_nest(FLAGS=u32(2) + b"\xff" * 4)) == WEB


def test_without_the_persistent_flag_timeout_netmask_and_engine_mean_nothing() -> None:
    nest = service_nest(TIMEOUT=u32(300), NETMASK=b"\xff\0\0\0", PE_NAME=b"sip\0")
    assert codec.decode_service(nest) == WEB


def test_a_netmask_with_holes_equals_no_configured_one() -> None:
    nest = service_nest(FLAGS=u32(1) + b"\xff" * 4, TIMEOUT=u32(9), NETMASK=b"\xff\0\xff\0")
    service = codec.decode_service(nest)
    assert service is not None
    assert service.netmask == codec.NOT_A_PREFIX


def test_a_protocol_that_nobody_knows_is_left_alone() -> None:
    assert codec.decode_service(service_nest(PROTOCOL=(50).to_bytes(2, sys.byteorder))) is None


def row_nest(row: Destination, **changes: bytes) -> dict[int, bytes]:
    nest = netlink.attributes(netlink.attributes(codec.encode_destination(row))[Top.DEST])
    return nest | {getattr(Dst, name): value for name, value in changes.items()}


@pytest.mark.parametrize("method", [4, 7])
def test_an_unknown_method_equals_no_configured_one(method: int) -> None:
    row = codec.decode_destination(
        row_nest(ROWS[0][0], FWD_METHOD=u32(0x100 | method)), socket.AF_INET
    )
    assert row.forwarding is Forwarding.LOCAL


def test_plain_ipip_is_no_tunnel_setting_and_an_unknown_one_is_unlike_any() -> None:
    plain = Destination("10.0.0.1", 80, Forwarding.TUNNEL, 1)
    read = codec.decode_destination(row_nest(plain, TUN_PORT=b"\0\x09"), socket.AF_INET)
    assert read == plain
    read = codec.decode_destination(row_nest(plain, TUN_TYPE=b"\x09"), socket.AF_INET)
    assert read.tunnel == Tunnel(TunnelType.GUE, 0)


def test_old_kernels_give_no_family_and_no_tunnel_attributes() -> None:
    nest = row_nest(ROWS[0][0])
    for name in (Dst.ADDR_FAMILY, Dst.TUN_TYPE, Dst.TUN_PORT, Dst.TUN_FLAGS):
        del nest[name]
    assert codec.decode_destination(nest, socket.AF_INET) == ROWS[0][0]


def u64(number: int) -> bytes:
    return number.to_bytes(8, sys.byteorder)


def test_counters_wide_and_narrow() -> None:
    wide = b"".join(attribute(n, u64(2**40 + n)) for n in range(1, 11)) + attribute(11, b"")
    narrow = b"".join(attribute(n, u32(n) if n < 4 else u64(2**40 + n)) for n in range(1, 6))
    top = 2**40
    counters = report.decode_counters({Svc.STATS64: wide, Svc.STATS: narrow}, service=True)
    assert counters == report.Counters(top + 1, top + 2, top + 3, top + 4, top + 5)
    counters = report.decode_counters({Dst.STATS: narrow}, service=False)
    assert counters == report.Counters(1, 2, 3, top + 4, top + 5)
    nest = {Dst.ACTIVE_CONNS: u32(7), Dst.INACT_CONNS: u32(8), Dst.PERSIST_CONNS: u32(9)}
    assert report.decode_destination_stats(nest) == DestinationStats(7, 8, 9)


def test_info_and_timeouts() -> None:
    assert report.decode_info({1: u32(0x010201), 2: u32(4096)}) == report.Info("1.2.1", 4096)
    attrs = {4: u32(900), 5: u32(120), 6: u32(300)}
    assert report.decode_timeouts(attrs) == report.Timeouts(900, 120, 300)


# --------------------------------------------------------------------------- any value

ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(lambda a: a.compressed)
ports = st.integers(0, 65535)
keys = st.one_of(
    st.builds(InetKey, st.sampled_from(TransportProtocol), ipv4 | ipv6, ports),
    st.builds(
        FwmarkKey, st.integers(1, 2**32 - 1), st.sampled_from([socket.AF_INET, socket.AF_INET6])
    ),
)


@st.composite
def services(draw: st.DrawFn) -> KernelService:
    key = draw(keys)
    width = 128 if key.family == socket.AF_INET6 else 32
    scheduler = draw(st.sampled_from(["rr", "wrr", "sh", "mh", "lblcr"]))
    flags = draw(st.sets(st.sampled_from(["flag-1", "flag-2", "flag-3"])))
    timeout = draw(st.integers(0, 2**31))
    return KernelService(
        key,
        scheduler,
        canonical_flags(scheduler, flags),
        timeout,
        draw(st.integers(0, width)) if timeout else width,
        draw(st.booleans()),
        draw(st.sampled_from([None, "sip"])) if timeout else None,
    )


@st.composite
def rows(draw: st.DrawFn) -> Destination:
    forwarding = draw(st.sampled_from(Forwarding))
    tunnel = draw(
        st.none()
        | st.builds(Tunnel, st.sampled_from(TunnelType), ports, st.sampled_from(TunnelChecksum))
    )
    u31 = st.integers(0, 2**31 - 1)
    return Destination(
        draw(ipv4 | ipv6),
        draw(ports),
        forwarding,
        draw(u31),
        draw(u31),
        draw(u31),
        canonical_tunnel(forwarding, tunnel),
    )


@given(services())
def test_any_service_survives_the_way_there_and_back(service: KernelService) -> None:
    nest = codec.service_attributes(netlink.attributes(codec.encode_service(service)))
    assert codec.decode_service(nest) == service


@given(rows(), st.sampled_from([socket.AF_INET, socket.AF_INET6]))
def test_any_row_survives_the_way_there_and_back(
    row: Destination, family: socket.AddressFamily
) -> None:
    nest = codec.destination_attributes(netlink.attributes(codec.encode_destination(row)))
    assert codec.decode_destination(nest, family) == row


@given(st.dictionaries(st.integers(1, 15), st.binary(max_size=20)))
def test_any_attributes_give_a_value_or_the_codecs_own_error(attrs: dict[int, bytes]) -> None:
    for decode in (
        codec.decode_service,
        lambda a: codec.decode_destination(a, socket.AF_INET),
        lambda a: codec.decode_destination(a, socket.AF_INET6),
        lambda a: report.decode_counters(a, service=True),
        report.decode_destination_stats,
        report.decode_info,
        report.decode_timeouts,
        report.decode_family,
        codec.service_attributes,
        codec.destination_attributes,
    ):
        with contextlib.suppress(NetlinkFormatError):
            decode(attrs)


@given(services(), st.integers(0, 400), st.integers(0, 255))
def test_a_flipped_byte_gives_a_value_or_the_codecs_own_error(
    service: KernelService, place: int, value: int
) -> None:
    data = bytearray(codec.encode_service(service))
    data[place % len(data)] = value
    with contextlib.suppress(NetlinkFormatError):
        codec.decode_service(codec.service_attributes(netlink.attributes(bytes(data))))


# --------------------------------------------------------------------------- canonical forms


@pytest.mark.parametrize(
    ("scheduler", "flags", "expected"),
    [
        ("sh", ["flag-1", "sh-port"], ("sh-fallback", "sh-port")),
        ("sh", ["flag-3"], ()),
        ("mh", ["flag-2", "mh-fallback", "flag-1"], ("mh-fallback", "mh-port")),
        ("wrr", ["flag-3", "flag-1", "flag-1"], ("flag-1", "flag-3")),
        ("wrr", ["sh-fallback"], ("flag-1",)),
        ("rr", ["bogus"], ("bogus",)),
    ],
)
def test_one_spelling_of_flags(scheduler: str, flags: list[str], expected: tuple[str, ...]) -> None:
    assert canonical_flags(scheduler, flags) == expected


@pytest.mark.parametrize(
    ("forwarding", "tunnel", "expected"),
    [
        (Forwarding.MASQ, Tunnel(TunnelType.GUE, 9), None),
        (Forwarding.TUNNEL, Tunnel(), None),
        (Forwarding.TUNNEL, Tunnel(TunnelType.IPIP, 5, TunnelChecksum.REMOTE), None),
        (Forwarding.TUNNEL, Tunnel(TunnelType.GRE, 5), Tunnel(TunnelType.GRE)),
        (Forwarding.TUNNEL, Tunnel(TunnelType.GUE, 5), Tunnel(TunnelType.GUE, 5)),
    ],
)
def test_one_form_of_tunnels(
    forwarding: Forwarding, tunnel: Tunnel, expected: Tunnel | None
) -> None:
    assert canonical_tunnel(forwarding, tunnel) == expected
