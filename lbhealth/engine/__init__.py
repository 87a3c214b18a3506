"""From results to decisions to the kernel: slots, probers, and the Director."""

from lbhealth.engine.director import Director
from lbhealth.engine.runner import run_check
from lbhealth.engine.snapshot import Snapshot

__all__ = ["Director", "Snapshot", "run_check"]
