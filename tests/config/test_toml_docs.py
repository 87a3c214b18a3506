"""The page about the TOML form: its examples are good, its tables are complete and right."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.config import render
from lbhealth.config import schema as s
from lbhealth.config.codes import CODES
from tests.config.fakes import FakeRegistry, read

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/toml.md").read_text()
REGISTRY = FakeRegistry(Tcp, Ping, Http, Https)
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples(text):
    loaded = read(text, "example.toml", REGISTRY)
    assert loaded.config is not None, render(loaded.diagnostics)
    assert {d.code for d in loaded.diagnostics} <= {"LB380"}, render(loaded.diagnostics)


def models():
    found = [value for value in vars(s).values() if isinstance(value, type)]
    return [m for m in found if issubclass(m, BaseModel) and m.__module__ == s.__name__]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_key_is_described(model):
    for key in model.model_fields:
        assert f"`{key}`" in PAGE or f"[{key}]" in PAGE or f"[[{key}]]" in PAGE, key


def test_every_code_is_described():
    page = (ROOT / "docs/reference/diagnostics.md").read_text()
    for code, title in CODES.items():
        assert code in page, title
