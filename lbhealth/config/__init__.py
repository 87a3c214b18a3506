"""From a file to a `Config`, with every finding at its place.

Knows the model and the standard library (and pydantic, in `toml` alone); is handed the
checker classes by the caller and imports none.
"""

from __future__ import annotations

from lbhealth.config.loading import CheckerRegistry, Loaded, Resolver, SystemResolver, load, parse
from lbhealth.config.source import Diagnostic, Severity, Span, as_json, render

__all__ = [
    "CheckerRegistry",
    "Diagnostic",
    "Loaded",
    "Resolver",
    "Severity",
    "Span",
    "SystemResolver",
    "as_json",
    "load",
    "parse",
    "render",
]
