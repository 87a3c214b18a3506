"""Run the tests of `inside/` on a real IPVS: in one guest, reported here one by one."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]

sys.path.insert(0, str(HERE))
import guest  # noqa: E402

pytestmark = pytest.mark.skipif("IPVS_LAB" in os.environ, reason="this is the guest already")


def the_guest_or_skip() -> None:
    reason = guest.unavailable()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.timeout(60)
def test_a_guest_returns_status_and_both_streams() -> None:
    the_guest_or_skip()
    done = guest.run("sh", "-c", "ipvsadm -Ln; echo to stderr >&2; exit 7", timeout=50)
    assert done.returncode == 7
    assert done.stdout.startswith("IP Virtual Server version")
    assert "to stderr\n" in done.stderr


@pytest.mark.timeout(900)
def test_inside_the_guest(
    tmp_path: Path, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    the_guest_or_skip()
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    report = tmp_path / "inside.xml"
    options = ["-p", "no:cacheprovider", "-q", f"--junitxml={report}", f"--rootdir={PROJECT}"]
    inside = HERE / "inside"
    done = guest.run(
        sys.executable, "-m", "pytest", *options, inside, timeout=840, writable=[tmp_path]
    )
    talk = f"{done.stdout}\n{done.stderr}"
    assert report.exists(), talk
    print(done.stdout)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    ran = 0
    for case in cases:
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        with subtests.test(msg=name):
            broken = (
                case.find("failure") if case.find("failure") is not None else case.find("error")
            )
            skipped = case.find("skipped")
            if broken is not None:
                pytest.fail(broken.text or broken.get("message", ""), pytrace=False)
            if skipped is not None:
                pytest.skip(skipped.get("message", ""))
            ran += 1
    assert ran, f"no test ran in the guest\n{talk}"
    assert done.returncode == 0, talk
