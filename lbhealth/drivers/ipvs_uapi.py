"""The numbers of the generic netlink family IPVS (include/uapi/linux/ip_vs.h)."""

from __future__ import annotations

from typing import Final

FAMILY_NAME: Final = "IPVS"


class Query:
    """The commands that read, and ZERO (IPVS_CMD_*); those that change are `verbs.Verb`."""

    GET_SERVICE: Final = 4
    GET_DEST: Final = 8
    GET_CONFIG: Final = 13
    GET_INFO: Final = 15
    ZERO: Final = 16


class Top:
    """Attributes of a message (IPVS_CMD_ATTR_*); GET_INFO answers with INFO_* in their place."""

    SERVICE: Final = 1
    DEST: Final = 2
    TIMEOUT_TCP: Final = 4
    TIMEOUT_TCP_FIN: Final = 5
    TIMEOUT_UDP: Final = 6
    INFO_VERSION: Final = 1
    INFO_BUCKETS: Final = 2


class Svc:
    """Attributes of a service nest (IPVS_SVC_ATTR_*)."""

    AF: Final = 1
    PROTOCOL: Final = 2
    ADDR: Final = 3
    PORT: Final = 4
    FWMARK: Final = 5
    SCHED_NAME: Final = 6
    FLAGS: Final = 7
    TIMEOUT: Final = 8
    NETMASK: Final = 9
    STATS: Final = 10
    PE_NAME: Final = 11
    STATS64: Final = 12


class Dst:
    """Attributes of a destination nest (IPVS_DEST_ATTR_*)."""

    ADDR: Final = 1
    PORT: Final = 2
    FWD_METHOD: Final = 3
    WEIGHT: Final = 4
    U_THRESH: Final = 5
    L_THRESH: Final = 6
    ACTIVE_CONNS: Final = 7
    INACT_CONNS: Final = 8
    PERSIST_CONNS: Final = 9
    STATS: Final = 10
    ADDR_FAMILY: Final = 11
    STATS64: Final = 12
    TUN_TYPE: Final = 13
    TUN_PORT: Final = 14
    TUN_FLAGS: Final = 15


FLAG_PERSISTENT: Final = 0x1
FLAG_ONE_PACKET: Final = 0x4
FLAG_SCHEDULER: Final = 0x4
"""Scheduler flag N (1..3) is this shifted left by N: 0x8, 0x10, 0x20."""

FORWARD_MASK: Final = 0x7
"""The bits of FWD_METHOD that hold the method (IP_VS_CONN_F_FWD_MASK)."""
