"""Programs that record native memory, and small C libraries for them to load."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("fastalloc._core", reason="the core is not built")

from tests.core.conftest import allocator
from tests.core.programs import Programs

__all__ = ["allocator"]

HERE = Path(__file__).parent

if platform.libc_ver()[0] != "glibc":
    pytest.skip("native memory is recorded on glibc only", allow_module_level=True)


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compile_library(source, name, *options): a shared library, from C text or a file of this folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(source: str | Path, name: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("library")
        if isinstance(source, str):
            path = folder / f"{name}.c"
            path.write_text(source)
        else:
            path = source
        built = folder / f"lib{name}.so"
        flags = ["-O1", "-g", "-fno-builtin", "-Wall", "-Werror", "-shared", "-fPIC"]
        command = [compiler, *flags, str(path), "-o", str(built), *options, "-lpthread", "-ldl"]
        subprocess.run(command, check=True)
        return built

    return build


@pytest.fixture(scope="session")
def calls(compile_library: Callable[..., Path]) -> Path:
    """The compiled calls.c, its addresses bound when first called."""
    return compile_library(HERE / "calls.c", "calls", "-Wl,-z,lazy")


@pytest.fixture(scope="session")
def slots(compile_library: Callable[..., Path]) -> Path:
    """The compiled slots.c."""
    return compile_library(HERE / "slots.c", "slots")


class NativePrograms(Programs):
    """Programs that find calls.c's library in TEST_CALLS and slots.c's in TEST_SLOTS."""

    def __init__(self, base: Path, allocator: Path, calls: Path, slots: Path) -> None:
        super().__init__(base, allocator)
        self.libraries = {"TEST_CALLS": str(calls), "TEST_SLOTS": str(slots)}

    def environment(self, directory: Path, env: Mapping[str, str]) -> dict[str, str]:
        return {**super().environment(directory, {}), **self.libraries, **env}


@pytest.fixture
def programs(tmp_path: Path, allocator: Path, calls: Path, slots: Path) -> NativePrograms:
    """Runs programs that may start the recorder."""
    return NativePrograms(tmp_path, allocator, calls, slots)
