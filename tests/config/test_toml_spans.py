"""The span index: whatever is written, each place holds the text of its value."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.config import Span
from lbhealth.config.tomlspans import SpanIndex

# --------------------------------------------------------------------------- any document

blank = st.sampled_from(["", " ", "\t", "  "])
gap = st.sampled_from(["", " ", "\n", "  # a ] } , comment = 1\n", "\n\t\n"])
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8
) | st.sampled_from(['a"b', "it's", "[x]", "{y}", "# no comment", "a\\b", "k = v", ",", '""'])


def quoted(text):
    escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    ways = [st.just(escaped)]
    if "'" not in text:
        ways.append(st.just(f"'{text}'"))
        ways.append(st.just(f"'''{text}'''"))
        ways.append(st.just(f"'''\n{text}\nsecond = 'line' ]'''"))
    ways.append(st.just(f'""{escaped}""'))
    ways.append(st.just(f'""{escaped[:-1]}\\n""x" \\\n  y""""'))
    return st.one_of(ways)


bare = st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True)
key = bare | words.map(lambda text: json.dumps(text, ensure_ascii=False))
scalar = (
    words.flatmap(quoted)
    | st.integers().map(str)
    | st.sampled_from(["0xdead_beef", "0o17", "0b1", "+1_000", "1e6", "-0.5E-3", "inf", "-nan"])
    | st.sampled_from(["true", "false", "1979-05-27", "07:32:00.5", "1979-05-27 07:32:00Z"])
    | st.sampled_from(["1979-05-27T07:32:00-07:00", "1979-05-27 07:32:00.999"])
)


def array(elements):
    def write(items, gaps, trailing):
        parts = [f"{gaps[0]}{item}{gaps[1]}" for item in items]
        return "[" + ",".join(parts) + ("," if trailing and items else "") + gaps[2] + "]"

    return st.builds(write, st.lists(elements, max_size=4), st.tuples(gap, gap, gap), st.booleans())


def distinct(keys):
    return [tomllib.loads(f"{key} = 1").popitem()[0] for key in keys]


def inline(elements):
    def write(pairs, before, after):
        return "{" + ",".join(f"{before}{k}{after}={before}{v}{after}" for k, v in pairs) + "}"

    return st.builds(write, pair_lists(elements, 3), blank, blank)


def pair_lists(elements, size):
    unique = st.lists(
        st.tuples(key, elements), max_size=size, unique_by=lambda pair: distinct([pair[0]])[0]
    )
    return unique


values = st.recursive(scalar, lambda inner: array(inner) | inline(inner), max_leaves=8)
statement = st.tuples(blank, blank, gap)


@st.composite
def documents(draw):
    """Statements, tables, arrays of tables, sub-tables and dotted keys, under fresh names."""
    lines = []

    def statements(size):
        for name, value in draw(pair_lists(values, size)):
            before, after, end = draw(statement)
            dotted = draw(st.sampled_from(["", "sub . ", "sub.'x y'."]))
            lines.append(f"{before}{dotted}{name}{after}={before}{value}{after}\n{end}")

    statements(4)
    for number in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            lines.append(f" [ 't{number}' ] # ]\n")
            statements(3)
            continue
        for _ in range(draw(st.integers(1, 3))):
            lines.append(f"[[list{number}]]\n")
            statements(2)
            if draw(st.booleans()):
                lines.append(f"  [list{number}.'a.b'.inner]\n")
                statements(1)
            lines.extend([f"[[list{number}.deep]]\nn = 1\n"] * draw(st.integers(0, 2)))
    return "".join(lines)


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path, value


def containers(value, path=()):
    if isinstance(value, (dict, list)):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from containers(item, (*path, name))


@given(documents())
def test_every_place_holds_its_value(text):
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # the generated names met: not what this is about
    index = SpanIndex(text)
    for path, value in leaves(document):
        extent = index.values[path]
        again = tomllib.loads(f"x = {text[extent.start : extent.end]}")["x"]
        assert repr(again) == repr(value)
        if isinstance(path[-1], str):
            place = index.keys[path]
            word = text[place.start : place.end]
            assert tomllib.loads(f"{word} = 1") == {path[-1]: 1}
    for path in containers(document):
        assert path == () or path in index.values


@given(documents())
def test_spans_lie_in_the_text(text):
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    index = SpanIndex(text)
    lines = text.split("\n")
    for path, extent in index.values.items():
        span = index.value(path)
        line = lines[span.line - 1]
        assert 1 <= span.column <= len(line) + 1
        shown = line[span.column - 1 : span.column - 1 + span.length]
        assert text[extent.start : extent.end].startswith(shown)


# --------------------------------------------------------------------------- examples

TEXT = """\
title = "x"
[a.b]
c.d = 1
[[v]]
list = [ 1, { e = 'z' },
  3 ]
[[v]]
[v.sub]
k = "0123\\t5"
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("title",), Span(1, 1, 5), Span(1, 9, 3)),
        (("a", "b"), Span(2, 4, 1), Span(2, 1, 5)),
        (("a", "b", "c"), Span(3, 1, 1), Span(3, 1, 1)),
        (("a", "b", "c", "d"), Span(3, 3, 1), Span(3, 7, 1)),
        (("v",), Span(4, 3, 1), Span(4, 1, 5)),
        (("v", 0), Span(4, 3, 1), Span(4, 1, 5)),
        (("v", 1), Span(7, 3, 1), Span(7, 1, 5)),
        (("v", 0, "list"), Span(5, 1, 4), Span(5, 8, 17)),
        (("v", 0, "list", 1, "e"), Span(5, 15, 1), Span(5, 19, 3)),
        (("v", 0, "list", 2), Span(6, 3, 1), Span(6, 3, 1)),
        (("v", 1, "sub", "k"), Span(9, 1, 1), Span(9, 5, 9)),
        (("v", 1, "sub", "nothing", 5), Span(8, 1, 7), Span(8, 1, 7)),
        (("nothing",), Span(1, 1, 1), Span(1, 1, 1)),
    ],
)
def test_places(path, key, value):
    index = SpanIndex(TEXT)
    assert index.key(path) == key
    assert index.value(path) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"abcdef"', Span(1, 8, 2)),
        ("'abcdef'", Span(1, 8, 2)),
        ('"a\\tcdef"', Span(1, 5, 9)),  # escapes: offsets differ
        ('"""abcdef"""', Span(1, 5, 12)),
        ("5", Span(1, 5, 1)),
        ('"ab"', Span(1, 8, 1)),  # at the end, such as for a bracket that is missing
        ('"a"', Span(1, 5, 3)),  # beyond the end
    ],
)
def test_inside_of_a_text(value, expected):
    index = SpanIndex(f"k = {value}")
    assert index.inside(("k",), 2, 2) == expected
    assert index.inside(("x",), 2, 2) == Span(1, 1, 1)
