"""Lines, comments, indentation, quotes."""

import pytest

from tests.config.fakes import codes, one, read, section

GOOD = "virtual=192.0.2.1:80\n    real=10.0.0.1:80 masq\n    scheduler=rr\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n   \n", []),
        ("# c\n   # c\n", []),
        (GOOD, []),
        (GOOD.replace("    ", "\t"), []),
        (GOOD.replace("    ", "        "), []),
        (GOOD.replace("=", " = "), []),
        (GOOD.replace("\n", "  \n"), []),
        (GOOD.replace("\n", "\r\n"), ["LB112"]),
        (GOOD.replace("    sch", "# c\n  # c\n\t# c\n    sch"), []),
        (GOOD.replace("rr", "rr # c"), []),
        (GOOD.replace("rr", "rr# c"), []),
        (GOOD.replace(":80\n", ":80 # c\n", 1), []),
        (GOOD.replace(":80\n", ":80 more\n", 1), ["LB114"]),
        (GOOD.replace("    sch", "\n    sch"), ["LB113"]),
        (GOOD.replace("    sch", "      \n    sch"), ["LB113"]),
        (GOOD.replace("    sch", "  sch"), ["LB113"]),
        (GOOD + "\n\n" + GOOD.replace(".1:80", ".2:80"), []),
        ("quiescent=yes # c\n", ["LB117"]),
        ("checkinterval=5 # c\n", ["LB117"]),
        (" quiescent=yes\n", ["LB111"]),
        ("    real=10.0.0.1:80 masq\n", ["LB111"]),
        (GOOD + "quiescent=yes\n    ops=no\n    quiescent=no\n", ["LB111"]),
    ],
)
def test_lines(text, expected):
    loaded = read(text)
    assert codes(loaded) == expected


def test_a_blank_line_does_not_lose_what_follows():
    assert one(GOOD.replace("    sch", "\n    sch")).scheduler == "rr"


def test_the_error_after_a_global_line_names_it():
    (error,) = read(GOOD + "quiescent=yes\n    ops=no\n").errors
    assert '"quiescent" of line 4 has ended the section' in error.message


def test_an_unknown_line_at_the_margin_is_the_only_error():
    loaded = read(GOOD.replace("    sch", "nonsense\n    sch"))
    assert codes(loaded) == ["LB101"]


def test_a_section_at_the_very_end_of_the_file():
    # ldirectord takes the line twice and complains of a duplicate.
    assert codes(read(GOOD + "virtual=192.0.2.2:80")) == ["LB219"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('passwd="a#b"', "LB110"),
        ('receive="a#b"', "LB110"),
        ('real=10.0.0.2:80 masq "/a#b", "c"', "LB110"),
    ],
)
def test_a_hash_inside_quotes_is_refused_as_in_ldirectord(line, code):
    assert [d.code for d in read(section(line)).errors] == [code]


def test_a_hash_inside_optional_quotes_cuts_the_value():
    loaded = read(section('virtualhost="www#x"'))
    assert codes(loaded) == ["LB110"]
    assert loaded.config.virtual[0].real[0].checks[0].checker.host == "www"


def test_quotes_reach_to_the_last_one():
    service = one(section('receive="say "hi" now" # and "more"'))
    assert service.real[0].checks[0].checker.body_regex == 'say "hi" now'


def test_a_tab_inside_quotes_is_four_blanks():
    service = one(section('receive="a\tb"'))
    assert service.real[0].checks[0].checker.body_regex == "a    b"


def test_places_count_characters():
    (error,) = read("virtual=192.0.2.1:80\n\tscheduler =\twrx # täst\n").errors
    assert (error.code, error.span.line) == ("LB104", 2)
    assert (error.span.column, error.span.length) == (14, 3)
    assert error.source == "\tscheduler =\twrx # täst"


@pytest.mark.parametrize(
    "line",
    [
        'passwd="hunter2',
        "passwd=hunter2",
        'passwd="a#hunter2"',
        'passwd "hunter2"',
        'paswd="hunter2"',
        'password="hunter2"',
        'Passwd = "hunter2"',
        'pass"hunter2"',
        'secrets="hunter2"',
        "secret=hunter2",
        '"passwd=hunter2"',
        'scret="hunter2"',
        "passwd='hunter2'",
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
def test_secrets_are_never_shown(line, indent):
    loaded = read(f"{GOOD}{indent}{line}\n")
    assert loaded.errors
    for found in loaded.diagnostics:
        assert "hunter2" not in f"{found.message}{found.help}{found.source}"
        assert len(found.source) == len(indent + line)


def test_a_masked_line_keeps_its_shape():
    (error,) = read(GOOD + "    passwd = hunter2").errors
    assert error.source == "    passwd = *******"


def test_all_errors_come_in_one_run():
    text = "\n".join(
        [
            "checkinterval=x",
            "nonsense",
            "virtual=192.0.2.1:80",
            "    real=10.0.0.1:80",
            '    real=10.0.0.2:80 gate "x"',
            "    scheduler=wrx",
            '    receive="("',
            "    service=htp",
            "virtual=192.0.2.2",
            "    real=nowhere.example.org:80 masq",
            '    service=http\n    receive="["',
        ]
    )
    assert [(d.span.line, d.code) for d in read(text).errors] == [
        (1, "LB107"),
        (2, "LB101"),
        (4, "LB204"),
        (5, "LB204"),
        (6, "LB104"),
        (8, "LB108"),
        (9, "LB201"),
        (10, "LB401"),
        (12, "LB410"),
    ]
