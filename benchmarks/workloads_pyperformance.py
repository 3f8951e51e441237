"""The benchmarks that pyperformance ships, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def pyperformance(name: str) -> ModuleType:
    """One of them; the package itself is not imported."""
    package = importlib.util.find_spec("pyperformance")
    if package is None or package.origin is None:
        raise ImportError("pyperformance is not installed")
    path = Path(package.origin).parent / "data-files" / "benchmarks" / f"bm_{name}"
    spec = importlib.util.spec_from_file_location(f"bm_{name}", path / "run_benchmark.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
