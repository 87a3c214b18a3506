"""The generic netlink family IPVS: operations to bytes, dumps to values.

Every layout is that of net/netfilter/ipvs/ip_vs_ctl.c (the ip_vs_*_policy tables and
ip_vs_genl_fill_*) and include/uapi/linux/ip_vs.h.  Numbers are in the CPU's byte order,
except ports, IPv4 netmasks and the tunnel port, which are in network order.

What the kernel can tell apart but nobody can configure is brought to one form here, so that
the difference of a dump and a configuration converges: see `decode_service` and
`decode_destination`.
"""

from __future__ import annotations

import functools
import socket
import struct
from typing import Final

from lbhealth.drivers.ipvs_uapi import (
    FLAG_ONE_PACKET,
    FLAG_PERSISTENT,
    FLAG_SCHEDULER,
    FORWARD_MASK,
    Dst,
    Svc,
    Top,
)
from lbhealth.drivers.netlink import Attributes, NetlinkFormatError, attribute, integer, text
from lbhealth.drivers.netlink import attributes as parse
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    ServiceKey,
    TransportProtocol,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    canonical_address,
)
from lbhealth.plan import Op, OpKind
from lbhealth.policy import SCHEDULER_FLAGS, canonical_flags, canonical_tunnel

__all__ = [
    "decode_destination",
    "decode_service",
    "destination_attributes",
    "encode_destination",
    "encode_key",
    "encode_op",
    "encode_service",
    "service_attributes",
]

NOT_A_PREFIX: Final = -1
"""Stands for an IPv4 netmask with holes, which no configuration can ask for."""

_PROTOCOLS: Final = {
    TransportProtocol.TCP: socket.IPPROTO_TCP,
    TransportProtocol.UDP: socket.IPPROTO_UDP,
    TransportProtocol.SCTP: socket.IPPROTO_SCTP,
}
_PROTOCOL_OF: Final = {int(number): protocol for protocol, number in _PROTOCOLS.items()}

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=II")


# --------------------------------------------------------------------------- values to bytes


@functools.lru_cache(maxsize=4096)
def _key_attributes(key: ServiceKey) -> bytes:
    family = attribute(Svc.AF, _U16.pack(key.family))
    if isinstance(key, FwmarkKey):
        return family + attribute(Svc.FWMARK, _U32.pack(key.mark))
    return (
        family
        + attribute(Svc.PROTOCOL, _U16.pack(_PROTOCOLS[key.protocol]))
        + attribute(Svc.ADDR, _pack_address(key.address))
        + attribute(Svc.PORT, key.port.to_bytes(2, "big"))
    )


@functools.lru_cache(maxsize=4096)
def encode_key(key: ServiceKey) -> bytes:
    """The service nest that names a service.

    The key is {family, protocol, address, port}, or {family, mark}.
    """
    return attribute(Top.SERVICE, _key_attributes(key))


def encode_service(service: KernelService) -> bytes:
    """The service nest in full.

    A time-out of 0 means not persistent; the kernel wants a netmask even then.  The flags
    mask is all ones, so that the service holds exactly what it is given.
    """
    flags = 0
    for name in service.flags:
        number = SCHEDULER_FLAGS.get(name)
        if number is None:
            raise NetlinkFormatError(f"unknown scheduler flag {name!r}")
        flags |= FLAG_SCHEDULER << number
    if service.one_packet:
        flags |= FLAG_ONE_PACKET
    width = _width(service.key)
    netmask = width
    if service.timeout:
        flags |= FLAG_PERSISTENT
        netmask = service.netmask
    if width == 32:  # a mask in network order, else a prefix length in the CPU's
        mask = ((1 << netmask) - 1 << 32 - netmask).to_bytes(4, "big")
    else:
        mask = _U32.pack(netmask)
    engine = b""
    if service.engine and service.timeout:
        engine = attribute(Svc.PE_NAME, service.engine.encode() + b"\0")
    return attribute(
        Top.SERVICE,
        _key_attributes(service.key)
        + attribute(Svc.SCHED_NAME, service.scheduler.encode() + b"\0")
        + engine
        + attribute(Svc.FLAGS, _U64.pack(flags, 0xFFFFFFFF))
        + attribute(Svc.TIMEOUT, _U32.pack(service.timeout))
        + attribute(Svc.NETMASK, mask),
    )


