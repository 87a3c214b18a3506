"""The rules for settings that many check types share."""

from __future__ import annotations

from collections.abc import Sequence

from lbhealth.errors import SettingError

__all__ = ["TLS_AT_ONCE", "TLS_MODES", "check_line", "check_tls"]

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
