"""The rules for settings that many check types share."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from lbhealth.errors import SettingError

__all__ = ["TLS_AT_ONCE", "TLS_MODES", "accepted_statuses", "check_line", "check_tls"]

TLS_MODES = ("none", "implicit", "starttls")
"""No TLS, TLS from the first byte, or an upgrade that the protocol asks for."""

TLS_AT_ONCE = ("none", "implicit")
"""The modes of a protocol that knows no upgrade."""


def check_tls(
    tls: str, verify: bool, ca_file: str | None, modes: Sequence[str] = TLS_MODES
) -> None:
    """Raises SettingError for TLS settings that make no sense; `tls` is one of `modes`."""
    if tls not in modes:
        raise SettingError("tls", f"must be one of {', '.join(modes)}")
    if verify and tls == "none":
        raise SettingError("verify", "has no effect without tls")
    if ca_file is not None and not verify:
        raise SettingError("ca_file", "has no effect without verify")
    if ca_file is not None and (not ca_file or "\0" in ca_file):
        raise SettingError("ca_file", "not a file name")


def check_line(field: str, text: str | None, *, strict: bool = False) -> None:
    """Raises SettingError when `text` cannot be part of one line of a protocol.

    With `strict` it can hold no control character at all, and nothing but UTF-8.
    """
    for place, char in enumerate(text or ""):
        if char in "\r\n\0":
            raise SettingError(field, "must be one line without NUL", place)
        if strict and (char < " " or char == "\x7f"):
            raise SettingError(field, "control characters are not allowed", place)
        if strict and "\ud800" <= char <= "\udfff":
            raise SettingError(field, "not a character of UTF-8", place)


@functools.cache
def accepted_statuses(
    status: tuple[str, ...], first_class: int = 1, last_class: int = 5
) -> frozenset[int]:
    """The status codes that ("200", "300-399") stand for.

    Raises SettingError for codes outside the classes, which HTTP has from 1xx to 5xx (RFC
    9110, 15) and final answers of SIP from 2xx to 6xx (RFC 3261, 7.2).
    """
    code = rf"([{first_class}-{last_class}][0-9]{{2}})"
    accepted: set[int] = set()
    for item in status:
        match = re.fullmatch(f"{code}(?:-{code})?", item)
        if match is None:
            bounds = f"{first_class}00 to {last_class}99"
            raise SettingError("status", f"{item!r} is not a status or a range of {bounds}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SettingError("status", f"the range {item!r} is empty")
        accepted.update(range(first, last + 1))
    if not accepted:
        raise SettingError("status", "no status would pass")
    return frozenset(accepted)
