"""The numbers of the recording's layout: one enum per C enum of native/layout.h, see layout.py."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAGIC: Final = b"fastallo"
LAYOUT_VERSION: Final = 1
PAGE_BYTES: Final = 4096
ATTRIBUTES_BYTES: Final = 128
MODULE_LINE: Final = -(1 << 31)
"""In a function's `first_line`: it is a module, whose addresses nodes name."""
UNKNOWN: Final = 2**64 - 1
"""`FA_UNKNOWN`: what could not be told."""
COUNT_SCALE: Final = 65536
"""Counts named `*_q16` are fixed point: this many to one allocation."""


class Region(IntEnum):
    """`enum fa_region_id`: the regions, in the order of the file."""

    THREADS = 0
    OPTIONS = 1
    STRINGS = 2
    FUNCTIONS = 3
    NODES = 4
    SITES = 5
    LIVE = 6
    FREED = 7
    SPANS = 8
    PHASES = 9
    THREAD_NAMES = 10
    RECORDS = 11
    TIMELINE = 12
    TIMELINE_LONG = 13
    EVENTS = 14


class Mode(IntEnum):
    """`enum fa_mode`."""

    DISABLED = 0
    STANDBY = 1
    LIGHT = 2
    AGGRESSIVE = 3
    TARGETED = 4


class State(IntEnum):
    """`enum fa_state`."""

    EMPTY = 0
    RUNNING = 1
    STOPPED = 2
    EXITED = 3


class Control(IntEnum):
    """`enum fa_control`: the word by which any process of the user switches a recorder."""

    RUN = 0
    DISABLE = 1
    ENABLE = 2


class Off(IntEnum):
    """`enum fa_off`: why recording is switched off while the process runs."""

    NOT = 0
    PROGRAM = 1
    CONTROL = 2
    FILE = 3
    KEY = 4
    OVERHEAD = 5
    GUARD = 6


class FreeDesign(IntEnum):
    """`enum fa_free_design`: how the recorder learns of frees."""

    DIVERT = 0
    FILTER = 1


class Domain(IntEnum):
    """`enum fa_domain`: CPython's allocator domains, arenas, and native memory (past CPython)."""

    RAW = 0
    MEM = 1
    OBJ = 2
    ARENA = 3
    MALLOC = 4
    MMAP = 5


class Guard(IntEnum):
    """`enum fa_guard`: what the guard of the memory limit has seen."""

    OFF = 0
    ARMED = 1
    WARNED = 2
    TRIPPED = 3


class Exit(IntEnum):
    """`enum fa_exit`: how a process ended, as far as it could say so itself."""

    UNKNOWN = 0
    CLEAN = 1
    EXCEPTION = 2
    SIGNAL = 3


class Loss(IntEnum):
    """`enum fa_loss`: what the recorder could not record, by reason."""

    STRINGS = 0
    FUNCTIONS = 1
    NODES = 2
    SITES = 3
    LIVE = 4
    DEEP_STACK = 5
    NO_STACK = 6
    THREADS = 7
    SPANS = 8
    PHASES = 9
    THREAD_NAMES = 10
    STALE = 11
    REENTRANT = 12
    FORK = 13
    DISPLACED = 14


class RecordKind(IntEnum):
    """`enum fa_record_kind`."""

    SPAN = 1
    PHASE = 2
    CHECKPOINT = 3


class EventKind(IntEnum):
    """`enum fa_event_kind`."""

    START = 1
    STOP = 2
    MODE = 3
    INTERVAL = 4
    THINNED = 5
    FORK = 6
    FAILED_ALLOCATION = 7
    CONTROL = 8
    DISPLACED = 9
    PHASE = 10
    GUARD = 11
    DUMP = 12
    OVERHEAD = 13
    NATIVE = 14
    BREAKER = 15
    LIMIT = 16


class NativeEvent(IntEnum):
    """`enum fa_native_event`: the `a` of a native event."""

    OFF = 0
    ON = 1
    GAP = 2
