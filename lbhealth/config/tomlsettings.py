"""From the keys of a check table to a checker: its dataclass fields are the schema.

Any checker works, built in or plug-in: types come from its annotations, secrets from the
names and the `{"secret": True}` metadata (or `repr=False`) of its fields.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from lbhealth.config.tomlfindings import At, Findings, is_secret
from lbhealth.config.tomlspans import Path
from lbhealth.config.tomlvalues import said
from lbhealth.config.tomlwords import complain, unknown_key
from lbhealth.errors import SettingError
from lbhealth.model import Checker

__all__ = ["make_checker"]

_TEXTS = tuple[str, ...]
_FAULTY = object()


@dataclass(frozen=True, slots=True)
class _Setting:
    """One field of a checker, ready to validate TOML values."""

    annotation: Any
    adapter: TypeAdapter[Any]
    strict: bool
    required: bool
    secret: bool

    def read(self, raw: object) -> object:
        """The field's value; raises ValidationError."""
        if _is_pairs(self.annotation) and isinstance(raw, dict):
            raw = tuple(raw.items())
        return self.adapter.validate_python(_hashable(raw), strict=self.strict)


def _is_pairs(annotation: Any) -> bool:
    """Whether a field holds pairs of a name and a value: a table in TOML."""
    pair = typing.get_args(annotation)[:1]
    return (
        bool(pair)
        and typing.get_origin(pair[0]) is tuple
        and (typing.get_args(pair[0])[:1] == (str,) and len(typing.get_args(pair[0])) == 2)
    )


@functools.lru_cache(maxsize=256)
def _settings(checker: type[Checker]) -> Mapping[str, _Setting]:
    hints = typing.get_type_hints(checker, include_extras=True)
    return {
        field.name: _setting(field, hints[field.name])
        for field in dataclasses.fields(cast("Any", checker))
        if field.init
    }


def _setting(field: dataclasses.Field[Any], hint: Any) -> _Setting:
    members = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = tuple(m for m in members if m is not type(None))  # TOML has no null
        hint = functools.reduce(lambda a, b: a | b, members)
    has_enum = any(isinstance(m, type) and issubclass(m, enum.Enum) for m in (hint, *members))
    return _Setting(
        annotation=hint,
        adapter=TypeAdapter(hint),
        strict=not has_enum,  # strict mode takes members only, and TOML has words
        required=field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING,
        secret=bool(field.metadata.get("secret")) or not field.repr or is_secret(field.name),
    )


def _hashable(raw: object) -> object:
    """TOML arrays as tuples, all the way down."""
    return tuple(_hashable(item) for item in raw) if isinstance(raw, list) else raw


def make_checker(
    checker: type[Checker], table: Mapping[str, object], path: Path, findings: Findings
) -> Checker | None:
    """A checker with the settings of `table`, or None after reporting what is wrong.

    `table` holds the checker's own keys only; its `expect` table holds fields too.
    """
    known = _settings(checker)
    raw, paths = _flatten(table, path, findings)
    values: dict[str, object] = {}
    for name, value in raw.items():
        setting = known.get(name)
        if setting is None:
            unknown_key(findings, paths[name], known, f" of the check type {checker.kind}")
            continue
        if paths[name] == (*path, "expect", name):
            value = _as_texts(value, setting)
        read = _read(setting, value, paths[name], findings)
        if read is not _FAULTY:
            values[name] = read
    missing = [name for name in known if known[name].required and name not in values]
    for name in missing:
        if name not in raw:
            findings.error("LB303", path, f'the key "{name}" is missing')
    if missing:
        return None
    made = _construct(checker, values, paths, path, findings)
    return made if len(values) == len(raw) else None


def _read(setting: _Setting, value: object, path: Path, findings: Findings) -> object:
    """The value for the checker's field, or `_FAULTY` after reporting what is wrong."""
    if setting.secret:
        findings.keep_secret(path)
    if _is_pairs(setting.annotation) and not isinstance(value, dict):
        message = f"{path[-1]} must be a table, not {said(value)}"
        findings.error("LB304", path, message, help='write { "name" = "value" }')
        return _FAULTY
    try:
        return setting.read(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        complain(details, value, path, findings)
        return _FAULTY


def _flatten(
    table: Mapping[str, object], path: Path, findings: Findings
) -> tuple[dict[str, object], dict[str, Path]]:
    """The keys of a check and of its `expect` table side by side, with their paths."""
    raw = {name: value for name, value in table.items() if name != "expect"}
    paths: dict[str, Path] = {name: (*path, name) for name in raw}
    expect = table.get("expect")
    for name, value in expect.items() if isinstance(expect, dict) else ():
        place = (*path, "expect", name)
        if name in raw:
            message = f'"{name}" stands in the check and in its expect table'
            findings.error("LB307", place, message, at=At.KEY, help="leave one of them out")
        raw[name] = value
        paths[name] = place
    return raw, paths


def _as_texts(value: object, setting: _Setting) -> object:
    """Numbers as texts, for fields that hold texts: `status = [200, "300-399"]`."""
    if setting.annotation != _TEXTS or not isinstance(value, list):
        return value
    return [str(item) if type(item) is int and -999 <= item <= 999 else item for item in value]


def _construct(
    checker: type[Checker],
    values: Mapping[str, object],
    paths: Mapping[str, Path],
    path: Path,
    findings: Findings,
) -> Checker | None:
    """The checker, or None after reporting every setting that its constructor refuses."""
    field = ""
    try:
        return checker(**values)
    except SettingError as error:
        field = error.field
        place = paths.get(field, (*path, "type"))
        part = None if error.position is None else (error.position, 1)
        message = f"{field}: {error.message}" if field else error.message
    except (ValueError, TypeError) as error:  # a plug-in that does not know SettingError
        place, part, message = (*path, "type"), None, str(error)
    known = _settings(checker)
    for name, value in values.items():
        if known[name].secret and isinstance(value, str) and value:
            message = message.replace(value, "*" * len(value))
    findings.error("LB410", place, message, part=part)
    if field in values and not known[field].required:  # without it the next one comes to light
        rest = {name: value for name, value in values.items() if name != field}
        _construct(checker, rest, paths, path, findings)
    return None
