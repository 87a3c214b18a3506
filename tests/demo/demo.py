"""`make demo`: lbhealth at its main job, on a real IPVS kernel where one can be had.

The act itself is `act.py`.  It runs in the lab guest (a Linux kernel as an ordinary process),
and where that cannot be booted, here with a table in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ACT = [sys.executable, "-u", str(HERE / "act.py")]
LAB = ["bash", str(HERE.parent / "lab" / "ipvs_lab.sh"), "--quiet", "--timeout", "150"]


def main() -> int:
    """Run the act; return its exit status."""
    reason = _no_lab()
    if reason is None:
        print("Data plane: the Linux kernel's IPVS, in a lab guest on this machine.\n", flush=True)
        return subprocess.run([*LAB, "--", *ACT, "--driver", "ipvs"], check=False).returncode
    print(f"Data plane: a table in memory, because there is no IPVS lab here ({reason}).\n")
    sys.stdout.flush()
    return subprocess.run([*ACT, "--driver", "memory"], check=False).returncode


def _no_lab() -> str | None:
    """Why the lab guest cannot be used, or None if it can."""
    if os.geteuid() != 0:
        return "it needs root to fetch and boot its kernel"
    try:
        trial = subprocess.run(
            [*LAB, "--", "ipvsadm", "-Ln"], capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if trial.returncode == 0:
        return None
    return (trial.stderr.strip().splitlines() or [f"exit status {trial.returncode}"])[-1]


if __name__ == "__main__":
    sys.exit(main())
