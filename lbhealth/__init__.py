"""lbhealth: which real servers behind a load balancer may get new connections, and how many.

::

    async with Director(config, driver=MemoryDriver()) as director:
        async for event in director.events():
            ...

Names are imported on first use: `import lbhealth` loads no third-party package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Config": "lbhealth.model",
    "Director": "lbhealth.engine.director",
    "MemoryDriver": "lbhealth.drivers.memory",
    "Registry": "lbhealth.plugins",
    "Snapshot": "lbhealth.engine.snapshot",
    "load": "lbhealth.config",
    "run_check": "lbhealth.engine.runner",
}

if TYPE_CHECKING:
    from lbhealth.config import load
    from lbhealth.drivers.memory import MemoryDriver
    from lbhealth.engine.director import Director
    from lbhealth.engine.runner import run_check
    from lbhealth.engine.snapshot import Snapshot
    from lbhealth.model import Config
    from lbhealth.plugins import Registry

__all__ = [
    "Config",
    "Director",
    "MemoryDriver",
    "Registry",
    "Snapshot",
    "__version__",
    "load",
    "run_check",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lbhealth' has no attribute {name!r}")
