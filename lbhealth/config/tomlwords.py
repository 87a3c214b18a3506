"""Validate a table against its model, and say what is wrong in the words of operators.

`pydantic` finds the errors; nothing of its vocabulary leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lbhealth.config.source import nearest
from lbhealth.config.tomlfindings import At, Findings
from lbhealth.config.tomlspans import Path
from lbhealth.config.tomlvalues import said, shown

__all__ = ["complain", "dotted", "nested_model", "salvage", "unknown_key", "validate"]

_Model = TypeVar("_Model", bound=BaseModel)

_EXPECTED = {
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}

_LDIRECTORD_KEYS = {
    "callback": "only an ldirectord.cf has it",
    "checkcommand": "see the check types",
    "checkcount": "write check = { fall = … }",
    "checkinterval": "write check = { interval = … }",
    "checkport": "write check = { port = … }",
    "checktimeout": "write check = { timeout = … }",
    "checktype": "write check = { type = … }",
    "cleanstop": 'write "clean_stop" under [director]',
    "failurecount": "write check = { fall = … }",
    "gate": 'write forwarding = "route"',
    "httpmethod": "write check = { method = … }",
    "ipip": 'write forwarding = "tunnel"',
    "negotiatetimeout": "write check = { timeout = … }",
    "netmask": "write persistence = { netmask = … }",
    "ops": "write one_packet = true",
    "passwd": "write password",
    "persistent": "write persistence = { timeout = … }",
    "protocol": 'write it behind the address: listen = "192.0.2.10:53/udp"',
    "quiescent": 'write on_down = "quiesce" or "remove"',
    "readdquiescent": "write readd_quiescent",
    "receive": "write check = { expect = { body = … } }",
    "request": "write check = { path = … }",
    "schedflags": "write flags = [ … ]",
    "service": "write check = { type = … }",
    "virtualhost": "write check = { host = … }",
}


def validate(model: type[_Model], raw: object, path: Path, findings: Findings) -> _Model | None:
    """The table at `path` as a model, or None after reporting everything wrong with it."""
    table, whole = salvage(model, raw, path, findings)
    return table if whole else None


def salvage(
    model: type[_Model], raw: object, path: Path, findings: Findings
) -> tuple[_Model | None, bool]:
    """As `validate`, but a table with faults comes without its faulty keys, and with False.

    So one slip does not hide the next: what is left can be looked at too.
    """
    try:
        return model.model_validate(raw), True
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        complain(details, raw, path, findings, model)
    if not isinstance(raw, dict):
        return None, False
    faulty = {detail["loc"][0] for detail in details}
    try:
        return model.model_validate({k: v for k, v in raw.items() if k not in faulty}), False
    except ValidationError:  # a key that must be there is not
        return None, False


def complain(
    details: Iterable[ErrorDetails],
    raw: object,
    path: Path,
    findings: Findings,
    model: type[BaseModel] | None = None,
) -> None:
    """Report the errors of a validator about the value `raw` at `path`."""
    expected: dict[Path, list[str]] = {}
    for detail in details:
        kind, context = detail["type"], detail.get("ctx", {})
        known, value = _locate(raw, detail["loc"])
        place = path + known
        if kind == "fault":
            message = f"{dotted(known or path)} {context['message']}"
            findings.error(context["code"], place, message, help=context["help"])
        elif kind == "missing":
            key = str(detail["loc"][-1])
            findings.error("LB303", place, f'the key "{key}" is missing')
        elif kind == "extra_forbidden":
            table = nested_model(model, known[:-1])
            unknown_key(findings, place, table.model_fields if table else ())
        elif kind == "literal_error":
            _not_a_word(findings, place, known or path, value, context["expected"])
        elif kind in _EXPECTED:
            expected.setdefault(known, []).append(_EXPECTED[kind])
        else:
            rule = detail["msg"].replace("Input should", "must")
            findings.error("LB305", place, f"{dotted(known or path)} {rule}")
    for known, words in expected.items():
        _, value = _locate(raw, known)
        what = " or ".join(dict.fromkeys(words))
        message = f"{dotted(known or path)} must be {what}, not {said(value)}"
        findings.error("LB304", path + known, message, help=_hint(what))


def unknown_key(findings: Findings, path: Path, known: Iterable[str], where: str = "") -> None:
    """Report a key that nobody reads, with the key that was probably meant."""
    key = str(path[-1])
    hint = _LDIRECTORD_KEYS.get(key) or nearest(key, known)
    findings.error("LB302", path, f'unknown key "{key}"{where}', at=At.KEY, help=hint)


def dotted(path: Path) -> str:
    """The name of a value for a message: its last key, with that of the table around it."""
    keys = [part for part in path if isinstance(part, str)]
    return ".".join(keys[-2:]) or "the document"


def nested_model(model: type[BaseModel] | None, path: Path) -> type[BaseModel] | None:
    """The model of a table inside the table of `model`."""
    for key in path:
        if model is None or not isinstance(key, str) or key not in model.model_fields:
            return None
        annotation = model.model_fields[key].annotation
        candidates = (annotation, *getattr(annotation, "__args__", ()))
        models = (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
        model = next(models, None)
    return model


def _locate(raw: object, location: tuple[int | str, ...]) -> tuple[Path, Any]:
    """Follow a location as far as the data goes; return that part and the value there.

    Locations also hold names of union members and missing keys, which the data does not.
    """
    for depth, key in enumerate(location):
        if isinstance(raw, Mapping):
            found = key in raw
        else:
            found = isinstance(raw, list) and isinstance(key, int) and key < len(raw)
        if not found:
            return location[:depth], raw
        raw = cast("Any", raw)[key]
    return location, raw


def _not_a_word(findings: Findings, place: Path, known: Path, value: object, allowed: str) -> None:
    words = cast("list[str]", re.findall(r"'([^']*)'", allowed))
    if not isinstance(value, str):
        findings.error("LB304", place, f"{dotted(known)} must be text, not {said(value)}")
        return
    listed = ", ".join(f'"{word}"' for word in words[:-1])
    choice = f'{listed} or "{words[-1]}"' if listed else f'"{words[0]}"'
    message = f"{dotted(known)} must be {choice}, not {shown(value)}"
    findings.error("LB305", place, message, help=nearest(value, words))


def _hint(expected: str) -> str:
    return {"a table": "write { key = value }", "a list": "write [ … ]"}.get(expected, "")
