"""What to send for an operation, what to try next when it is refused, and how to say no.

Shared by the two IPVS drivers and free of I/O: netlink gives error numbers, ipvsadm gives
texts that stand for the same numbers, and from there on the rules are one:

* adding what is there edits it, editing what is gone adds it, deleting what is gone is done;
* a row whose service is missing is tried once more, because its service may have been
  healed by the same batch;
* whatever else the kernel says becomes the outcome's error, in words an operator can act on.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterable, Iterator
from typing import Final

from lbhealth.model import Forwarding, ServiceKey
from lbhealth.plan import Op, OpKind

__all__ = [
    "ATTEMPTS",
    "Verb",
    "batches",
    "first_verb",
    "is_done",
    "next_verb",
    "refusal",
    "subject",
]

ATTEMPTS: Final = 3
"""Sends per operation: first SET, then NEW of its healed service's row, needs three."""


class Verb(enum.IntEnum):
    """The changing commands, numbered as in include/uapi/linux/ip_vs.h (IPVS_CMD_*).

    FLUSH (17), which empties the table, is missing on purpose.
    """

    NEW_SERVICE = 1
    SET_SERVICE = 2
    DEL_SERVICE = 3
    NEW_DEST = 5
    SET_DEST = 6
    DEL_DEST = 7


_FIRST: Final = {
    OpKind.ADD_SERVICE: Verb.NEW_SERVICE,
    OpKind.EDIT_SERVICE: Verb.SET_SERVICE,
    OpKind.ADD_DESTINATION: Verb.NEW_DEST,
    OpKind.RAISE_DESTINATION: Verb.SET_DEST,
    OpKind.LOWER_DESTINATION: Verb.SET_DEST,
    OpKind.DELETE_DESTINATION: Verb.DEL_DEST,
    OpKind.DELETE_SERVICE: Verb.DEL_SERVICE,
}

_NEXT: Final = {
    (Verb.NEW_SERVICE, errno.EEXIST): Verb.SET_SERVICE,
    (Verb.SET_SERVICE, errno.ESRCH): Verb.NEW_SERVICE,
    (Verb.NEW_DEST, errno.EEXIST): Verb.SET_DEST,
    (Verb.SET_DEST, errno.ENOENT): Verb.NEW_DEST,
    (Verb.NEW_DEST, errno.ESRCH): Verb.NEW_DEST,
    (Verb.SET_DEST, errno.ESRCH): Verb.SET_DEST,
}


def first_verb(op: Op) -> Verb:
    """The command that an operation starts with."""
    return _FIRST[op.kind]


def is_done(verb: Verb, code: int) -> bool:
    """Say whether an answer (0 or an errno) means that nothing is left to do."""
    if code == 0:
        return True
    return verb in (Verb.DEL_SERVICE, Verb.DEL_DEST) and code in (errno.ENOENT, errno.ESRCH)


def next_verb(verb: Verb, code: int) -> Verb | None:
    """The command to try after `verb` was refused with errno `code`; None = give up."""
    return _NEXT.get((verb, code))


def batches(ops: Iterable[Op], size: int) -> Iterator[list[Op]]:
    """Cut operations into runs of at most `size` whose members can be retried on their own.

    A run names no row twice, and no service after one of its rows: so a late retry of one
    member never undoes what another one did after it.
    """
    batch: list[Op] = []
    seen: set[object] = set()
    for op in ops:
        service: ServiceKey = op.service.key
        target = service if op.destination is None else (service, op.destination.key)
        if len(batch) >= size or target in seen:
            yield batch
            batch, seen = [], set()
        batch.append(op)
        seen.add(target)
        seen.add(service)
    if batch:
        yield batch


def refusal(op: Op, code: int, text: str = "") -> str:
    """Why the kernel refused `op`, from its errno and its own words (often none)."""
    reason = _on_service(op, code) if op.destination is None else _on_destination(op, code)
    if not reason:
        reason = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
    return f"{subject(op)}: {reason}{f' ({text})' if text else ''}"


def subject(op: Op) -> str:
    """What an operation is about: `tcp:192.0.2.10:80 10.0.0.1:80`."""
    key = str(op.service.key)
    return key if op.destination is None else f"{key} {op.destination.name}"


def _on_service(op: Op, code: int) -> str:
    service = op.service
    if code == errno.ENOENT:
        scheduler = service.scheduler
        reason = f"unknown scheduler {scheduler!r} (kernel module ip_vs_{scheduler})"
        if service.engine:
            engine = service.engine
            reason += f" or persistence engine {engine!r} (kernel module ip_vs_pe_{engine})"
        return reason
    if code == errno.EAFNOSUPPORT:
        return "this kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6)"
    if code in (errno.EEXIST, errno.ESRCH):
        return "another program adds and deletes this virtual service"
    return ""


def _on_destination(op: Op, code: int) -> str:
    destination = op.destination
    assert destination is not None
    if code == errno.ESRCH:
        return f"there is no virtual service {op.service.key}"
    if code in (errno.EEXIST, errno.ENOENT):
        return "another program adds and deletes this row"
    if code == errno.ERANGE:
        return (
            f"out of range: weight {destination.weight} must be 0..2147483647 and the lower "
            f"threshold {destination.lower} at most the upper one {destination.upper}"
        )
    if code == errno.EAFNOSUPPORT:
        return "this kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6)"
    if code == errno.EINVAL:
        mixed = (":" in destination.address) != (op.service.key.family.name == "AF_INET6")
        if mixed and destination.forwarding is not Forwarding.TUNNEL:
            return "a row of the other address family must be forwarded by tunnel"
        return (
            "the kernel does not take this row: its address must be unicast, a gue tunnel needs "
            "a port, and mixed address families exclude a running sync daemon"
        )
    return ""
