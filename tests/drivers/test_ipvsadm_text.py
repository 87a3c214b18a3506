"""ipvsadm's arguments and listings, as 1.31 takes and prints them."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.drivers.ipvsadm import to_arguments, to_line
from lbhealth.drivers.ipvsadm_text import Listing, count, read_destination, read_service
from lbhealth.drivers.verbs import Verb
from lbhealth.errors import DriverError
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

TCP, UDP, SCTP = TransportProtocol
WEB = KernelService(InetKey(TCP, "192.0.2.10", 80), "wrr")
SIX = KernelService(InetKey(TCP, "2001:db8::10", 443), "sh", ("sh-fallback", "sh-port"), 60, 64)
MARK = KernelService(FwmarkKey(5), "rr")
MARK6 = KernelService(FwmarkKey(5, socket.AF_INET6), "rr", netmask=128)
MASQ, TUNNEL, ROUTE = Forwarding.MASQ, Forwarding.TUNNEL, Forwarding.ROUTE
ROW = Destination("10.0.0.1", 80, MASQ, 3)


@pytest.mark.parametrize(
    ("op", "line"),
    [
        (Op(OpKind.ADD_SERVICE, WEB), "-A -t 192.0.2.10:80 -s wrr"),
        (
            Op(OpKind.EDIT_SERVICE, SIX),
            "-E -t [2001:db8::10]:443 -s sh -p 60 -M 64 -b sh-fallback,sh-port",
        ),
        (
            Op(
                OpKind.ADD_SERVICE,
                KernelService(
                    InetKey(UDP, "192.0.2.10", 5060), "rr", ("flag-1",), 300, 24, True, "sip"
                ),
            ),
            "-A -u 192.0.2.10:5060 -s rr -p 300 -M 255.255.255.0 --pe sip -o -b flag-1",
        ),
        (
            Op(OpKind.ADD_SERVICE, KernelService(InetKey(SCTP, "192.0.2.10", 9), "lc", (), 9)),
            "-A --sctp-service 192.0.2.10:9 -s lc -p 9",
        ),
        (Op(OpKind.ADD_SERVICE, MARK6), "-A -f 5 -6 -s rr"),
        (Op(OpKind.DELETE_SERVICE, MARK), "-D -f 5"),
        (
            Op(OpKind.RAISE_DESTINATION, WEB, ROW),
            "-e -t 192.0.2.10:80 -r 10.0.0.1:80 -m -w 3 -x 0 -y 0",
        ),
        (
            Op(OpKind.ADD_DESTINATION, WEB, Destination("10.0.0.1", 80, ROUTE, 0, 100, 50)),
            "-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 0 -x 100 -y 50",
        ),
        (
            Op(OpKind.ADD_DESTINATION, MARK6, Destination("2001:db8::1", 0, TUNNEL, 1)),
            "-a -f 5 -6 -r [2001:db8::1]:0 -i -w 1 -x 0 -y 0",
        ),
        (
            Op(
                OpKind.LOWER_DESTINATION,
                WEB,
                Destination(
                    "10.0.0.1",
                    80,
                    TUNNEL,
                    1,
                    tunnel=Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE),
                ),
            ),
            "-e -t 192.0.2.10:80 -r 10.0.0.1:80 -i -w 1 -x 0 -y 0"
            " --tun-type gue --tun-port 6080 --tun-remcsum",
        ),
        (
            Op(
                OpKind.ADD_DESTINATION,
                WEB,
                Destination("10.0.0.1", 80, TUNNEL, 1, tunnel=Tunnel(TunnelType.GRE)),
            ),
            "-a -t 192.0.2.10:80 -r 10.0.0.1:80 -i -w 1 -x 0 -y 0 --tun-type gre --tun-nocsum",
        ),
        (Op(OpKind.DELETE_DESTINATION, WEB, ROW), "-d -t 192.0.2.10:80 -r 10.0.0.1:80"),
    ],
)
def test_operations_as_lines(op: Op, line: str) -> None:
    assert to_line(op) == f"ipvsadm {line}"
    assert to_arguments(op) == line.split()


def test_an_operation_under_another_command() -> None:
    op = Op(OpKind.ADD_DESTINATION, WEB, ROW)
    assert to_arguments(op, Verb.SET_DEST)[0] == "-e"
    assert to_arguments(op, Verb.DEL_DEST) == ["-d", "-t", "192.0.2.10:80", "-r", "10.0.0.1:80"]


@pytest.mark.parametrize("scheduler", ["rr\n-C", "rr -C", "rr\0"])
def test_nothing_can_be_smuggled_into_a_line(scheduler: str) -> None:
    with pytest.raises(DriverError, match="cannot be passed"):
        to_line(Op(OpKind.ADD_SERVICE, KernelService(WEB.key, scheduler)))


@pytest.mark.parametrize("method", [ROUTE, TUNNEL])
def test_ipvsadm_would_change_the_port_behind_our_back(method: Forwarding) -> None:
    row = Destination("10.0.0.1", 81, method, 1)
    with pytest.raises(DriverError, match="port 81"):
        to_line(Op(OpKind.ADD_DESTINATION, WEB, row))
    to_line(Op(OpKind.DELETE_DESTINATION, WEB, row))
    to_line(Op(OpKind.ADD_DESTINATION, MARK, row))


FULL = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
FWM  -1 rr
  -> 10.0.0.1:0                   Route   1      0          0
TCP  192.0.2.10:80 wrr persistent 300 mask 255.255.255.0
  -> 10.0.0.1:80                  Masq    3      12         34
  -> 10.0.0.2:80                  Tunnel  65536  0          0
  -> [2001:db8::5]:80             Tunnel  3      0          0
  -> 127.0.0.1:80                 Local   1      0          0
UDP  192.0.2.10:5061 rr (flag-1,flag-3) persistent 60 mask 255.255.0.0 pe sip ops
UDP  192.0.2.10:53 rr ops
SCTP 192.0.2.10:99 lc
AH   192.0.2.10:99 lc
  -> 10.0.0.9:80                  Masq    3      12         34
TCP  [2001:db8::1]:80 sh (sh-fallback,sh-port) persistent 60 mask 64
FWM  5 IPv6 rr (flag-2)
  -> [2001:db8::7]:0              Route   1      0          0
"""
THRESHOLDS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn
  -> RemoteAddress:Port
