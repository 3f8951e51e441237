"""On a free-threaded build of CPython the recorder refuses, says so, and leaves the app as it was.

Such builds are rare: `make test-free-threaded` compiles some; or have one on PATH, or name it by PYTHON_FREE_THREADED.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILT_WITH = ("setuptools", "_distutils_hack", "Cython", "cython")
APP = """
import sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastalloc
    fastalloc.start()
    fastalloc.start()
assert not sys._is_gil_enabled(), "importing it switched the GIL on"
assert [str(w.message) for w in caught] == [
    "fastalloc is not recording: free-threaded builds of CPython are not supported yet"
], [str(w.message) for w in caught]
status = fastalloc.status()
assert not status.active and "free-threaded" in status.reason
with fastalloc.span("a"), fastalloc.phase("b"):
    fastalloc.checkpoint("c")
fastalloc.stop()
"""

pytestmark = pytest.mark.slow


def find_pythons() -> list[str]:
    named = os.environ.get("PYTHON_FREE_THREADED")
    if named:
        return [named]
    compiled = ROOT.glob("build/pythons/*-free-threaded/usr/bin/python3.??t")
    on_path = (shutil.which(f"python3.{minor}t") for minor in (13, 14, 15))
    return [*filter(None, on_path), *map(str, sorted(compiled))]


@pytest.mark.parametrize("python", find_pythons() or [""], ids=lambda path: Path(path).name)
def test_it_refuses_and_the_app_runs_on(tmp_path: Path, python: str) -> None:
    if not python:
        pytest.skip("no free-threaded build of CPython here (make test-free-threaded compiles one)")
    tree, tools = tmp_path / "tree", tmp_path / "tools"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    tools.mkdir()
    for name in BUILT_WITH:  # of pure Python, as far as they are needed
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin
        origin = Path(spec.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (tools / origin.name).symlink_to(origin)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTHON"))}
    built = subprocess.run(
        [python, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=tree,
        env=env | {"PYTHONPATH": str(tools), "FASTALLOC_WERROR": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run(
        [python, "-c", APP],
        env=env | {"PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
