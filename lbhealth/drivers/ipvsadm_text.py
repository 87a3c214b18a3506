"""ipvsadm's two languages, without I/O: its arguments and its listings (versions 1.26 to 1.31).

Listings are split on blanks, never by column, and their columns are known by the names in
the title lines, which differ by option:

* `-L -n`: service line `TCP  192.0.2.10:80 wrr (flags) persistent 300 mask 255.255.255.0
  pe sip ops`, row `-> 10.0.0.1:80 Masq 1 0 0`;
* `--thresholds`, `--stats`, `--persistent-conn`: other numbers, titles on the first line.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from lbhealth.drivers.ipvs_codec import NOT_A_PREFIX
from lbhealth.drivers.verbs import Verb, first_verb
from lbhealth.errors import DriverError
from lbhealth.model import (
    Destination,
    DestinationKey,
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
    host_port,
)
from lbhealth.plan import Op
from lbhealth.policy import canonical_flags, canonical_tunnel

__all__ = ["Listing", "count", "read_destination", "read_service", "to_arguments", "to_line"]

# --------------------------------------------------------------------------- writing

_COMMANDS: Final = {
    Verb.NEW_SERVICE: "-A",
    Verb.SET_SERVICE: "-E",
    Verb.DEL_SERVICE: "-D",
    Verb.NEW_DEST: "-a",
    Verb.SET_DEST: "-e",
    Verb.DEL_DEST: "-d",
}
_SERVICE_OPTIONS: Final = {
    TransportProtocol.TCP: "-t",
    TransportProtocol.UDP: "-u",
    TransportProtocol.SCTP: "--sctp-service",
}
_METHODS: Final = {
    Forwarding.MASQ: "-m",
    # ipvsadm cannot say LOCAL; a row with the director's own address is local all the same
    Forwarding.LOCAL: "-g",
    Forwarding.TUNNEL: "-i",
    Forwarding.ROUTE: "-g",
}
_CHECKSUMS: Final = {
    TunnelChecksum.NONE: "--tun-nocsum",
    TunnelChecksum.CHECKSUM: "--tun-csum",
    TunnelChecksum.REMOTE: "--tun-remcsum",
}


def to_line(op: Op) -> str:
    """The operation as an operator would type it."""
    return " ".join(["ipvsadm", *to_arguments(op)])


def to_arguments(op: Op, verb: Verb | None = None) -> list[str]:
    """Ipvsadm's arguments for an operation, under another command if `verb` says so.

    Method, weight and thresholds are always there: what an edit leaves out is reset to
    route, 1 and none.  Raises DriverError for what ipvsadm has no words for.
    """
    verb = first_verb(op) if verb is None else verb
    arguments = [_COMMANDS[verb], *_service_key(op.service.key)]
    if verb in (Verb.NEW_SERVICE, Verb.SET_SERVICE):
        arguments += _service_options(op.service)
    elif op.destination is not None:
        arguments += ["-r", op.destination.name]
        if verb is not Verb.DEL_DEST:
            arguments += _destination_options(op.service.key, op.destination)
    for argument in arguments:
        if not argument.isprintable() or " " in argument:
            raise DriverError(f"{argument!r} cannot be passed to ipvsadm")
    return arguments


def _service_key(key: ServiceKey) -> list[str]:
    if isinstance(key, FwmarkKey):
        return ["-f", str(key.mark), *(["-6"] if key.family == socket.AF_INET6 else [])]
    return [_SERVICE_OPTIONS[key.protocol], host_port(key.address, key.port)]


def _service_options(service: KernelService) -> Iterator[str]:
    yield from ("-s", service.scheduler)
    if service.timeout:
        yield from ("-p", str(service.timeout))
        if service.key.family == socket.AF_INET6:
            if service.netmask != 128:
                yield from ("-M", str(service.netmask))
        elif service.netmask != 32:
            yield from ("-M", str(ipaddress.ip_network(f"0.0.0.0/{service.netmask}").netmask))
        if service.engine:
            yield from ("--pe", service.engine)
    if service.one_packet:
        yield "-o"
    if service.flags:
        yield from ("-b", ",".join(service.flags))


def _destination_options(key: ServiceKey, row: Destination) -> Iterator[str]:
    if (
        isinstance(key, InetKey)
        and row.port != key.port
        and row.forwarding in (Forwarding.ROUTE, Forwarding.TUNNEL)
    ):
        raise DriverError(f"ipvsadm cannot set port {row.port}: it forces that of the service")
    yield _METHODS[row.forwarding]
    yield from ("-w", str(row.weight), "-x", str(row.upper), "-y", str(row.lower))
    tunnel = canonical_tunnel(row.forwarding, row.tunnel)
    if tunnel is not None:
        yield from ("--tun-type", tunnel.type.name.lower())
        if tunnel.type is TunnelType.GUE:
            yield from ("--tun-port", str(tunnel.port))
        yield _CHECKSUMS[tunnel.checksum]


# --------------------------------------------------------------------------- reading

_FORWARDING: Final = {
    "Masq": Forwarding.MASQ,
    "Local": Forwarding.LOCAL,
    "Tunnel": Forwarding.TUNNEL,
    "Route": Forwarding.ROUTE,
}
_SUFFIXES: Final = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Listing:
    """One listing, line by line.

    `version` is what its first line says of IPVS, `services` the words after each service's
    name, `rows` the cells of each row by column title.
    """

    def __init__(self) -> None:
        self.version = ""
        self.services: dict[ServiceKey, list[str]] = {}
        self.rows: dict[ServiceKey, dict[DestinationKey, Mapping[str, str]]] = {}
        self.columns: list[str] = []
        self._rows: dict[DestinationKey, Mapping[str, str]] | None = None

    def feed(self, lines: Iterable[str]) -> None:
        """Take some more lines; DriverError for one that cannot be read."""
        for line in lines:
            words = line.split()
            if not words:
                continue
            try:
                self._take(words)
            except (ValueError, IndexError) as error:
                raise DriverError(f"cannot read this line of ipvsadm: {line!r}") from error

    def _take(self, words: list[str]) -> None:
        if words[0] == "->":
            if words[1] == "RemoteAddress:Port":
                self.columns = words[2:] or self.columns
            elif self._rows is not None:
                cells = dict(zip(self.columns, words[2:], strict=False))
                self._rows[_host_port(words[1])] = cells
        elif words[0] == "Prot":
            self.columns = words[2:]
        elif self.columns:
            self._service(words)
        elif words[:4] == ["IP", "Virtual", "Server", "version"]:
            self.version = " ".join(words[4:])

    def _service(self, words: list[str]) -> None:
        self._rows = None
        key: ServiceKey
        if words[0] == "FWM":
            mark = int(words[1]) & 0xFFFFFFFF  # ipvsadm prints it as a signed number
            ipv6 = words[2:3] == ["IPv6"]
            key = FwmarkKey(mark, socket.AF_INET6 if ipv6 else socket.AF_INET)
            rest = words[3 if ipv6 else 2 :]
        elif words[0].lower() in tuple(TransportProtocol):
            key = InetKey(TransportProtocol(words[0].lower()), *_host_port(words[1]))
            rest = words[2:]
        else:
            return  # a protocol that lbhealth does not know: not ours
        self.services[key] = rest
        self._rows = self.rows.setdefault(key, {})


def read_service(key: ServiceKey, words: Sequence[str]) -> KernelService:
    """A service from the words after its name, in whatever order they come.

    A netmask with holes, which no configuration can ask for, becomes NOT_A_PREFIX.
    """
    flags: list[str] = []
    timeout, mask, engine = 0, "", None
    for word, following in pairwise([*words, ""]):
        if word.startswith("("):
            flags = word.strip("()").split(",")
        elif word == "persistent":
            timeout = count(following)
        elif word == "mask":
            mask = following
        elif word == "pe":
            engine = following
    scheduler = words[0] if words else ""
    return KernelService(
        key=key,
        scheduler=scheduler,
        flags=canonical_flags(scheduler, flags),
        timeout=timeout,
        netmask=_netmask(key, mask if timeout else ""),
        one_packet="ops" in words[1:],
        engine=engine if timeout else None,
    )


def read_destination(
    key: DestinationKey,
    cells: Mapping[str, str],
    thresholds: Mapping[str, str],
    tunnel: Mapping[str, str],
) -> Destination:
    """A row from its cells in three listings; an unknown method reads as LOCAL."""
    forwarding = _FORWARDING.get(cells.get("Forward", ""), Forwarding.LOCAL)
    return Destination(
        address=key[0],
        port=key[1],
        forwarding=forwarding,
        weight=count(cells.get("Weight", "0")),
        upper=count(thresholds.get("Uthreshold", "0")),
        lower=count(thresholds.get("Lthreshold", "0")),
        tunnel=_tunnel(forwarding, tunnel.get("TunnelInfo", "")),
    )


def count(text: str) -> int:
    """A number of a listing; without --exact large ones are cut to thousands, millions, ..."""
    factor = _SUFFIXES.get(text[-1:], 1)
    try:
        return int(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        raise DriverError(f"cannot read this number of ipvsadm: {text!r}") from None


def _tunnel(forwarding: Forwarding, text: str) -> Tunnel | None:
    """Read `gue:6080:+c`, `gre:-c` or `ipip`; +c is a checksum, r+c a remote one."""
    name, *more = text.split(":")
    if forwarding is not Forwarding.TUNNEL or name not in ("gue", "gre"):
        return None
    port = next((int(part) for part in more if part.isdecimal()), 0)
    checksum = TunnelChecksum.NONE
    if "r+c" in more:
        checksum = TunnelChecksum.REMOTE
    elif "+c" in more:
        checksum = TunnelChecksum.CHECKSUM
    return canonical_tunnel(forwarding, Tunnel(TunnelType[name.upper()], port, checksum))


def _netmask(key: ServiceKey, text: str) -> int:
    if key.family == socket.AF_INET6:
        return count(text) if text else 128
    if not text:
        return 32
    try:
        mask = int(ipaddress.IPv4Address(text))
    except ValueError:
        raise DriverError(f"cannot read this netmask of ipvsadm: {text!r}") from None
    length = mask.bit_count()
    return length if mask == (1 << length) - 1 << 32 - length else NOT_A_PREFIX


@lru_cache(maxsize=65536)
def _host_port(text: str) -> DestinationKey:
    host, _, port = text.rpartition(":")
    return canonical_address(host.strip("[]")), int(port)
