"""What IPVS says about itself: its family's number, version, time-outs and counters."""

from __future__ import annotations

from dataclasses import dataclass

from lbhealth.drivers.base import DestinationStats
from lbhealth.drivers.ipvs_uapi import FAMILY_NAME, Dst, Svc, Top
from lbhealth.drivers.netlink import Attributes, attribute, integer
from lbhealth.drivers.netlink import attributes as parse

__all__ = [
    "Counters",
    "Info",
    "Timeouts",
    "decode_counters",
    "decode_destination_stats",
    "decode_family",
    "decode_info",
    "decode_timeouts",
    "encode_family_query",
]


@dataclass(frozen=True, slots=True)
class Counters:
    """The totals of a service or a row since it was made or zeroed."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Info:
    """IPVS version such as `1.2.1`, and the buckets of its connection table."""

    version: str
    buckets: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Connection time-outs in seconds: TCP established, TCP after FIN, UDP."""

    tcp: int
    tcp_fin: int
    udp: int


def encode_family_query(name: str = FAMILY_NAME) -> bytes:
    """Ask nlctrl for a family (CTRL_ATTR_FAMILY_NAME)."""
    return attribute(2, name.encode() + b"\0")


def decode_family(attrs: Attributes) -> int:
    """The number of a generic netlink family (CTRL_ATTR_FAMILY_ID)."""
    return integer(attrs, 1, 2)


def decode_info(attrs: Attributes) -> Info:
    """The answer to GET_INFO, whose attributes stand at the top level."""
    number = integer(attrs, Top.INFO_VERSION, 4)
    version = f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Info(version, integer(attrs, Top.INFO_BUCKETS, 4))


def decode_timeouts(attrs: Attributes) -> Timeouts:
    """The answer to GET_CONFIG."""
    return Timeouts(
        tcp=integer(attrs, Top.TIMEOUT_TCP, 4),
        tcp_fin=integer(attrs, Top.TIMEOUT_TCP_FIN, 4),
        udp=integer(attrs, Top.TIMEOUT_UDP, 4),
    )


def decode_counters(nest: Attributes, *, service: bool) -> Counters:
    """The totals in a service or destination nest: STATS64, or STATS of kernels before 4.1.

    Attributes 1..5 are connections, packets in and out, bytes in and out; the byte counts
    have 64 bits in both.
    """
    wide = parse(nest.get(Svc.STATS64 if service else Dst.STATS64, b""))
    if wide:
        return Counters(*(integer(wide, n, 8, default=0) for n in range(1, 6)))
    narrow = parse(nest.get(Svc.STATS if service else Dst.STATS, b""))
    return Counters(*(integer(narrow, n, 4 if n < 4 else 8, default=0) for n in range(1, 6)))


def decode_destination_stats(dst: Attributes) -> DestinationStats:
    """The counters of a row, with its current connections by kind."""
    counters = decode_counters(dst, service=False)
    return DestinationStats(
        active=integer(dst, Dst.ACTIVE_CONNS, 4, default=0),
        inactive=integer(dst, Dst.INACT_CONNS, 4, default=0),
        persistent=integer(dst, Dst.PERSIST_CONNS, 4, default=0),
        connections=counters.connections,
        packets_in=counters.packets_in,
        packets_out=counters.packets_out,
        bytes_in=counters.bytes_in,
        bytes_out=counters.bytes_out,
    )
