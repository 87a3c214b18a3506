"""Whatever a file holds, reading it gives findings, never an exception."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.config import Severity, as_json, render
from lbhealth.config.codes import CODES
from lbhealth.config.schema import CheckTable, File, RealTable, VirtualTable
from tests.config.fakes import FakeRegistry, FakeResolver, read

REGISTRY = FakeRegistry(Tcp, Ping, Http, Https)

GOOD = """\
[director]
resync = "10s"
[[virtual]]
name = "web"
listen = "192.0.2.10:80/tcp"
scheduler = "sh"
persistence = { timeout = "10m", netmask = "255.255.255.255" }
fallback = { address = "127.0.0.1:8080", forwarding = "masq" }
check = [{ type = "http", host = "www.example.org", expect = { status = [200] } }, {type="ping"}]
real = [ { address = "10.0.0.1:80", tunnel = { type = "gue", port = 5 } } ]
[[virtual]]
fwmark = 5
check = { type = "hybrid", connects = 5, negotiate = { type = "https" } }
[[virtual.real]]
address = "web1.example.org:http"
"""


def check_findings(text):
    loaded = read(text, "test.toml", REGISTRY)
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    for found in loaded.diagnostics:
        assert found.code in CODES
        assert found.message
        assert 1 <= found.span.line <= len(lines)
        assert 1 <= found.span.column <= len(lines[found.span.line - 1]) + 1
        json.dumps(as_json(found))
        assert not any(word in found.message for word in ("pydantic", "Input", "dict", "str "))
    failed = any(d.severity is Severity.ERROR for d in loaded.diagnostics)
    assert (loaded.config is None) == failed
    render(loaded.diagnostics)
    return loaded


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text(text):
    check_findings(text)


@given(st.lists(st.sampled_from(list("[]{}=\"'\n#,.a1- \\")), max_size=30).map("".join))
def test_any_punctuation(text):
    check_findings(text)


@given(st.data())
def test_a_good_file_with_a_part_replaced(data):
    start = data.draw(st.integers(0, len(GOOD)))
    end = min(len(GOOD), start + data.draw(st.integers(0, 12)))
    new = data.draw(st.text(max_size=5) | st.sampled_from(["[", "]", "{", '"', "\n", "0", "-1"]))
    check_findings(GOOD[:start] + new + GOOD[end:])


NAMES = sorted(
    {
        *(*File.model_fields, *VirtualTable.model_fields, *RealTable.model_fields),
        *(*CheckTable.model_fields, "negotiate", "connects", "path", "status", "headers", "body"),
    }
)
WORDS = [
    "tcp",
    "http",
    "https",
    "ping",
    "hybrid",
    "on",
    "smtp",
    "5s",
    "50%",
    "10.0.0.1:80",
    "[::1]:0",
]
plain = st.none().map(lambda _: "inf") | st.booleans().map(json.dumps) | st.integers().map(str)
value = st.recursive(
    plain | st.sampled_from(WORDS).map(json.dumps) | st.sampled_from(["1979-05-27", "nan", "''"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6).map(
            lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), value, max_size=6), st.booleans())
def test_known_keys_with_any_values(table, inside):
    head = '[[virtual]]\nlisten = "192.0.2.10:80"\n' if inside and "listen" not in table else ""
    check_findings(head + "".join(f"{k} = {v}\n" for k, v in table.items()))


@pytest.mark.parametrize("opening", ["[", "{a=", "[{a="])
@pytest.mark.parametrize("depth", [50, 400, 5000])
def test_deep_nesting(opening, depth):
    close = {"[": "]", "{a=": "}", "[{a=": "}]"}[opening]
    text = f"[[virtual]]\ncheck = {opening * depth}1{close * depth}\n"
    assert check_findings(text).config is None


def test_the_good_file_is_good():
    loaded = check_findings(GOOD)
    assert [d.code for d in loaded.errors] == ["LB417"]  # a tunnel, but not forwarded so


def test_ten_thousand_servers_are_read_in_good_time():
    real = "".join(
        f'  {{ address = "10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80", weight = 5 }},\n'
        for n in range(10_000)
    )
    text = (
        f'[[virtual]]\nlisten = "192.0.2.10:80"\ncheck = {{ type = "http" }}\nreal = [\n{real}]\n'
    )
    start = time.process_time()
    loaded = read(text, "test.toml", REGISTRY, FakeResolver())
    assert time.process_time() - start < 5  # far above what is measured, for slow machines
    assert loaded.config is not None
    servers = loaded.config.virtual[0].real
    assert len(servers) == 10_000
    assert len({id(s.checks[0].checker) for s in servers}) == 1
    assert len({id(s.checks[0].schedule) for s in servers}) == 1
    assert all(s.address is s.checks[0].target.address for s in servers)
