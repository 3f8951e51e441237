"""tools/wheels/check.py finds what would keep a wheel from running elsewhere."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("elftools", reason="pyelftools is not installed")

ROOT = Path(__file__).parent.parent.parent
ARCHITECTURE = platform.machine()
SOURCE = """
#include <stdio.h>
int PyInit__core(void) { return puts("a symbol with a version"); }
"""
GOOD = ["-s", "-Wl,-z,max-page-size=65536"]
Make = Callable[..., Path]


def faults_of(wheel: Path) -> list[str]:
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools/wheels/check.py")
    assert spec and spec.loader
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    found: list[str] = check.faults_of(wheel)
    return found


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(source, *flags, ...) compiles a core and returns a wheel with nothing else in it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(
        source: str = SOURCE,
        *flags: str,
        architecture: str = ARCHITECTURE,
        platform_tag: str = "manylinux2014_{0}.manylinux_2_17_{0}",
        also: str = "",
        command: str = "fastalloc = fastalloc.cli:main",
        version: str = "0.1.0",
    ) -> Path:
        code, core = tmp_path / "core.c", tmp_path / "core.so"
        code.write_text(source)
        subprocess.run(
            [compiler, "-shared", "-fPIC", str(code), "-o", str(core), *(flags or GOOD)], check=True
        )
        tag = platform_tag.format(architecture)
        wheel = tmp_path / f"fastalloc_recorder-{version}-cp311-cp311-{tag}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            name = f"fastalloc/_core.cpython-311-{architecture}-linux-gnu.so"
            archive.write(core, name)
            about = f"fastalloc_recorder-{version}.dist-info/entry_points.txt"
            archive.writestr(about, f"[console_scripts]\n{command}\n")
            if also:
                archive.writestr(also, "")
        return wheel

    return build


def test_a_good_wheel_has_no_faults(make: Make) -> None:
    assert faults_of(make()) == []


@pytest.mark.parametrize("version", ["0.2.0rc1", "1.0.post1", "0.2.0.dev3", "1.2a1.post1.dev2"])
def test_versions_before_and_after_a_release(make: Make, version: str) -> None:
    assert faults_of(make(version=version)) == []


@pytest.mark.parametrize("version", ["0.1.0+local", "0.1.0-rc1", "rc1"])
def test_a_version_that_no_index_takes(make: Make, version: str) -> None:
    (fault,) = faults_of(make(version=version))
    assert fault.startswith("named otherwise")


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ([*GOOD, "-Wl,-rpath,/opt/lib"], "has an rpath"),
        (GOOD[1:], "not stripped (.symtab)"),
        ([*GOOD, "-Wl,-z,execstack"], "wants an executable stack"),
        ([*GOOD, "-Wl,--no-as-needed", "-lgcc_s"], "needs libgcc_s.so.1"),
    ],
)
def test_how_it_was_linked(make: Make, flags: list[str], fault: str) -> None:
    assert faults_of(make(SOURCE, *flags)) == [fault]


def test_a_symbol_that_the_promised_library_lacks(make: Make) -> None:
    newest = make(
        "int pthread_create(void);\nint PyInit__core(void) { return pthread_create(); }\n"
    )
    asked = [fault for fault in faults_of(newest) if fault.startswith("needs GLIBC_2.")]
    if platform.libc_ver()[1] < "2.34":
        pytest.skip("this machine's C library has nothing newer than what is promised")
    assert asked == ["needs GLIBC_2.34"]


def test_a_symbol_of_no_version_and_one_too_many(make: Make) -> None:
    source = "int nowhere(void);\nint helper(void) { return nowhere(); }\n" + SOURCE
    found = faults_of(make(source))
    assert sorted(found) == ["exports helper", "wants nowhere, of no version"]


def test_what_is_inside(make: Make) -> None:
    assert faults_of(make(also="fastalloc/native/hooks.c")) == ["holds fastalloc/native/hooks.c"]
    assert faults_of(make(command="")) == ["installs no command"]


def test_another_machine_than_its_name_says(make: Make) -> None:
    other = "aarch64" if ARCHITECTURE == "x86_64" else "x86_64"
    assert [f for f in faults_of(make(architecture=other)) if f.startswith("made for EM_")]


def test_a_name_that_promises_nothing(make: Make) -> None:
    (fault,) = faults_of(make(platform_tag="linux_{0}"))
    assert fault.startswith("named otherwise")
