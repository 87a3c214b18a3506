"""What people read: the exact text for a few files."""

from pathlib import Path

import pytest

from lbhealth.config import render
from tests.config.fakes import read

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.cf")), ids=lambda path: path.stem)
def test_rendered(path):
    loaded = read(path.read_bytes().decode(), path.name)
    expected = path.with_suffix(".txt").read_text()
    assert render(loaded.diagnostics) + "\n" == expected
