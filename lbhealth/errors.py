"""Every error that lbhealth raises on purpose.

::

    LbhealthError
    ├── ConfigError                             a file that cannot be taken; holds all diagnostics
    ├── SettingError (ValueError)               one setting of a checker is wrong
    ├── CheckFailed                             the server is bad                  -> verdict FAIL
    ├── CheckError                              the checker itself could not run   -> verdict ERROR
    ├── DriverError                             the data plane refused
    │   ├── DriverUnavailable (ConnectionError)     no IPVS in the kernel, no ipvsadm, no answer
    │   ├── DriverPermissionError (PermissionError) CAP_NET_ADMIN is missing
    │   └── drivers.netlink.NetlinkFormatError      the kernel sent what is no netlink message
    ├── TableOwnedError (BlockingIOError)       another program writes the same virtual service
    ├── PluginNotFound (LookupError)            no checker or driver of that name
    ├── PluginLoadError (ImportError)           the plug-in is installed but broken
    └── ControlError                            a command to a director that cannot be done
        ├── UnknownServer (LookupError)             no such server in the configuration
        └── DirectorUnreachable (ConnectionError)   no director answers at that address

The classes are split by what the caller can do about it; data sits in attributes, and
every text names the remedy where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbhealth.model import Status

__all__ = [
    "CheckError",
    "CheckFailed",
    "ConfigError",
    "ControlError",
    "DirectorUnreachable",
    "DriverError",
    "DriverPermissionError",
    "DriverUnavailable",
    "LbhealthError",
    "PluginLoadError",
    "PluginNotFound",
    "SettingError",
    "TableOwnedError",
    "UnknownServer",
]


class LbhealthError(Exception):
    """Base of all errors below."""


class ConfigError(LbhealthError):
    """A configuration that cannot be taken; `diagnostics` holds every reason, in file order."""

    def __init__(self, diagnostics: Sequence[object]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(str(d) for d in self.diagnostics)


class SettingError(LbhealthError, ValueError):
    """One setting of a checker is wrong.

    Raised by a checker's constructor; `field` is the name of the dataclass field, `position`
    the 0-based offset of the fault inside its text, None where there is no such place.
    """

    def __init__(self, field: str, message: str, position: int | None = None) -> None:
        self.field = field
        self.message = message
        self.position = position
        super().__init__(field, message, position)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class CheckFailed(LbhealthError):
    """Raised by a checker when the *server* is bad; becomes verdict FAIL with this status."""

    def __init__(self, status: Status, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(status, detail)

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class CheckError(LbhealthError):
    """Raised by a checker when *it* could not run (our side); becomes verdict ERROR, never DOWN."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class DriverError(LbhealthError):
    """The data plane refused; `remedy` says what an operator can do, in one sentence."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class DriverUnavailable(DriverError, ConnectionError):
    """There is no data plane to talk to, or it does not answer."""


class DriverPermissionError(DriverError, PermissionError):
    """The process may not change the data plane."""


class TableOwnedError(LbhealthError, BlockingIOError):
    """Another program writes the same virtual service; two writers would fight for ever."""

    def __init__(self, what: str, owner: str, *, remedy: str) -> None:
        self.what = what
        self.owner = owner
        self.remedy = remedy
        super().__init__(what, owner)

    def __str__(self) -> str:
        return f"{self.what} is already driven by {self.owner}: {self.remedy}"


class PluginNotFound(LbhealthError, LookupError):
    """No plug-in of that name; `matches` are the nearest known names."""

    def __init__(self, group: str, name: str, matches: Sequence[str] = ()) -> None:
        self.group = group
        self.name = name
        self.matches = tuple(matches)
        super().__init__(group, name)

    def __str__(self) -> str:
        hint = f"; did you mean {' or '.join(map(repr, self.matches))}?" if self.matches else ""
        return f"no {self.group} named {self.name!r}{hint}"


class PluginLoadError(LbhealthError, ImportError):
    """The plug-in is installed but cannot be imported or breaks the contract."""


class ControlError(LbhealthError):
    """A command to a director that cannot be carried out; the text says why."""


class UnknownServer(ControlError, LookupError):
    """No real server of that name in the running configuration."""

    def __init__(self, name: str, matches: Sequence[str] = ()) -> None:
        self.name = name
        self.matches = tuple(matches)
        super().__init__(name)

    def __str__(self) -> str:
        hint = f"; did you mean {' or '.join(self.matches)}?" if self.matches else ""
        return f"no real server {self.name!r} in the running configuration{hint}"


class DirectorUnreachable(ControlError, ConnectionError):
    """Nothing answers at the API address."""
