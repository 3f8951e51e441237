"""The header that opens every memray file."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from fastalloc.export.wire import cstring, i32, i64, u8, u64

MAGIC = b"memray\0"
PYMALLOC = 1


class Kind(IntEnum):
    """What a file holds: every allocation in order, or one row per stack."""

    ALL = 0
    AGGREGATED = 1


@dataclass(frozen=True)
class Header:
    """What the header says; fields that a format lacks are left out when it is written."""

    format: int
    kind: Kind
    python_version: int  # PY_VERSION_HEX: chooses how line tables are decoded
    records: int  # allocations or rows: feeds memray's progress bar
    frames: int
    start_ms: int
    end_ms: int
    command_line: str
    pid: int
    libdest: str = ""
    site_packages: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the header's bytes."""
        parts = [MAGIC, i32(self.format)]
        if self.format >= 12:
            parts.append(i32(self.python_version))
        parts += [
            u8(0),  # native_traces
            u8(self.kind),
            u64(self.records),
            u64(self.frames),
            i64(self.start_ms),
            i64(self.end_ms),
            cstring(self.command_line),
            i32(self.pid),
            u64(self.pid),  # main thread: on Linux its id is the process's
            u64(0),  # skipped_frames_on_main_tid
            u8(PYMALLOC),
        ]
        if self.format >= 11:
            parts.append(u8(1))  # trace_python_allocators
        if self.format >= 12:
            parts.append(u8(0))  # track_object_lifetimes
        if self.format >= 13:
            parts += [cstring(self.libdest), _strings(self.site_packages), _strings(())]
        return b"".join(parts)


def _strings(texts: Iterable[str]) -> bytes:
    """Encode a list: its members, never empty, then an empty one."""
    return b"".join(cstring(text) for text in texts if text) + b"\0"
