"""The structure of a TOML configuration: every table, its keys, their types and defaults.

Models say what one table may hold; they resolve no names and compare no tables.  Values that
have a notation of their own (durations, shares, addresses) are read by `tomlvalues`.
Lists of tables are `Any` here and validated one by one, so that a bad server does not hide
what is wrong with the next.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from lbhealth.config.tomlvalues import (
    agentx_address,
    duration,
    listed,
    member,
    number,
    share,
    whole,
)

__all__ = [
    "CheckTable",
    "Director",
    "FallbackTable",
    "Feedback",
    "File",
    "HybridTable",
    "Ipvs",
    "Negotiate",
    "PersistenceTable",
    "RealTable",
    "Snmp",
    "Table",
    "Timing",
    "TunnelTable",
    "VirtualTable",
]

DAY = 86400.0
MIN_INTERVAL = 0.05
"""Seconds; one slot of the timer wheel, nothing can run more often."""
MAX_MARK = 2**32 - 1

ForwardingWord: TypeAlias = Literal["masq", "route", "tunnel"]
Interval: TypeAlias = Annotated[float, BeforeValidator(duration(MIN_INTERVAL, DAY))]
Timeout: TypeAlias = Annotated[float, BeforeValidator(duration(0.001, DAY))]
Delay: TypeAlias = Annotated[float, BeforeValidator(duration(0.0, DAY))]
Seconds: TypeAlias = Annotated[float, BeforeValidator(duration(1.0, 31 * DAY, whole_seconds=True))]
Count: TypeAlias = Annotated[int, BeforeValidator(whole(1, 100))]
Port: TypeAlias = Annotated[int, BeforeValidator(whole(1, 65535))]
Mark: TypeAlias = Annotated[int, BeforeValidator(whole(1, MAX_MARK))]
Small: TypeAlias = Annotated[int, BeforeValidator(whole(0, 65535))]
Percent: TypeAlias = Annotated[float, BeforeValidator(number(0.0, 100.0))]
Share: TypeAlias = Annotated[float, BeforeValidator(share)]


class Table(BaseModel):
    """A TOML table: no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Director(Table):
    """`[director]`: the director itself."""

    resync: Annotated[float, BeforeValidator(duration(0.1, DAY))] = 10.0
    clean_stop: bool = False
    prune: bool = False


class Ipvs(Table):
    """`[ipvs]`: what is done about the kernel's settings."""

    sysctls: Literal["report", "manage"] = "report"


class Snmp(Table):
    """`[snmp]`: where the AgentX master listens."""

    agentx: Annotated[str, BeforeValidator(agentx_address)] = "unix:/var/agentx/master"


class File(Table):
    """The whole document."""

    director: Director = Director()
    ipvs: Ipvs | None = None
    snmp: Snmp | None = None
    virtual: Annotated[list[Any], BeforeValidator(listed("virtual"))] = []


class PersistenceTable(Table):
    """`persistence = { … }` of a virtual service; `netmask` is dotted, or a prefix length."""

    timeout: Seconds
    netmask: str | int | None = None
    engine: Literal["sip"] | None = None


class FallbackTable(Table):
    """`fallback = { … }`: forwarding None means that of the virtual service."""

    address: str
    forwarding: ForwardingWord | None = None


class Feedback(Table):
    """`[virtual.feedback]`: how the load of the servers is asked for."""

    type: Literal["agent", "http"] = "agent"
    port: Port = 3333
    interval: Interval = 10.0
    timeout: Timeout = 2.0
    formula: Literal["appliance", "percent", "kemp"] = "appliance"
    apply_every: Delay = 2.0
    stale_after: Delay = 30.0
    smoothing: Delay = 30.0
    dead_band: Percent = 0.0
    max_step: Percent = 0.0
    quantise: Percent = 0.0


class VirtualTable(Table):
    """`[[virtual]]`: one virtual service."""

    name: str = ""
    listen: str | None = None
    fwmark: Mark | None = None
    family: Literal["inet", "inet6"] | None = None
    scheduler: str = "wrr"
    flags: list[str] = []
    one_packet: bool = False
    forwarding: ForwardingWord = "route"
    persistence: PersistenceTable | None = None
    on_down: Literal["quiesce", "remove"] = "quiesce"
    min_up: Share = 0.0
    readd_quiescent: bool = False
    fallback: FallbackTable | None = None
    feedback: Feedback | None = None
    check: Any = None
    real: Annotated[list[Any], BeforeValidator(listed("virtual.real"))] = []


class TunnelTable(Table):
    """`tunnel = { … }` of a real server."""

    type: Literal["ipip", "gue", "gre"] = "ipip"
    port: Port | None = None
    checksum: Literal["none", "checksum", "remote"] = "none"


class RealTable(Table):
    """One entry of `real`; None means what the virtual service says."""

    address: str
    weight: Small = 1
    forwarding: ForwardingWord | None = None
    max_connections: Small = 0
    min_connections: Small = 0
    tunnel: TunnelTable | None = None
    check: Any = None


class Timing(Table):
    """The keys that every check has.

    None for `timeout` and `fast_interval`: the default depends on other keys.
    """

    type: str
    port: Port | None = None
    interval: Interval = 5.0
    timeout: Timeout | None = None
    rise: Count = 2
    fall: Count = 3
    fast_interval: Interval | None = None
    via: Annotated[str, BeforeValidator(member("direct", later=("mark", "tunnel")))] = "direct"
    server_name: str | None = None
    source: str | None = None
    mark: Annotated[int, BeforeValidator(whole(0, MAX_MARK))] = 0


class CheckTable(Timing):
    """A check; the keys that are not here belong to its checker."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    expect: dict[str, Any] = {}


class HybridTable(Timing):
    """`type = "hybrid"`: `timeout` is that of the connects."""

    connects: Annotated[int, BeforeValidator(whole(1, 1000))]
    negotiate: dict[str, Any]


class Negotiate(Table):
    """`negotiate = { … }` of a hybrid check: a checker and its time-out, nothing else."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    timeout: Timeout | None = None
    expect: dict[str, Any] = {}
