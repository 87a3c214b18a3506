"""What an HTTP answer must hold besides a good status: text, header fields, JSON values.

Pure functions; the validators raise `SettingError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from lbhealth.checkers.http_message import Response
from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.errors import SettingError

if TYPE_CHECKING:
    from lbhealth.checkers.http import Http

__all__ = ["JsonValue", "check_expected_headers", "check_expected_json", "unmet"]

JsonValue: TypeAlias = str | int | bool

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_MISSING = object()


def check_expected_headers(expected: Iterable[tuple[str, str]]) -> None:
    """Names of header fields with regular expressions for their values."""
    for name, pattern in expected:
        if not _NAME.fullmatch(name):
            raise SettingError("expect_headers", f"{name!r} is not a header name")
        compile_pattern(pattern, "expect_headers")


def check_expected_json(expected: Iterable[tuple[str, JsonValue]]) -> None:
    """Dotted paths (`checks.0.state`) with strings, whole numbers, true or false."""
    for path, value in expected:
        if not all(path.split(".")):
            raise SettingError("expect_json", f"{path!r} is not a path of names and dots")
        if not isinstance(value, str | int):  # a bool is an int
            raise SettingError("expect_json", f"{path}: must be text, a whole number or a boolean")


def unmet(checker: Http, response: Response) -> str | None:
    """Why a response with a good status is not good, None when it is.

    Raises CheckError for an expression that takes too long.
    """
    reason = None
    if checker.body and _encoded(checker.body) not in response.body:
        reason = _mismatch(checker, response, "contain", checker.body)
    elif checker.body_regex and not compile_pattern(checker.body_regex, "body_regex").search(
        response.body
    ):
        reason = _mismatch(checker, response, "match", checker.body_regex)
    elif checker.body_not and _encoded(checker.body_not) in response.body:
        reason = f'the body contains "{printable(checker.body_not, 100)}"'
    elif checker.body_not_regex and compile_pattern(
        checker.body_not_regex, "body_not_regex"
    ).search(response.body):
        reason = f'the body matches "{printable(checker.body_not_regex, 100)}"'
    elif checker.expect_headers:
        reason = _header_fault(checker.expect_headers, response)
    if reason is None and checker.expect_json:
        reason = _json_fault(checker.expect_json, response)
    return None if reason is None else f"{response.status}, but {reason}"


def _mismatch(checker: Http, response: Response, verb: str, wanted: str) -> str:
    what = f'{verb} "{printable(wanted, 100)}"'
    if checker.method == "HEAD":
        return f"a response to HEAD has no body that could {what}"
    if not response.body:
        return f"the body is empty and does not {what}"
    where = (
        f"the first {len(response.body)} bytes of the body do"
        if response.truncated
        else "the body does"
    )
    return f"{where} not {what}; it begins {excerpt(response.body)}"


def _header_fault(expected: Iterable[tuple[str, str]], response: Response) -> str | None:
    """One field of the name must match, where there are several."""
    for name, text in expected:
        values = [value for key, value in response.headers if key == name.lower()]
        if not values:
            return f"it has no header field {name}"
        pattern = compile_pattern(text, "expect_headers")
        if not any(pattern.search(value.encode("latin-1")) for value in values):
            shown = printable(", ".join(values), 100)
            return f'{name} is "{shown}" and does not match "{printable(text, 100)}"'
    return None


def _json_fault(expected: Iterable[tuple[str, JsonValue]], response: Response) -> str | None:
    if response.truncated:
        return f"the body is longer than {len(response.body)} bytes: too long to be read as JSON"
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return f"the body is not JSON; it begins {excerpt(response.body)}"
    for path, wanted in expected:
        found = _lookup(document, path)
        if found is _MISSING:
            return f'its JSON has no "{printable(path, 100)}"'
        if found != wanted:
            return f'"{printable(path, 100)}" in its JSON is {_shown(found)}, not {_shown(wanted)}'
    return None


def _lookup(document: object, path: str) -> object:
    """What a dotted path leads to: names in objects, numbers from 0 in arrays."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document.get(part, _MISSING)
        elif isinstance(document, list) and part.isdecimal() and len(part) < 8:
            document = document[int(part)] if int(part) < len(document) else _MISSING
        else:
            return _MISSING
    return document


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return printable(json.dumps(value, ensure_ascii=False), 100)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
