"""IPVS by the ipvsadm program: for hosts where netlink is not to be had, and for comparison.

Changes go to one `ipvsadm -R` in batches, one line each.  Its exit status is that of the
last line alone and its errors name no line, so when it says anything at all, the table is
read back and only the changes that are not in it are made again one by one, which gives each
its own answer.  No shell is used and every run ends after `timeout` seconds.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final

from lbhealth.drivers.base import DestinationStats, DriverInfo, Outcome, ServiceStats
from lbhealth.drivers.ipvsadm_text import (
    Listing,
    count,
    read_destination,
    read_service,
    to_arguments,
    to_line,
)
from lbhealth.drivers.verbs import (
    ATTEMPTS,
    batches,
    first_verb,
    is_done,
    next_verb,
    refusal,
    subject,
)
from lbhealth.errors import DriverError, DriverPermissionError, DriverUnavailable
from lbhealth.model import Destination, DestinationKey, ServiceEntry, ServiceKey, Table
from lbhealth.plan import Op, OpKind

__all__ = ["IpvsadmDriver", "to_arguments", "to_line"]

BATCH: Final = 200
"""Lines per `ipvsadm -R`."""

SLICE: Final = 200
"""Lines that are read before the loop does its other work."""

_ERRORS: Final = {
    "already exists": errno.EEXIST,
    "No such destination": errno.ENOENT,
    "No such service": errno.ESRCH,
    "Service not defined": errno.ESRCH,
    "Scheduler or persistence engine not found": errno.ENOENT,
    "Numerical result out of range": errno.ERANGE,
    "Invalid operation": errno.EINVAL,
    "Operation not supported with": errno.EAFNOSUPPORT,
}
"""ipvsadm's texts (libipvs.c, ipvs_strerror) and the errnos that they stand for."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended."""

    status: int
    output: str
    errors: str


