"""Run commands on a real IPVS, in the lab guest (see ipvs_lab.sh)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).with_name("ipvs_lab.sh")

CANNOT_RUN = 125
"""The script's exit status when there is no guest."""


@functools.cache
def unavailable() -> str | None:
    """Why there can be no guest on this machine; None when there can.

    The first call may fetch Debian's user-mode-linux and the tools that the script needs.
    """
    if os.geteuid() != 0:
        return "the lab guest needs root"
    if os.uname().machine != "x86_64" or shutil.which("dpkg") is None:
        return "the lab guest needs Debian on amd64"
    try:
        done = subprocess.run(
            [SCRIPT, "--prepare", "--extra", "iptables"],
            capture_output=True,
            text=True,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the lab guest cannot be prepared: {error}"
    if done.returncode:
        return f"the lab guest cannot be prepared: {done.stderr.strip()}"
    return None


def run(
    *command: str | Path,
    timeout: float = 300,
    writable: Sequence[Path] = (),
    memory: str = "1G",
) -> subprocess.CompletedProcess[str]:
    """Run a command in a guest of its own, in this directory and with this environment.

    `timeout` is in seconds; after it the guest is powered off and the status is 124.  What
    the command writes is forgotten, except below the `writable` directories.
    """
    shares = [word for path in writable for word in ("--rw", str(path))]
    options = ["--timeout", str(int(timeout)), "--mem", memory, *shares]
    return subprocess.run(
        [SCRIPT, *options, "--", *map(str, command)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout + 60,
    )
