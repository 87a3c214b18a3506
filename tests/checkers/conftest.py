"""What the checkers are tried against."""

import pytest

from lbhealth.engine.runner import run_check
from tests.servers.nginx import nginx

__all__ = ["nginx", "probe"]


@pytest.fixture
def probe():
    """Run a check once and return (verdict, status, detail)."""

    async def run(checker, target, timeout=2.0, trace=None):
        result = await run_check(checker, target, timeout, trace)
        return (str(result.verdict), str(result.status), result.detail)

    return run
