"""The native core without CPython, as a program of its own, under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "src" / "fastalloc" / "native"
FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer"]
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread", "-Wno-tsan"],
    "none": ["-O2"],
}


def needs_python(source: Path) -> bool:
    """Whether a source includes Python.h, itself or through a header of ours."""
    text = source.read_text()
    return any(f'"{name}"' in text or f"<{name}>" in text for name in PYTHON_HEADERS)


PYTHON_HEADERS = {"Python.h"} | {
    header.name for header in NATIVE.glob("*.h") if "<Python.h>" in header.read_text()
}


@pytest.fixture(scope="session")
def native_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """native_program(main, sanitizer): compiles the core with the tests' C and one main file."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("native")
    built: dict[tuple[str, str], Path] = {}
    failed: set[tuple[str, str]] = set()

    def sanitizer_works(options: list[str]) -> bool:
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        command = [compiler, *options, str(probe), "-o", str(folder / "probe")]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return False
        return subprocess.run([folder / "probe"], capture_output=True, check=False).returncode == 0

    def build(main: str, sanitizer: str) -> Path:
        if (main, sanitizer) in failed:
            pytest.fail("it did not compile, see above")
        if (main, sanitizer) in built:
            return built[main, sanitizer]
        options = SANITIZERS[sanitizer]
        if not sanitizer_works(options):
            pytest.skip(f"this machine has no runtime for {' '.join(options)}")
        core = [path for path in sorted(NATIVE.glob("*.c")) if not needs_python(path)]
        own = [HERE / "fakes.c", *sorted(HERE.glob("*_cases.c"))] if main == "main.c" else []
        sources = [*core, *own, HERE / main] if own else [*core, HERE / "fakes.c", HERE / main]
        program = folder / f"{Path(main).stem}-{sanitizer}"
        wrap = ["-Wl,--wrap=clock_gettime"] if own else []
        command = [compiler, *FLAGS, *options, f"-I{NATIVE}", f"-I{HERE}", *map(str, sources)]
        command += ["-o", str(program), "-lm", "-lpthread", *wrap]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            failed.add((main, sanitizer))
            pytest.fail(done.stderr)
        built[main, sanitizer] = program
        return program

    return build
