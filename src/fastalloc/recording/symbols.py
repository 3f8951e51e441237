"""Names of C functions, looked up in the modules (ELF files) that a recording names.

Nothing but names is taken from a file, and only from one that is what was recorded: its build id, or
where it has none its program headers, must be the same. Else an address stays what it is.
"""

from __future__ import annotations

import ctypes
import os
import stat
from bisect import bisect_right
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import NoteSegment

DEBUG_FOLDER = Path("/usr/lib/debug")
HEADERS = "headers-"
"""Before the hash of the program headers, of a module without a build id."""
FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
MAX_SYMBOLS_BYTES = 256 << 20


class _Table(NamedTuple):
    """Functions by address."""

    starts: list[int]
    ends: list[int]
    names: list[int]
    """Where in `text` each name begins."""
    text: bytes


class Module:
    """A module of a recording: what its file tells, read when first asked."""

    def __init__(self, path: str, identity: str) -> None:
        """path: as the process knew it. identity: build id in hex, or HEADERS and a hash."""
        self.path, self.identity = path, identity
        self.name = path.rpartition("/")[2] or "[unknown module]"
        self.trouble = ""
        """Why its functions have no names: the file is missing, was replaced, or is not to be read."""

    def function(self, address: int) -> str:
        """The function at an address of the file, demangled; `module+0x...` where it has no name."""
        for table in self._tables:
            at = bisect_right(table.starts, address) - 1
            if at >= 0 and address < table.ends[at]:
                start = table.names[at]
                return demangled(table.text[start : table.text.index(b"\0", start)])
        trouble = f" ({self.trouble})" if self.trouble else ""
        return f"{self.name}+{address:#x}{trouble}"

    @cached_property
    def _tables(self) -> list[_Table]:
        try:
            return self._read()
        except OSError as error:
            self.trouble = "file missing" if isinstance(error, FileNotFoundError) else "unreadable"
        except Exception:  # a damaged file, or no pyelftools: addresses stay addresses
            self.trouble = "unreadable"
        return []

    def _read(self) -> list[_Table]:
        from elftools.elf.elffile import ELFFile

        with open(_regular(self.path), "rb") as file:
            elf = ELFFile(file)
            if _identity(elf) != self.identity:
                self.trouble = "file replaced"
                return []
            tables = [_table(elf, name) for name in (".symtab", ".dynsym")]
            debug_files = _debug_files(elf, Path(self.path), self.identity)
        if tables[0] is None:
            tables[0] = next(
                filter(None, (_debug_table(path, self.identity) for path in debug_files)), None
            )
        return [table for table in tables if table]


@lru_cache(maxsize=256)
def module(path: str, identity: str) -> Module:
    """The module of a path and identity; kept, since a live view asks for it again and again."""
    return Module(path, identity)


def _regular(path: str) -> int:
    """Open a plain file: a recording from elsewhere may name a pipe or a device."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a file")
    return handle


def _identity(elf: ELFFile) -> str:
    build_id = _build_id(elf)
    if build_id:
        return build_id
    start, size = elf["e_phoff"], elf["e_phentsize"] * elf["e_phnum"]
    elf.stream.seek(start)
    value = 0xCBF29CE484222325  # FNV-1a, as the recorder has it
    for byte in elf.stream.read(size):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{HEADERS}{value:016x}"


def _build_id(elf: ELFFile) -> str:
    for segment in elf.iter_segments("PT_NOTE"):
        for note in cast("NoteSegment", segment).iter_notes():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                return str(note["n_desc"])
    return ""


def _table(elf: ELFFile, name: str) -> _Table | None:
    section = elf.get_section_by_name(name)
    if section is None or section["sh_size"] > MAX_SYMBOLS_BYTES or elf.elfclass != 64:
        return None
    strings: Any = elf.get_section(section["sh_link"])
    if strings["sh_type"] != "SHT_STRTAB" or strings["sh_size"] > MAX_SYMBOLS_BYTES:
        return None
    symbol = np.dtype(
        [
            ("name", "<u4"),
            ("info", "u1"),
            ("other", "u1"),
            ("section", "<u2"),
            ("value", "<u8"),
            ("size", "<u8"),
        ]
    )
    data = section.data()
    symbols = np.frombuffer(data[: len(data) // symbol.itemsize * symbol.itemsize], symbol)
    text = strings.data() + b"\0"
    wanted = np.isin(symbols["info"] & 15, FUNCTION_TYPES) & (symbols["section"] != 0)
    symbols = symbols[wanted & (symbols["size"] > 0) & (symbols["name"] < len(text))]
    symbols = symbols[np.lexsort((symbols["name"], symbols["value"]))]
    ends = symbols["value"] + symbols["size"]
    return _Table(symbols["value"].tolist(), ends.tolist(), symbols["name"].tolist(), text)


def _debug_files(elf: ELFFile, path: Path, identity: str) -> list[Path]:
    """Where symbols may lie that were taken out of a module, as debuggers look for them."""
    found = []
    if not identity.startswith(HEADERS):
        found.append(DEBUG_FOLDER / ".build-id" / identity[:2] / f"{identity[2:]}.debug")
    link = elf.get_section_by_name(".gnu_debuglink")
    if link is not None:
        name = os.fsdecode(link.data().partition(b"\0")[0])
        if name and "/" not in name:
            folder = path.resolve().parent
            found += [folder / name, folder / ".debug" / name]
            found.append(DEBUG_FOLDER / folder.relative_to("/") / name)
    return found


def _debug_table(path: Path, identity: str) -> _Table | None:
    from elftools.elf.elffile import ELFFile

    try:
        with open(_regular(str(path)), "rb") as file:
            elf = ELFFile(file)
            return _table(elf, ".symtab") if _build_id(elf) == identity else None
    except Exception:
        return None


@lru_cache(maxsize=1)
def _demangler() -> tuple[Any, Any] | None:
    """The C++ runtime's own demangler and what frees its answers; None: there is no such runtime."""
    try:
        demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
        free = ctypes.CDLL(None).free
    except (OSError, AttributeError):
        return None
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    free.argtypes = [ctypes.c_void_p]
    return demangle, free


@lru_cache(maxsize=4096)
def demangled(symbol: bytes) -> str:
    """A C++ name as the source has it; another one, or without a C++ runtime, as it is."""
    name = symbol.decode("utf-8", "replace")
    if not symbol.startswith(b"_Z"):
        return name
    functions = _demangler()
    if functions is None:
        return name
    demangle, free = functions
    text = demangle(symbol, None, None, None)
    if not text:
        return name
    try:
        return ctypes.string_at(text).decode("utf-8", "replace")
    finally:
        free(text)