def encode_destination(destination: Destination) -> bytes:
    """The destination nest in full: the kernel's edit replaces every setting of the row."""
    tunnel = destination.tunnel or Tunnel()
    return attribute(
        Top.DEST,
        _destination_key(destination)
        + attribute(Dst.FWD_METHOD, _U32.pack(destination.forwarding))
        + attribute(Dst.WEIGHT, _U32.pack(destination.weight))
        + attribute(Dst.U_THRESH, _U32.pack(destination.upper))
        + attribute(Dst.L_THRESH, _U32.pack(destination.lower))
        + attribute(Dst.TUN_TYPE, tunnel.type.to_bytes(1, "big"))
        + attribute(Dst.TUN_PORT, tunnel.port.to_bytes(2, "big"))
        + attribute(Dst.TUN_FLAGS, _U16.pack(tunnel.checksum)),
    )


def encode_op(op: Op) -> bytes:
    """The attributes of an operation, the same for its NEW and its SET command.

    Raises NetlinkFormatError for a value that does not fit its field.
    """
    try:
        if op.kind is OpKind.DELETE_SERVICE:
            return encode_key(op.service.key)
        if op.destination is None:
            return encode_service(op.service)
        if op.kind is OpKind.DELETE_DESTINATION:
            row = attribute(Top.DEST, _destination_key(op.destination))
        else:
            row = encode_destination(op.destination)
        return encode_key(op.service.key) + row
    except (ValueError, OverflowError, OSError, struct.error) as error:
        raise NetlinkFormatError(f"cannot be said to the kernel: {error}") from error


def _destination_key(destination: Destination) -> bytes:
    family = socket.AF_INET6 if ":" in destination.address else socket.AF_INET
    return (
        attribute(Dst.ADDR, _pack_address(destination.address))
        + attribute(Dst.PORT, destination.port.to_bytes(2, "big"))
        + attribute(Dst.ADDR_FAMILY, _U16.pack(family))
    )


