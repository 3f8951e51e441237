"""One process per program, one small C library for exact allocations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastalloc._core", reason="the core is not built")

from tests.core.programs import Programs


@pytest.fixture(scope="session")
def allocator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled allocator.c."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    built = tmp_path_factory.mktemp("allocator") / "allocator.so"
    command = [compiler, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = Path(__file__).with_name("allocator.c")
    subprocess.run([*command, str(source), "-o", str(built), "-lpthread"], check=True)
    return built


@pytest.fixture
def programs(tmp_path: Path, allocator: Path) -> Programs:
    """Runs programs that may start the recorder."""
    return Programs(tmp_path, allocator)