TCP  192.0.2.10:80 wrr persistent 300 mask 255.255.255.0
  -> 10.0.0.1:80                  100        50         0          0
"""
TUNNELS = """\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  192.0.2.10:80 wrr
  -> 10.0.0.1:80                  Masq    n/a           3      0          0
  -> 10.0.0.2:80                  Tunnel  gue:6080:r+c  3      0          0
"""
STATS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
FWM  5 IPv6                              1        2        3        4        5
  -> 10.0.0.1:0                          6        7        8        9      10K
"""


def listing(text: str) -> Listing:
    made = Listing()
    made.feed(text.splitlines())
    return made


def test_services_of_a_listing() -> None:
    found = listing(FULL)
    assert found.version == "1.2.1 (size=4096)"
    assert [read_service(key, words) for key, words in found.services.items()] == [
        KernelService(FwmarkKey(2**32 - 1), "rr"),
        KernelService(WEB.key, "wrr", (), 300, 24),
        KernelService(
            InetKey(UDP, "192.0.2.10", 5061), "rr", ("flag-1", "flag-3"), 60, 16, True, "sip"
        ),
        KernelService(InetKey(UDP, "192.0.2.10", 53), "rr", one_packet=True),
        KernelService(InetKey(SCTP, "192.0.2.10", 99), "lc"),
        KernelService(InetKey(TCP, "2001:db8::1", 80), "sh", ("sh-fallback", "sh-port"), 60, 64),
        KernelService(FwmarkKey(5, socket.AF_INET6), "rr", ("flag-2",), netmask=128),
    ]


def test_rows_of_three_listings() -> None:
    found = listing(FULL).rows[WEB.key]
    upper = listing(THRESHOLDS).rows[WEB.key]
    tunnels = listing(TUNNELS).rows[WEB.key]
    rows = [
        read_destination(key, cells, upper.get(key, {}), tunnels.get(key, {}))
        for key, cells in found.items()
    ]
    assert rows == [
        Destination("10.0.0.1", 80, MASQ, 3, 100, 50),
        Destination(
            "10.0.0.2",
            80,
            TUNNEL,
            65536,
            tunnel=Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE),
        ),
        Destination("2001:db8::5", 80, TUNNEL, 3),
        Destination("127.0.0.1", 80, Forwarding.LOCAL, 1),
    ]


def test_numbers_of_a_statistics_listing() -> None:
    found = listing(STATS)
    key = FwmarkKey(5, socket.AF_INET6)
    assert dict(zip(found.columns, found.services[key], strict=True))["OutBytes"] == "5"
    assert found.rows[key][("10.0.0.1", 0)]["OutBytes"] == "10K"


@pytest.mark.parametrize(
    ("words", "flags", "one_packet"),
    [
        (["rr", "persistent", "9", "ops", "(flag-1)"], ("flag-1",), True),
        (["sh", "(flag-1,flag-2)"], ("sh-fallback", "sh-port"), False),
        (["ops"], (), False),
    ],
)
def test_the_order_of_words_does_not_matter(
    words: list[str], flags: tuple[str, ...], one_packet: bool
) -> None:
    service = read_service(WEB.key, words)
    assert (service.flags, service.one_packet) == (flags, one_packet)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("4294967296", 2**32), ("12K", 12_000), ("3T", 3 * 10**12)]
)
def test_numbers(text: str, number: int) -> None:
    assert count(text) == number


@pytest.mark.parametrize(
    "line",
    ["TCP  nonsense wrr", "TCP", "FWM  x rr", "TCP  192.0.2.10 wrr", "  -> 10.0.0.1", "  ->"],
)
def test_lines_that_cannot_be_read(line: str) -> None:
    with pytest.raises(DriverError, match="cannot read"):
        listing(FULL + line)


@pytest.mark.parametrize(
    "words", [["rr", "persistent", "x"], ["rr", "persistent", "9", "mask", "y"]]
)
def test_services_that_cannot_be_read(words: list[str]) -> None:
    with pytest.raises(DriverError, match="cannot read"):
        read_service(WEB.key, words)


def test_a_netmask_with_holes_equals_no_configured_one() -> None:
    service = read_service(WEB.key, ["rr", "persistent", "9", "mask", "255.0.255.0"])
    assert service.netmask == -1


@given(st.lists(st.text(alphabet=" \t->TCPFWM[]:.0123456789abcK()\u0663", max_size=40)))
def test_any_text_gives_a_listing_or_a_driver_error(lines: list[str]) -> None:
    made = Listing()
    try:
        made.feed([*FULL.splitlines(), *lines])
        for key, words in made.services.items():
            read_service(key, words)
            for row, cells in made.rows[key].items():
                read_destination(row, cells, cells, {"TunnelInfo": "gue:" + "".join(lines)})
    except DriverError:
        return