class IpvsadmDriver:
    """IPVS by `program`, else `$IPVSADM`, else the ipvsadm on PATH; `timeout` in seconds."""

    name: ClassVar[str] = "ipvsadm"
    shared: ClassVar[bool] = True

    def __init__(self, program: str | None = None, *, timeout: float = 10.0) -> None:
        self._wanted = program
        self._timeout = timeout
        self._exact = True
        self._lock = asyncio.Lock()

    async def probe(self) -> DriverInfo:
        """List the table once: that needs the program, the kernel's IPVS and the privilege."""
        listing = await self._list()
        version, _, size = (listing.version if listing else "").partition(" ")
        buckets = size.removeprefix("(size=").removesuffix(")") or "unknown"
        return DriverInfo(f"IPVS {version}", f"{buckets} connection buckets, by {self.program()}")

    async def dump(self, services: Collection[ServiceKey] | None = None) -> Table:
        """Read the table, or only `services`.

        Methods, thresholds and encapsulations come from different runs, so what changes
        between them is read wrongly once, and right at the next time.
        """
        if services is not None and not services:
            return {}
        async with self._lock:
            return await self._read_table(services)

    async def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do the operations in order, two hundred at a time."""
        outcomes: list[Outcome] = []
        async with self._lock:
            for batch in batches(ops, BATCH):
                outcomes += await self._apply_batch(batch)
        return outcomes

    async def stats(self) -> Mapping[ServiceKey, ServiceStats]:
        """Read the counters of all services and rows; the kernel sums them every 2 seconds."""
        async with self._lock:
            totals = await self._list("--stats") or Listing()
            current = await self._list("--persistent-conn") or Listing()
        found: dict[ServiceKey, ServiceStats] = {}
        for key, words in totals.services.items():
            rows = totals.rows[key]
            now = current.rows.get(key, {})
            found[key] = ServiceStats(
                **_counters(dict(zip(totals.columns, words, strict=False))),
                destinations={row: _row_stats(rows[row], now.get(row, {})) for row in rows},
            )
            await asyncio.sleep(0)
        return found

    async def aclose(self) -> None:
        """Nothing to free: no run outlives its call."""

    def program(self) -> str:
        """The path of the program; DriverUnavailable when there is none."""
        name = self._wanted or os.environ.get("IPVSADM") or "ipvsadm"
        path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
        found = shutil.which(name, path=path)
        if found is None:
            raise DriverUnavailable(
                f"no program {name}",
                remedy="apt install ipvsadm" if name == "ipvsadm" else "correct $IPVSADM",
            )
        return found

    # ------------------------------------------------------------------ reading

    async def _read_table(self, services: Collection[ServiceKey] | None) -> Table:
        listing = await self._list() or Listing()
        thresholds = await self._list("--thresholds") or Listing()
        tunnels = Listing()
        if any(
            cells.get("Forward") == "Tunnel"
            for rows in listing.rows.values()
            for cells in rows.values()
        ):
            tunnels = await self._list("--tun-info") or Listing()
        table: dict[ServiceKey, ServiceEntry] = {}
        for key, words in listing.services.items():
            if services is not None and key not in services:
                continue
            upper, tunnel = thresholds.rows.get(key, {}), tunnels.rows.get(key, {})
            rows: dict[DestinationKey, Destination] = {}
            for number, (row, cells) in enumerate(listing.rows[key].items()):
                if number % SLICE == 0:
                    await asyncio.sleep(0)
                rows[row] = read_destination(row, cells, upper.get(row, {}), tunnel.get(row, {}))
            table[key] = ServiceEntry(read_service(key, words), rows)
        return table

    async def _list(self, *options: str) -> Listing | None:
        """Run a listing; None when this ipvsadm does not know its option."""
        exact = ["--exact"] if self._exact else []
        result = await self._run("-L", "-n", *exact, *options)
        if result.status and "option" in result.errors and self._exact:
            result = await self._run("-L", "-n", *options)
            self._exact = result.status != 0
        if result.status:
            if options and "option" in result.errors:
                return None
            raise DriverError(f"ipvsadm: {_words(result)}")
        listing = Listing()
        lines = iter(result.output.splitlines())
        while chunk := list(islice(lines, SLICE)):
            listing.feed(chunk)
            await asyncio.sleep(0)
        if not listing.columns:
            raise DriverError("ipvsadm listed nothing that can be read")
        return listing

    # ------------------------------------------------------------------ writing

    async def _apply_batch(self, batch: Sequence[Op]) -> list[Outcome]:
        errors: dict[int, str] = {}
        lines: dict[int, str] = {}
        for index, op in enumerate(batch):
            try:
                lines[index] = " ".join(to_arguments(op))
            except (DriverError, ValueError) as error:
                errors[index] = f"{subject(op)}: {error}"
        left = list(lines)
        if len(lines) > 1:
            result = await self._run("-R", feed="".join(f"{line}\n" for line in lines.values()))
            if result.status == 0 and not result.errors.strip():
                left = []
            else:
                table = await self._read_table(None)
                left = [index for index in lines if not _holds(table, batch[index])]
        for index in left:
            why = await self._apply_one(batch[index])
            if why is not None:
                errors[index] = why
        return [Outcome(op, errors.get(index)) for index, op in enumerate(batch)]

    async def _apply_one(self, op: Op) -> str | None:
        """Do one operation in a run of its own; return why it was refused, None when done."""
        verb = first_verb(op)
        why = ""
        for _ in range(ATTEMPTS):
            result = await self._run(*to_arguments(op, verb))
            code = _code(result)
            if is_done(verb, code):
                return None
            words = _words(result)
            why = f"{subject(op)}: {words}" if code < 0 else refusal(op, code, words)
            following = next_verb(verb, code)
            if following is None or following is verb:
                break
            verb = following
        return why

    async def _run(self, *arguments: str, feed: str | None = None) -> Finished:
        """Run the program to its end, or kill it; DriverUnavailable when it is of no use."""
        program = self.program()
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL if feed is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            raise DriverUnavailable(f"cannot run {program}: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout):
                out, err = await process.communicate(None if feed is None else feed.encode())
        except TimeoutError:
            raise DriverUnavailable(
                f"{program} did not end within {self._timeout:g} s and was killed"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        result = Finished(
            process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
        )
        _raise_if_useless(result)
        return result


def _raise_if_useless(result: Finished) -> None:
    if "Permission denied" in result.errors or "Operation not permitted" in result.errors:
        raise DriverPermissionError(
            "ipvsadm may not change IPVS", remedy="run as root, or with CAP_NET_ADMIN"
        )
    if "Can't initialize ipvs" in result.errors:
        raise DriverUnavailable("this kernel has no IPVS", remedy="load its module: modprobe ip_vs")


def _code(result: Finished) -> int:
    """0, the errno that ipvsadm's text stands for, or -1 when it is not known."""
    if result.status == 0:
        return 0
    return next((code for text, code in _ERRORS.items() if text in result.errors), -1)


def _words(result: Finished) -> str:
    """What the program said, on one line and without control characters."""
    words = " ".join(result.errors.split())
    return "".join(c if c.isprintable() else "?" for c in words) or f"status {result.status}"


def _holds(table: Table, op: Op) -> bool:
    """Say whether the table is as `op` wants it."""
    entry = table.get(op.service.key)
    if op.kind is OpKind.DELETE_SERVICE:
        return entry is None
    if op.destination is None:
        return entry is not None and entry.service == op.service
    row = entry.destinations.get(op.destination.key) if entry else None
    return row is None if op.kind is OpKind.DELETE_DESTINATION else row == op.destination


def _counters(cells: Mapping[str, str]) -> dict[str, int]:
    return {
        "connections": count(cells.get("Conns", "0")),
        "packets_in": count(cells.get("InPkts", "0")),
        "packets_out": count(cells.get("OutPkts", "0")),
        "bytes_in": count(cells.get("InBytes", "0")),
        "bytes_out": count(cells.get("OutBytes", "0")),
    }


def _row_stats(totals: Mapping[str, str], current: Mapping[str, str]) -> DestinationStats:
    return DestinationStats(
        active=count(current.get("ActiveConn", "0")),
        inactive=count(current.get("InActConn", "0")),
        persistent=count(current.get("PersistConn", "0")),
        **_counters(totals),
    )