@functools.lru_cache(maxsize=65536)
def _pack_address(address: str) -> bytes:
    """A 16-byte union nf_inet_addr: IPv4 in the first four bytes, the rest zero."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return socket.inet_pton(socket.AF_INET, address) + bytes(12)


def _width(key: ServiceKey) -> int:
    return 128 if key.family == socket.AF_INET6 else 32


# --------------------------------------------------------------------------- bytes to values


def service_attributes(attrs: Attributes) -> dict[int, bytes]:
    """The service nest of a message."""
    return parse(attrs.get(Top.SERVICE, b""))


def destination_attributes(attrs: Attributes) -> dict[int, bytes]:
    """The destination nest of a message."""
    return parse(attrs.get(Top.DEST, b""))


def decode_service(svc: Attributes) -> KernelService | None:
    """Read a service nest; None for a protocol that lbhealth does not know.

    HASHED (0x2) is the kernel's own flag.  Without PERSISTENT the stored time-out, netmask
    and persistence engine have no effect and are brought to their defaults.
    """
    key = _decode_key(svc)
    if key is None:
        return None
    scheduler = text(svc.get(Svc.SCHED_NAME, b""))
    flags = integer({0: svc.get(Svc.FLAGS, b"")[:4]}, 0, 4)
    names = [f"flag-{n}" for n in (1, 2, 3) if flags & FLAG_SCHEDULER << n]
    timeout = integer(svc, Svc.TIMEOUT, 4) if flags & FLAG_PERSISTENT else 0
    netmask = _width(key)
    if timeout and netmask == 128:
        netmask = integer(svc, Svc.NETMASK, 4)
    elif timeout:
        netmask = _prefix_length(integer(svc, Svc.NETMASK, 4, order="big"))
    return KernelService(
        key=key,
        scheduler=scheduler,
        flags=canonical_flags(scheduler, names),
        timeout=timeout,
        netmask=netmask,
        one_packet=bool(flags & FLAG_ONE_PACKET),
        engine=text(svc.get(Svc.PE_NAME, b"")) or None if timeout else None,
    )


def _decode_key(svc: Attributes) -> ServiceKey | None:
    family = _family(integer(svc, Svc.AF, 2))
    if Svc.FWMARK in svc:
        return FwmarkKey(integer(svc, Svc.FWMARK, 4), family)
    protocol = _PROTOCOL_OF.get(integer(svc, Svc.PROTOCOL, 2))
    if protocol is None:
        return None
    address = _unpack_address(svc.get(Svc.ADDR, b""), family)
    return InetKey(protocol, address, integer(svc, Svc.PORT, 2, order="big"))


def decode_destination(dst: Attributes, family: socket.AddressFamily) -> Destination:
    """Read a destination nest of a service of this address family.

    A forwarding method or encapsulation that lbhealth does not know becomes one that no
    configuration can ask for (LOCAL; GUE without a port), so that it compares unequal.
    LOCAL itself is stored by no kernel since 2.6.37: a row whose address is the director's
    own keeps the method that it was given and is delivered locally all the same.
    """
    number = integer(dst, Dst.ADDR_FAMILY, 2, default=0)
    address = _unpack_address(dst.get(Dst.ADDR, b""), _family(number) if number else family)
    method = integer(dst, Dst.FWD_METHOD, 4) & FORWARD_MASK
    forwarding = Forwarding(method) if method <= Forwarding.ROUTE else Forwarding.LOCAL
    return Destination(
        address=address,
        port=integer(dst, Dst.PORT, 2, order="big"),
        forwarding=forwarding,
        weight=integer(dst, Dst.WEIGHT, 4),
        upper=integer(dst, Dst.U_THRESH, 4),
        lower=integer(dst, Dst.L_THRESH, 4),
        tunnel=_decode_tunnel(dst) if forwarding is Forwarding.TUNNEL else None,
    )


def _decode_tunnel(dst: Attributes) -> Tunnel | None:
    kind = integer(dst, Dst.TUN_TYPE, 1, default=0)
    if kind > TunnelType.GRE:
        return Tunnel(TunnelType.GUE)
    flags = integer(dst, Dst.TUN_FLAGS, 2, default=0)
    checksum = TunnelChecksum.NONE
    if flags & TunnelChecksum.REMOTE:
        checksum = TunnelChecksum.REMOTE
    elif flags & TunnelChecksum.CHECKSUM:
        checksum = TunnelChecksum.CHECKSUM
    port = integer(dst, Dst.TUN_PORT, 2, default=0, order="big")
    return canonical_tunnel(Forwarding.TUNNEL, Tunnel(TunnelType(kind), port, checksum))


def _family(number: int) -> socket.AddressFamily:
    if number == socket.AF_INET:
        return socket.AF_INET
    if number == socket.AF_INET6:
        return socket.AF_INET6
    raise NetlinkFormatError(f"address family {number} in an IPVS message")


@functools.lru_cache(maxsize=65536)
def _unpack_address(data: bytes, family: socket.AddressFamily) -> str:
    size = 4 if family == socket.AF_INET else 16
    if len(data) < size:
        raise NetlinkFormatError(f"address of {len(data)} bytes in an IPVS message")
    address = socket.inet_ntop(family, data[:size])
    return canonical_address(address) if size == 16 else address


def _prefix_length(mask: int) -> int:
    length = mask.bit_count()
    return length if mask == (1 << length) - 1 << 32 - length else NOT_A_PREFIX
