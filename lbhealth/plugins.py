"""The registry of checkers, drivers and alerts: names to classes, by entry points.

A plug-in is loaded only when a configuration names it.  The built-in ones are declared in
the same entry-point groups, so a plug-in can start as a copy of a built-in file.  This module
is handed to `config` and `engine` and imports neither.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from importlib import metadata

from lbhealth.errors import PluginLoadError, PluginNotFound
from lbhealth.model import Checker

__all__ = ["ALERTS", "CHECKERS", "DRIVERS", "Registry"]

CHECKERS = "lbhealth.checkers"
DRIVERS = "lbhealth.drivers"
ALERTS = "lbhealth.alerts"


class Registry:
    """All plug-ins of this installation.  Looking up is cheap, loading happens once a name."""

    @functools.cached_property
    def _groups(self) -> Mapping[str, Mapping[str, metadata.EntryPoint]]:
        groups: dict[str, dict[str, metadata.EntryPoint]] = {CHECKERS: {}, DRIVERS: {}, ALERTS: {}}
        for group, known in groups.items():
            for entry in metadata.entry_points(group=group):
                other = known.setdefault(entry.name, entry)
                if other.value != entry.value:
                    raise PluginLoadError(
                        f"two distributions provide {group} {entry.name!r}: "
                        f"{_distribution(other)} and {_distribution(entry)}; uninstall one"
                    )
        return groups

    def names(self, group: str) -> Sequence[str]:
        """Names in a group, sorted."""
        return sorted(self._groups[group])

    def load(self, group: str, name: str) -> type:
        """Return the class behind a name.

        Raises PluginNotFound with the nearest names, or PluginLoadError.
        """
        known = self._groups[group]
        if name not in known:
            matches = difflib.get_close_matches(name, list(known), n=2)
            raise PluginNotFound(group.removeprefix("lbhealth.").removesuffix("s"), name, matches)
        try:
            found = known[name].load()
        except Exception as error:  # a plug-in may fail in any way while it is imported
            raise PluginLoadError(
                f"plug-in {name!r} of {_distribution(known[name])} cannot be loaded: {error}"
            ) from error
        if not isinstance(found, type):
            raise PluginLoadError(f"plug-in {name!r} of {_distribution(known[name])} is no class")
        return found

    def list(self) -> list[tuple[str, str, str, str]]:
        """Every plug-in: group, name, distribution, version; loads none."""
        return [
            (
                group.removeprefix("lbhealth."),
                name,
                entry.dist.name if entry.dist else "",
                entry.dist.version if entry.dist else "",
            )
            for group, known in self._groups.items()
            for name, entry in sorted(known.items())
        ]

    def checker(self, kind: str) -> type[Checker]:
        """The checker class behind a check type; errors as `load`."""
        return self.load(CHECKERS, kind)

    def kinds(self) -> Sequence[str]:
        """All check types, sorted."""
        return self.names(CHECKERS)


def _distribution(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
