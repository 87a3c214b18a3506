"""The documentation: configurations in it can be used, JSON parses, links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from lbhealth.config import parse
from lbhealth.plugins import Registry

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])

FENCE = re.compile(r"^(`{3,})\s*(?P<info>[^\n`]*)\n(?P<body>.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
LANGUAGES = {"toml": ".toml", "cf": ".cf", "ini": ".cf"}


class Resolver:
    """Names in examples need no name server."""

    def address(self, host, family):
        return "2001:db8::53" if family.name == "AF_INET6" else "192.0.2.53"

    def port(self, service, protocol):
        return {"http": 80, "https": 443, "domain": 53}[service]


def blocks(*languages):
    """Fenced blocks in these languages, as parameters.

    The language is the first word after the fence or after `{code-block}`.  A configuration
    that is only part of a file says so in a second word: `toml fragment`.
    """
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            words = match["info"].replace("{code-block}", "").split()
            if words and words[0] in languages and "fragment" not in words:
                line = text.count("\n", 0, match.start()) + 1
                name = f"{page.relative_to(ROOT)}:{line}"
                found.append(pytest.param(words[0], match["body"], id=name))
    return found


@pytest.mark.parametrize(("language", "text"), blocks(*LANGUAGES))
def test_configurations_can_be_used(language, text):
    loaded = parse(text, f"example{LANGUAGES[language]}", Registry(), Resolver())
    assert [str(finding) for finding in loaded.errors] == []


@pytest.mark.parametrize(("language", "text"), blocks("json"))
def test_json_parses(language, text):
    json.loads(text)


@pytest.mark.parametrize(("language", "text"), blocks("python"))
def test_python_compiles(language, text):
    compile(text, "example.py", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
