"""How checks are carried out, cheaply or generally; the engine does not know which.

`TaskProber` runs any checker.  `ConnectProber` and `HttpProber` drive non-blocking sockets
without a Task, Stream or timer per check.
"""

from lbhealth.engine.probers.base import Job, Prober
from lbhealth.engine.probers.connect import ConnectProber
from lbhealth.engine.probers.http import HttpProber
from lbhealth.engine.probers.sockets import Connection, Sockets
from lbhealth.engine.probers.task import TaskProber

__all__ = [
    "ConnectProber",
    "Connection",
    "HttpProber",
    "Job",
    "Prober",
    "Sockets",
    "TaskProber",
]
