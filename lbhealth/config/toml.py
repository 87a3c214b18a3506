"""Read a TOML configuration: `tomllib` for truth, an index for places, models for structure.

Everything that is wrong is reported in one run.  The steps: syntax; the structure of each
table (`schema`); names, addresses and checks (`tomlservices`, `tomlchecks`); and what is
doubtful although it is well-formed (`tomllints`).
"""

from __future__ import annotations

from typing import Any

from lbhealth.config.loading import CheckerRegistry, Resolver
from lbhealth.config.schema import Director, File
from lbhealth.config.source import Diagnostic
from lbhealth.config.tomlchecks import CheckReader
from lbhealth.config.tomlfindings import At, Findings
from lbhealth.config.tomllints import lint
from lbhealth.config.tomlservices import Placed, ServiceReader
from lbhealth.config.tomlsyntax import read_document, too_deep
from lbhealth.config.tomlwords import validate
from lbhealth.model import Config, DirectorSettings

__all__ = ["parse_toml"]


def parse_toml(
    text: str, name: str, registry: CheckerRegistry, resolver: Resolver
) -> tuple[Config | None, list[Diagnostic]]:
    """The configuration in `text`, the content of a file called `name`, and all findings.

    The configuration is None when there is an error among them.  Names are resolved, which
    may block.  Never raises for what the text holds.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        document = read_document(text, name)
        if isinstance(document, Diagnostic):
            return None, [document]
        findings = Findings(name, text)
        config = _configuration(document, findings, registry, resolver)
        diagnostics = findings.diagnostics()
    except RecursionError:
        return None, [too_deep(text, name)]
    return (None if findings.failed else config), diagnostics


def _configuration(
    document: dict[str, Any], findings: Findings, registry: CheckerRegistry, resolver: Resolver
) -> Config:
    file = validate(File, document, (), findings)
    given = file.director if file else Director()
    director = DirectorSettings(resync=given.resync, clean_stop=given.clean_stop, prune=given.prune)
    reader = ServiceReader(findings, resolver, CheckReader(registry, findings), director)
    placed: list[Placed] = []
    listed = document.get("virtual")
    for number, raw in enumerate(listed if isinstance(listed, list) else ()):
        service = reader.read(raw, ("virtual", number))
        if service is not None:
            placed.append(service)
    _warn_idle(document, findings)
    lint(placed, findings)
    return Config(virtual=tuple(item.service for item in placed), director=director)


def _warn_idle(document: dict[str, Any], findings: Findings) -> None:
    """One warning for each table that is read but not acted on yet."""
    for table in ("ipvs", "snmp"):
        if table in document:
            findings.warning("LB380", (table,), f"[{table}] is not acted on yet", at=At.KEY)
    listed = document.get("virtual")
    for number, virtual in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(virtual, dict) and "feedback" in virtual:
            path = ("virtual", number, "feedback")
            message = "feedback is not acted on yet: weights stay as configured"
            findings.warning("LB380", path, message, at=At.KEY)
