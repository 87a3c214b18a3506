"""Tests that need the real kernel: collected in the lab guest only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

if os.environ.get("IPVS_LAB") != "1":
    collect_ignore_glob = ["*.py"]


@pytest.fixture
def clean_ipvs() -> Iterator[None]:
    """An empty IPVS table with fresh time-outs, before and after."""
    subprocess.run(["ipvsadm", "-C"], check=True)
    yield
    subprocess.run(["ipvsadm", "-C"], check=True)
