"""Whatever a file holds: an answer, never an exception."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.config import as_json, render
from lbhealth.config.cf.settings import GLOBAL, VIRTUAL
from lbhealth.config.codes import CODES
from lbhealth.model import Config
from tests.config.fakes import read, section

KEYS = st.sampled_from([*GLOBAL, *VIRTUAL, "virtual", "virtual6", "timeout", "quiescant", ""])
ATOMS = st.sampled_from(
    [
        *[
            "yes",
            "no",
            "5",
            "0",
            "10.0.0.1",
            "10.0.0.1:80",
            "[::1]:80",
            "::1",
            "->",
            "gate",
            "masq",
        ],
        *['"', '"a"', '"/x", "y"', "#", "l:1", "u:2", "http", "dns", "mysql", "wrr", "sh", "ping"],
        *[
            "web1.example.org:http",
            "http://h/p",
            "(",
            "[",
            "\\",
            "\x00",
            "\u00e9",
            "\udc80",
            "=",
            ":",
        ],
        *["9" * 5000, "x" * 300, "٣", "\u00a0", "\x85", "\u2028"],
    ]
)
VALUES = st.lists(ATOMS | st.text(max_size=8), max_size=5).flatmap(
    lambda parts: st.sampled_from([" ", "", ", "]).map(lambda glue: glue.join(parts))
)
LINES = st.tuples(
    st.sampled_from(["", "", "    ", "\t", " ", "     "]),
    KEYS,
    st.sampled_from(["=", " = ", "", " "]),
    VALUES,
    st.sampled_from(["", "", " ", "\r", " # c"]),
).map("".join)
FILES = st.lists(LINES | st.just("") | st.just("virtual=192.0.2.1:80"), max_size=12).map("\n".join)


def examine(text):
    loaded = read(text)
    assert (loaded.config is None) == bool(loaded.errors)
    lines = text.split("\n")
    for found in loaded.diagnostics:
        assert found.code in CODES
        assert 1 <= found.span.line <= len(lines)
        line = lines[found.span.line - 1]
        assert 1 <= found.span.column <= max(1, len(line))
        assert 1 <= found.span.length <= max(1, len(line))
        assert len(found.source) == len(line)
        assert found.message.isprintable()
        assert found.help.isprintable()
        as_json(found)
    shown = render(loaded.diagnostics)
    assert all(c == "\n" or c.isprintable() for c in shown)
    return loaded


@given(st.text())
def test_any_text(text):
    examine(text)


@given(FILES)
def test_any_file_of_known_words(text):
    examine(text)


@given(FILES)
def test_what_is_taken_is_consistent(text):
    loaded = read(text)
    if loaded.config is None:
        return
    keys = [service.key for service in loaded.config.virtual]
    assert len(keys) == len(set(keys))
    for service in loaded.config.virtual:
        rows = [service.destination_key(server) for server in service.real]
        assert len(rows) == len(set(rows))
        for server in service.real:
            assert server.weight >= 0
            assert 0 <= server.lower <= server.upper or not server.lower


@given(st.text(string.printable.replace("\n", ""), max_size=30))
def test_a_password_stays_secret(secret):
    needle = f"Zq{secret}7J"
    text = section(f'passwd="{needle}"', f"secret={needle}", f"paswd = {needle}", "service=x")
    for found in read(text).diagnostics:
        assert "Zq" not in found.message + found.help + found.source


@given(st.lists(st.sampled_from(["real=10.0.0.{n}:80 masq", "nonsense", "timeout=3"])))
def test_one_error_a_bad_line(lines):
    body = [line.format(n=n) for n, line in enumerate(lines, 1)]
    loaded = read(section(*body, real="real=10.0.1.1:80 masq"))
    bad = {n for n, line in enumerate(lines, 3) if "real" not in line}
    assert {d.span.line for d in loaded.errors} == bad
    assert len(loaded.errors) == len(bad)


@given(st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", " ", "\t"]))
def test_line_ends_and_trailing_blanks_change_nothing(end, blanks):
    lines = section("scheduler=rr", "quiescent=yes", 'receive="x"').splitlines()
    plain = read("\n".join(lines)).config
    assert isinstance(plain, Config)
    assert read(f"{blanks}{end}".join(lines)).config == plain


@pytest.mark.parametrize("text", ["x\n" * 20000, "    " + "a" * 200_000, "real=" + ":" * 100_000])
def test_large_nonsense_is_quick(text):
    assert read(text).config is None
    assert read(section(*text.split("\n"))).config is None
