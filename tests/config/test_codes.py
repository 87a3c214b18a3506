"""The table of codes, the code that emits them and the page that explains them agree."""

import re
from pathlib import Path

import lbhealth.config
from lbhealth.config.codes import CODES

PACKAGE = Path(lbhealth.config.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "diagnostics.md"


def emitted():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "codes.py":
            yield from re.findall(r"\bLB[0-9]{3}\b", path.read_text())


def test_every_emitted_code_is_in_the_table():
    assert set(emitted()) <= set(CODES)


def test_every_code_of_the_table_is_emitted():
    assert set(CODES) <= set(emitted())


def test_the_table_is_in_order():
    assert list(CODES) == sorted(CODES)
    assert all(re.fullmatch(r"LB[1-4][0-9]{2}", code) for code in CODES)


def test_the_page_lists_every_code_with_its_title():
    listed = dict(re.findall(r"^\| `(LB[0-9]{3})` \| ([^|]+?) \|", PAGE.read_text(), re.M))
    assert listed == dict(CODES)
