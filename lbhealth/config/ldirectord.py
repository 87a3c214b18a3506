"""ldirectord.cf: the whole language, every error in one run.

What works in ldirectord keeps its meaning; what goes wrong there without a word becomes an
error or a warning with a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbhealth.config.cf import advice
from lbhealth.config.cf.lower import Lowering
from lbhealth.config.cf.report import Report
from lbhealth.config.cf.rules import Scope
from lbhealth.config.cf.settings import GLOBAL, VIRTUAL, read_global
from lbhealth.config.cf.syntax import scan
from lbhealth.config.loading import CheckerRegistry, Resolver
from lbhealth.config.source import Diagnostic, Severity, SourceFile
from lbhealth.model import Config, DirectorSettings

__all__ = ["Reading", "parse_ldirectord", "read_ldirectord"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a file.

    `globals` has also what the model has no place for, because it is about the command and
    not about the services: `logfile`, `fork`, `supervised`, `autoreload`, `execute`, ....
    """

    config: Config | None
    diagnostics: list[Diagnostic]
    globals: Scope


def read_ldirectord(text: str, name: str, registry: CheckerRegistry, resolver: Resolver) -> Reading:
    """Read the text of a file called `name`; never raises for what the text holds."""
    report = Report(SourceFile.of(name, text), {*GLOBAL, *VIRTUAL, "virtual", "virtual6"})
    sheet = scan(report, GLOBAL.keys(), VIRTUAL.keys())
    # Globals may stand anywhere and count for every section, so they are read first.
    shared = read_global(sheet.globals, report)
    lowering = Lowering(shared, registry, resolver, report)
    results = [lowering.section(section) for section in sheet.sections]
    advice.on_file(shared, [scope for _, scope in results], report)
    config = None
    if not any(d.severity is Severity.ERROR for d in report.diagnostics):
        config = Config(
            virtual=tuple(service for service, _ in results if service is not None),
            director=DirectorSettings(
                clean_stop=shared.flags.get("cleanstop", True),
                prune=True,  # ldirectord: strangers inside its own services go
            ),
        )
    return Reading(config, report.diagnostics, shared)


def parse_ldirectord(
    text: str, name: str, registry: CheckerRegistry, resolver: Resolver
) -> tuple[Config | None, list[Diagnostic]]:
    """The configuration, None if there is an error among the findings, and the findings."""
    reading = read_ldirectord(text, name, registry, resolver)
    return reading.config, reading.diagnostics
