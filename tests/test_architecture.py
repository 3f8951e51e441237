"""The house's plan, as a test: who may import whom, who may touch CPython, how big a file may be.

The plan is drawn in ARCHITECTURE.md; this table is what it says.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "fastalloc"
NATIVE = PACKAGE / "native"

# Rooms of the package, and the rooms each may import; "" is the package itself, the public names.
MAY_IMPORT: dict[str, set[str]] = {
    # capture wing
    "_core": set(),
    "config": {"directory", "shared_key", "values"},
    "directory": {"values"},
    "values": {"config", "shared_key", "signals"},
    "shared_key": set(),
    "control": {"_core", "background"},
    "kill_switch": {"_core", "background", "breaker", "control", "shared_key"},
    "overhead": {"_core", "background", "control"},
    "place": {"_core", "background", "directory", "housekeeping", "values"},
    "counters": {"limits"},
    "limits": set(),
    "inactive": set(),
    "housekeeping": {"config", "leftovers"},
    "leftovers": set(),
    "dumps": {
        "_core",
        "background",
        "breaker",
        "config",
        "housekeeping",
        "logs",
        "program",
        "signals",
        "status",
    },
    "signals": set(),
    "breaker": set(),
    "background": {"_core", "breaker"},
    "guard": {"_core", "background", "breaker", "config", "dumps", "limits", "logs"},
    "status": {"breaker", "config", "limits"},
    "exits": {"_core", "program"},
    "program": {"_core"},
    "predecessors": {"background", "logs"},
    "threads": {"_core"},
    "tracebacks": set(),
    "spans": {"_core", "inactive", "tracebacks"},
    "switches": {"_core", "breaker", "tracebacks"},
    "profiler": {
        "_core",
        "background",
        "breaker",
        "config",
        "control",
        "counters",
        "dumps",
        "exits",
        "guard",
        "housekeeping",
        "kill_switch",
        "limits",
        "logs",
        "overhead",
        "place",
        "predecessors",
        "status",
        "switches",
        "threads",
    },
    # reading wing
    "recording": set(),
    "analysis": {"recording"},
    "export": {"recording", "analysis"},
    # the public names, and what is built on them
    "": {"_core", "config", "profiler", "spans", "recording"},
    "tokens": set(),
    "logs": set(),
    "gauges": {"_core"},
    "requests": {
        *("_core", "background", "breaker", "gauges", "inactive", "logs", "profiler", "spans"),
        "tokens",
    },
    "trackers": {"_core", "background", "breaker", "dumps", "inactive", "requests", "tracebacks"},
    "integrations": {"", "profiler", "requests", "tracebacks", "trackers", "gauges"},
    "demo": {"", "analysis", "config", "export", "integrations", "recording"},
    "cli": {
        "",
        "analysis",
        "config",
        "demo",
        "directory",
        "export",
        "housekeeping",
        "leftovers",
        "program",
        "recording",
        "tokens",
    },
    "__main__": {"cli"},
}
# Only inside a function, when used, or for types: reading has no part in what recording costs.
MAY_IMPORT_LATE = {
    "integrations": {"background", "cli"},
    "profiler": {"recording"},
    "requests": {"trackers"},
}

CAPTURE_WING = (
    *(
        "_core",
        "background",
        "breaker",
        "config",
        "directory",
        "dumps",
        "signals",
        "values",
        "exits",
        "guard",
        "housekeeping",
        "leftovers",
        "inactive",
    ),
    *(
        "limits",
        "profiler",
        "program",
        "requests",
        "spans",
        "status",
        "switches",
        "threads",
        "tokens",
        "tracebacks",
        "trackers",
    ),
    *("control", "counters", "kill_switch", "overhead", "place", "predecessors", "shared_key"),
    *("integrations", ""),
)
THIRD_PARTY_IN_CAPTURE = {
    "integrations": {
        "asgiref",
        "celery",
        "django",
        "flask",
        "opentelemetry",
        "prometheus_client",
        "pytest",
        "starlette",
        "werkzeug",  # Flask itself
    },
    "kill_switch": {"django"},  # inside functions only, as for trackers
    "trackers": {"django", "flask", "sqlalchemy", "starlette"},  # inside functions only, see below
}

MAY_INCLUDE_PYTHON = ("fit.c", "hook_parts.h", "hooks.c", "objects.c", "stack.c", "tasks.c")
MAY_INCLUDE_PYTHON_PATTERN = re.compile(r"cpython_\w+\.h")

LINES = {"_core.pyx": 400, "_scopes.pxi": 400, "__init__.py": 60}
LINES_OTHERWISE = 450


def sources(*suffixes: str) -> list[Path]:
    """The package's files with one of `suffixes`."""
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)


def room_of(path: Path) -> str:
    """The room a file belongs to: a top-level folder or module of the package."""
    first = path.relative_to(PACKAGE).parts[0]
    name = first.removesuffix(".py").removesuffix(".pyx").removesuffix(".pyi")
    return "" if name == "__init__" else name


