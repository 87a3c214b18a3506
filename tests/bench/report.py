"""Tables for people, and the goals that the figures are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One goal: the figure `key` is at most `limit` (at least, if `least`) in `unit`."""

    text: str
    key: str
    limit: float
    unit: str
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether `value` reaches the goal."""
        return value >= self.limit if self.least else value <= self.limit

    def wanted(self) -> str:
        """The goal as `<= 48 µs`."""
        return f"{'>=' if self.least else '<='} {self.limit:g} {self.unit}".rstrip()


GOALS = (
    Goal("connect, CPU per check, N=200", "connect.cpu.200", 90, "µs"),
    Goal("connect, CPU per check, N=5000", "connect.cpu.5000", 48, "µs"),
    Goal("connect, CPU per check, N=10000", "connect.cpu.10000", 48, "µs"),
    Goal("HTTP, CPU per check, N=200", "http.cpu.200", 110, "µs"),
    Goal("HTTP, CPU per check, N=5000", "http.cpu.5000", 55, "µs"),
    Goal("connect, CPU against HAProxy, N=2000", "connect.ratio.2000", 1.6, "x"),
    Goal("HTTP, CPU against HAProxy, N=2000", "http.ratio.2000", 1.15, "x"),
    Goal("connect, checks/s, N=2000", "connect.rate.2000", 0.97, "N", least=True),
    Goal("HTTP, checks/s, N=2000", "http.rate.2000", 0.97, "N", least=True),
    Goal("connect, RSS, N=10000 (aim: 40)", "connect.rss.10000", 60, "MB"),
    Goal("HTTP, RSS, N=10000 (aim: 50)", "http.rss.10000", 70, "MB"),
    Goal("exec to first probe, N=10000", "connect.first.10000", 2.0, "s"),
    Goal("first full pass, N=10000", "connect.pass.10000", 1.1, "s"),
    Goal("detection, N=5000, median", "detection.median", 0.55, "s"),
    Goal("detection, N=5000, p99", "detection.p99", 1.05, "s"),
    Goal("200 silent among 1000: latest healthy check", "silent.slots", 1, "slots"),
    Goal("200 silent among 1000: checks left out", "silent.skipped", 0, ""),
    Goal("reload of 10000, nothing changed: loop time", "reload.cpu", 0.3, "s"),
    Goal("reload of 10000: loop held above rest", "reload.held", 10, "ms"),
    Goal("reload of 10000: states lost", "reload.lost", 0, ""),
    Goal("weight changes to the kernel", "kernel.rate", 10_000, "/s", least=True),
)


def number(value: float, digits: int = 1) -> str:
    """A figure for a table: no digits after the point from 1000 on."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """A table with the first column to the left, the others to the right."""
    every = [list(headers), *(list(line) for line in lines)]
    widths = [max(len(line[column]) for line in every) for column in range(len(headers))]
    padded = [
        [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in every
    ]
    if not markdown:
        rule = ["-" * width for width in widths]
        return "\n".join("  ".join(line).rstrip() for line in [padded[0], rule, *padded[1:]])
    rule = [
        "-" * width if column == 0 else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def goals_table(figures: Mapping[str, float], *, markdown: bool) -> str:
    """Every goal with its figure, honest about misses and about what was not measured."""
    lines = []
    for goal in GOALS:
        value = figures.get(goal.key)
        if value is None:
            lines.append([goal.text, goal.wanted(), "-", "not measured"])
            continue
        verdict = "yes" if goal.met(value) else "**NO**" if markdown else "NO"
        lines.append([goal.text, goal.wanted(), number(value, 2), verdict])
    return table(["goal", "wanted", "measured", "met"], lines, markdown=markdown)
