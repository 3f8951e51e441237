#!/usr/bin/env python3
"""Say what is wrong with a wheel: check.py WHEEL...

A wheel must run wherever its name promises: on the architecture and the C library it names, with no
library of the machine it was built on, and no symbol that the promised C library lacks.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

ARCHITECTURES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
BYTES = 1_500_000
VERSION = r"\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?"  # as an index takes them
NAME = re.compile(
    rf"fastalloc_recorder-{VERSION}-(cp3\d+)-\1-((?:manylinux\w+\.)*manylinux\w+_(x86_64|aarch64))\.whl"
)
LIBRARIES = {
    *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
SOURCES = (".c", ".h", ".pyx", ".pxd", ".pxi", ".o", ".a")
# Weak, and defined by nobody: the compiler's start files ask for them everywhere.
NOBODYS = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}


def faults_of(wheel: Path) -> list[str]:
    """What is wrong, in a few words each; empty if nothing is."""
    named = NAME.fullmatch(wheel.name)
    if not named:
        return [f"named otherwise than {NAME.pattern}"]
    return list(faults(wheel, named[1], named[3], glibc_of(named[2])))


def glibc_of(platforms: str) -> int:
    """The oldest glibc 2.X that a wheel's platform tags promise to run with: X."""
    numbered = platforms.replace("manylinux2014_", "manylinux_2_17_")
    return min(int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", numbered))


def faults(wheel: Path, python: str, architecture: str, glibc: int) -> Iterator[str]:
    if wheel.stat().st_size > BYTES:
        yield f"larger than {BYTES:,} bytes"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        yield from (f"holds {name}" for name in names if name.endswith(SOURCES))
        (entry_points,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        if b"fastalloc = fastalloc.cli:main" not in archive.read(entry_points):
            yield "installs no command"
        compiled = [name for name in names if ".so" in name]
        wanted = f"fastalloc/_core.cpython-{python[2:]}-{architecture}-linux-gnu.so"
        if compiled != [wanted]:
            yield f"holds {compiled} instead of {wanted}"
            return
        elf = ELFFile(io.BytesIO(archive.read(wanted)))
        yield from faults_of_elf(elf, architecture, glibc)


def faults_of_elf(elf: ELFFile, architecture: str, glibc: int) -> Iterator[str]:
    if elf["e_machine"] != ARCHITECTURES[architecture]:
        yield f"made for {elf['e_machine']}"
    sections: dict[str, Any] = {section.name: section for section in elf.iter_sections()}
    unstripped = [name for name in sections if name == ".symtab" or name.startswith(".debug")]
    if unstripped:
        yield f"not stripped ({', '.join(unstripped)})"
    for section in sections.values():
        if isinstance(section, DynamicSection):
            tag: Any  # what a tag has beside its entry depends on its kind
            for tag in section.iter_tags():
                if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    yield "has an rpath"
                if tag.entry.d_tag == "DT_NEEDED" and tag.needed not in LIBRARIES:
                    yield f"needs {tag.needed}"
                if tag.entry.d_tag == "DT_TEXTREL":
                    yield "has text relocations"
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_GNU_STACK" and segment["p_flags"] & 1:
            yield "wants an executable stack"
        if (
            segment["p_type"] == "PT_LOAD"
            and segment["p_align"] < 0x10000
            and architecture == "aarch64"
        ):
            yield f"cannot be loaded where pages are 64 KiB (aligned to {segment['p_align']:,})"
    yield from faults_of_symbols(sections, glibc)


def faults_of_symbols(sections: dict[str, Any], glibc: int) -> Iterator[str]:
    needs, versions, symbols = (
        sections.get(name) for name in (".gnu.version_r", ".gnu.version", ".dynsym")
    )
    if not (
        isinstance(needs, GNUVerNeedSection)
        and isinstance(versions, GNUVerSymSection)
        and isinstance(symbols, SymbolTableSection)
    ):
        yield "names no versions of what it needs"
        return
    for _, entries in needs.iter_versions():
        for entry in entries:
            number = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", entry.name)
            if not number or (int(number[1]), int(number[2])) > (2, glibc):
                yield f"needs {entry.name}"
    for index, symbol in enumerate(symbols.iter_symbols()):
        if not symbol.name or symbol["st_info"]["bind"] == "STB_LOCAL":
            continue
        version = versions.get_symbol(index)["ndx"]
        if symbol["st_shndx"] != "SHN_UNDEF":
            if symbol.name != "PyInit__core":
                yield f"exports {symbol.name}"
        elif version in ("VER_NDX_LOCAL", "VER_NDX_GLOBAL", 0, 1) and not (
            symbol.name.startswith(("Py", "_Py")) or symbol.name in NOBODYS
        ):
            yield f"wants {symbol.name}, of no version"


def main() -> int:
    bad = 0
    for path in map(Path, sys.argv[1:]):
        found = faults_of(path)
        bad += bool(found)
        print(f"{path.name}: {'; '.join(found) or 'ok'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