def imports_of(path: Path, late: bool = True) -> Iterator[str]:
    """The dotted names that a file imports, relative ones made absolute.

    late: also those inside a function or under `if TYPE_CHECKING`.
    """
    text = path.read_text()
    if path.suffix == ".pyx":
        yield from re.findall(r"^\s*(?:from|import|cimport)\s+([\w.]+)", text, re.MULTILINE)
        return
    package = ["fastalloc", *path.relative_to(PACKAGE).parts[:-1]]
    for node in nodes_of(ast.parse(text), late):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def nodes_of(tree: ast.AST, late: bool) -> Iterator[ast.AST]:
    """All nodes of a tree, or only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        is_late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if late or not is_late:
            yield node
            yield from nodes_of(node, late)


def room_imported(name: str) -> str | None:
    """The room that the dotted `name` lies in; None if it is not ours."""
    parts = name.split(".")
    if parts[0] != "fastalloc":
        return None
    if len(parts) == 1:
        return ""
    return parts[1] if parts[1] in MAY_IMPORT else ""


def is_allowed(room: str, name: str, late: bool = False) -> bool:
    """Whether `room` may import the dotted `name`, at its top or late."""
    target = room_imported(name)
    if late and target in MAY_IMPORT_LATE.get(room, ()):
        return True
    if target is None or target == room:
        return True
    if target in MAY_IMPORT[room]:
        return True
    inside = name.removeprefix("fastalloc.")
    return any(inside == whole or inside.startswith(f"{whole}.") for whole in MAY_IMPORT[room])


@pytest.mark.parametrize(
    "path", sources(".py", ".pyx", ".pyi"), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} has no place in the plan: give it one, here and on the page"
    at_top = set(imports_of(path, late=False))
    forbidden = [
        name for name in imports_of(path) if not is_allowed(room, name, late=name not in at_top)
    ]
    assert not forbidden, f"{room or 'fastalloc'} may import {sorted(MAY_IMPORT[room])} only"


@pytest.mark.parametrize(
    ("room", "name", "allowed"),
    [
        ("recording", "fastalloc._core", False),
        ("recording", "fastalloc.cli.top", False),
        ("_core", "fastalloc.export", False),
        ("integrations", "fastalloc._core", False),
        ("integrations", "fastalloc.span", True),
        ("profiler", "fastalloc.recording.reader", False),
        ("profiler", "fastalloc._core.start", True),
        ("cli", "fastalloc.recording.reader.read", True),
        ("cli", "numpy", True),
    ],
)
def test_the_rule_catches_planted_violations(room: str, name: str, allowed: bool) -> None:
    assert is_allowed(room, name) is allowed


@pytest.mark.parametrize(
    "path",
    [path for path in sources(".py", ".pyx") if room_of(path) in CAPTURE_WING],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_the_capture_wing_imports_no_third_party_package(path: Path) -> None:
    known = {*sys.stdlib_module_names, "fastalloc", "cython", "libc", "cpython", "posix"}
    known |= THIRD_PARTY_IN_CAPTURE.get(room_of(path), set())
    foreign = {name.split(".")[0] for name in imports_of(path)} - known
    assert not foreign, "importing fastalloc must stay cheap in time and memory"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "trackers").glob("*.py")), ids=lambda path: path.name
)
def test_trackers_import_a_framework_only_once_the_program_has(path: Path) -> None:
    known = {*sys.stdlib_module_names, "fastalloc"}
    assert not {name.split(".")[0] for name in imports_of(path, late=False)} - known


def test_the_reading_wing_works_without_a_compiled_core() -> None:
    code = (
        "import sys; sys.modules['fastalloc._core'] = None\n"
        "import fastalloc.cli, fastalloc.recording.reader, fastalloc.export"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_nothing_of_the_reading_wing() -> None:
    code = (
        "import sys, fastalloc\n"
        "heavy = {'numpy', 'rich', 'memray', 'asyncio', 'fastalloc.recording.reader'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", sources(".c", ".h"), ids=lambda p: p.name)
def test_only_hooks_and_frames_know_cpython(path: Path) -> None:
    knows = re.search(r'#\s*include\s+[<"](?:Python\.h|internal/|pycore_)', path.read_text())
    allowed = path.name in MAY_INCLUDE_PYTHON or MAY_INCLUDE_PYTHON_PATTERN.fullmatch(path.name)
    assert not knows or allowed, "the rest of native/ is plain C and is tested as such"


@pytest.mark.parametrize("path", sources(".c", ".h"), ids=lambda p: p.name)
def test_python_versions_differ_in_headers_of_their_own(path: Path) -> None:
    if not MAY_INCLUDE_PYTHON_PATTERN.fullmatch(path.name):
        assert not re.search(r"#\s*(?:el)?if.*PY_VERSION_HEX", path.read_text())


@pytest.mark.parametrize(
    "path", sources(".py", ".pyx", ".pxi", ".c", ".h"), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_files_hold_one_noun_each(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    is_public = path == PACKAGE / "__init__.py"
    limit = LINES["__init__.py"] if is_public else LINES.get(path.name, LINES_OTHERWISE)
    if path.name == "__init__.py" and not is_public:
        limit = LINES_OTHERWISE
    assert lines <= limit, "a file past its budget usually holds two nouns"


def test_helpers_live_with_their_noun() -> None:
    assert not [path for path in sources(".py", ".pyx", ".c", ".h") if "util" in path.stem]
