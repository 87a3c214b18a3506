"""Helpers for the tests of lbhealth and of its plug-ins; nothing here needs a test framework."""

from __future__ import annotations

from lbhealth.testing.clock import FakeClock
from lbhealth.testing.contract import CheckerContract
from lbhealth.testing.servers import ScriptedServer

__all__ = ["CheckerContract", "FakeClock", "ScriptedServer"]
