"""The layers: imports point one way, and a library user pays for nothing that is not used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lbhealth"

LAYERS = [
    {"errors"},
    {"model"},
    {"health", "weights", "events"},
    {"policy"},
    {"plan"},
    {"config", "checkers", "feedback", "drivers"},
    {"engine"},
    {"services"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
CORE = {part for parts in LAYERS[:5] for part in parts}

FORBIDDEN_IN_CORE = {"asyncio", "logging", "selectors", "ssl", "subprocess", "threading", "time"}
"""The core knows no clock, loop, thread, process or logger ..."""

SOCKET_CONSTANTS = {"AF_INET", "AF_INET6", "AddressFamily"}
"""... and of sockets only the names of the address families."""

HEAVY = {
    "aiohttp",
    "aiomysql",
    "asyncpg",
    "click",
    "dns",
    "httptools",
    "ldap3",
    "pydantic",
    "pysnmp",
    "regex",
}


def parts_of(path):
    """The layer of a module: `config` for lbhealth/config/source.py, `model` for model.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts


def imports(tree):
    """Every import of a module as (dotted name, runs at run time)."""
    typing_only = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test).endswith("TYPE_CHECKING")
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in typing_only


MODULES = [
    pytest.param(path, id="/".join(parts_of(path)))
    for path in sorted(PACKAGE.rglob("*.py"))
    if parts_of(path) != ("__init__",)
]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def own_imports(path):
    """The layers of lbhealth that a module imports."""
    for name, at_run_time in imports(tree_of(path)):
        package, _, rest = name.partition(".")
        if package == "lbhealth":
            yield rest.partition(".")[0], at_run_time


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_down_the_layers(path):
    part = parts_of(path)[0]
    for imported, at_run_time in own_imports(path):
        if imported == part or imported == "__version__":
            continue
        if part == "plugins":
            assert imported in CORE
        elif imported == "plugins":
            assert part in {"engine", "services", "cli"}, f"{part} imports the registry"
        elif part == "testing":
            assert imported in RANK
        else:
            assert imported in RANK, f"{part} imports {imported}, which is in no layer"
            upward = RANK[imported] >= RANK[part]
            # Annotations may look up: errors names the model's Status in a type.
            assert not (upward and at_run_time), f"{part} imports {imported}"


def test_every_module_has_a_layer():
    known = RANK.keys() | {"plugins", "testing", "__init__"}
    assert {parts_of(path)[0] for path in PACKAGE.rglob("*.py")} <= known


@pytest.mark.parametrize("part", sorted(CORE))
def test_the_core_is_values_in_values_out(part):
    path = PACKAGE / f"{part}.py"
    if not path.exists():
        return  # comes with the feature that needs it
    tree = tree_of(path)
    for name, at_run_time in imports(tree):
        top, _, rest = name.partition(".")
        assert top == "lbhealth" or top in sys.stdlib_module_names, f"{part} imports {name}"
        assert top not in FORBIDDEN_IN_CORE or not at_run_time, f"{part} imports {name}"
        assert top != "socket" or not rest or rest in SOCKET_CONSTANTS, f"{part} imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "socket":
            assert node.attr in SOCKET_CONSTANTS, f"{part}:{node.lineno} uses socket.{node.attr}"


def loaded_by(statement):
    """The top-level modules in memory after `statement` in a fresh interpreter."""
    code = f"{statement}; import sys; print(*{{n.partition('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import lbhealth", "import lbhealth.plan, lbhealth.plugins"])
def test_importing_the_library_loads_no_third_party_package(statement):
    assert not loaded_by(statement) & HEAVY
