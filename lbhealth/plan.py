"""What to change in the kernel: the difference of two tables as ordered operations.

Pure.  `diff` never yields an operation for a service that is not desired or owned, never
sends a weight without the row's other settings (the kernel's edit replaces the whole row),
and orders operations so that capacity never dips.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lbhealth.model import (
    Destination,
    DestinationKey,
    KernelService,
    ServiceEntry,
    ServiceKey,
    Table,
)
from lbhealth.policy import Action, DesiredService

__all__ = [
    "Op",
    "OpKind",
    "apply",
    "apply_one",
    "describe",
    "desired_row",
    "diff",
    "diff_service",
    "order",
    "row_op",
]


class OpKind(enum.IntEnum):
    """Kinds of operation, numbered in the order in which they must be applied.

    What adds capacity comes before what takes it away; a service before its rows.
    """

    ADD_SERVICE = 0
    EDIT_SERVICE = 1
    ADD_DESTINATION = 2
    RAISE_DESTINATION = 3
    LOWER_DESTINATION = 4
    DELETE_DESTINATION = 5
    DELETE_SERVICE = 6


@dataclass(frozen=True, slots=True)
class Op:
    """One change of the kernel table.

    `service` is always the whole service; `destination` the whole row, None for operations
    on the service.  RAISE and LOWER are the same edit, told apart for their order only.
    """

    kind: OpKind
    service: KernelService
    destination: Destination | None = None


def desired_row(
    desired: DesiredService, key: DestinationKey, actual: Destination | None
) -> Destination | None:
    """The row that should exist for `key`, given the one that does; None = no row."""
    decision = desired.decisions[key]
    match decision.action:
        case Action.KEEP:
            return actual
        case Action.REMOVE:
            return None
        case Action.SET_IF_PRESENT if actual is None:
            return None
        case _:
            row = desired.rows[key]
            return row if row.weight == decision.weight else replace(row, weight=decision.weight)


def row_op(
    service: KernelService, actual: Destination | None, wanted: Destination | None
) -> Op | None:
    """The operation that turns one row into another; None when they are equal."""
    if actual == wanted:
        return None
    if wanted is None:
        return Op(OpKind.DELETE_DESTINATION, service, actual)
    if actual is None:
        return Op(OpKind.ADD_DESTINATION, service, wanted)
    lower = wanted.weight < actual.weight
    return Op(OpKind.LOWER_DESTINATION if lower else OpKind.RAISE_DESTINATION, service, wanted)


def diff_service(
    actual: ServiceEntry | None, desired: DesiredService, *, prune: bool
) -> Iterator[Op | None]:
    """Yield the operations for one service, unordered, and None for each row that is right.

    The Nones let a caller count rows and stop in between (the engine slices long tables).
    """
    rows: Mapping[DestinationKey, Destination] = actual.destinations if actual else {}
    if actual is None:
        yield Op(OpKind.ADD_SERVICE, desired.service)
    elif actual.service != desired.service:
        yield Op(OpKind.EDIT_SERVICE, desired.service)
    for key in desired.decisions:
        row = rows.get(key)
        yield row_op(desired.service, row, desired_row(desired, key, row))
    if prune:
        for key, row in rows.items():
            if key not in desired.decisions:
                yield Op(OpKind.DELETE_DESTINATION, desired.service, row)


def diff(
    actual: Table,
    desired: Mapping[ServiceKey, DesiredService],
    owned: Collection[ServiceKey] = (),
    *,
    prune: bool = False,
) -> list[Op]:
    """Return the operations that turn `actual` into `desired`, in a safe order.

    `owned` names services that lbhealth made and that are desired no more: they are deleted.
    A service that is neither desired nor owned is never touched; rows that nobody decided on
    ("strangers") are deleted only where `prune` is set.
    """
    ops = [
        op
        for key, service in desired.items()
        for op in diff_service(actual.get(key), service, prune=prune)
        if op is not None
    ]
    ops += [
        Op(OpKind.DELETE_SERVICE, actual[key].service)
        for key in owned
        if key in actual and key not in desired
    ]
    return order(ops)


def describe(op: Op) -> str:
    """An operation in words, for logs: `set 10.0.0.1:80 masq weight 3`."""
    verb = op.kind.name.partition("_")[0].lower()
    row = op.destination
    if row is None:
        return f"{verb} service, scheduler {op.service.scheduler}"
    if op.kind is OpKind.DELETE_DESTINATION:
        return f"delete {row.name}"
    verb = "add" if op.kind is OpKind.ADD_DESTINATION else "set"
    return f"{verb} {row.name} {row.forwarding.name.lower()} weight {row.weight}"


def order(ops: Iterable[Op]) -> list[Op]:
    """Sort operations so that capacity never dips; stable within a kind."""
    return sorted(ops, key=lambda op: op.kind)


def apply(table: Table, ops: Iterable[Op]) -> dict[ServiceKey, ServiceEntry]:
    """Return the table after `ops`, as a kernel that refuses nothing would have it."""
    result = {key: ServiceEntry(e.service, dict(e.destinations)) for key, e in table.items()}
    for op in ops:
        apply_one(result, op)
    return result


def apply_one(table: dict[ServiceKey, ServiceEntry], op: Op) -> None:
    """Do one operation on a table whose rows are plain dicts, in place."""
    key = op.service.key
    if op.kind is OpKind.DELETE_SERVICE:
        table.pop(key, None)
        return
    entry = table.get(key)
    if op.kind in (OpKind.ADD_SERVICE, OpKind.EDIT_SERVICE):
        table[key] = ServiceEntry(op.service, entry.destinations if entry else {})
        return
    assert op.destination is not None
    assert entry is not None
    assert isinstance(entry.destinations, dict)
    if op.kind is OpKind.DELETE_DESTINATION:
        entry.destinations.pop(op.destination.key, None)
    else:
        entry.destinations[op.destination.key] = op.destination
