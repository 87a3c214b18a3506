"""The page about the judges holds the table that the tests check, and all its explanations."""

from pathlib import Path

import pytest

from tests.judges.table import HAPROXY, PLUGINS, WHY, page_reasons, page_table

PAGE = Path(__file__).parents[2] / "docs/reference/judges.md"
PARTS = [page_reasons(), page_table(HAPROXY, "HAProxy"), page_table(PLUGINS, "plug-in")]


def test_the_page_has_these_tables_and_no_other():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("|")] == "\n".join(PARTS).splitlines()


def test_the_page_counts_right():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for table, judge in ((HAPROXY, "HAProxy"), (PLUGINS, "the plug-ins")):
        agree = sum(row.agrees for row in table)
        assert f"{judge} in {agree} of {len(table)} cases" in text


@pytest.mark.parametrize("row", HAPROXY + PLUGINS, ids=str)
def test_every_difference_is_explained_and_nothing_else(row):
    assert (row.why in WHY) == (not (row.agrees and row.same_status)), row
    assert row.why in ("", *WHY)


def test_every_explanation_is_used():
    assert {row.why for row in HAPROXY + PLUGINS} - {""} == set(WHY)
