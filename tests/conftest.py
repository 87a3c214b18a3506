"""Settings for the whole suite."""

import os

import pytest
from hypothesis import settings

settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("soak", max_examples=5000, deadline=None)
settings.load_profile("default")

NO_SKIP = bool(os.environ.get("LBHEALTH_NO_SKIP"))
"""Set in continuous integration: a test that cannot run there is a failure."""


def fail_if_skipped(report):
    """Turn a skip into a failure that gives its reason."""
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"LBHEALTH_NO_SKIP is set, but: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """A test that is skipped, or skips itself."""
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """A module that skips itself while it is imported."""
    return fail_if_skipped((yield))
