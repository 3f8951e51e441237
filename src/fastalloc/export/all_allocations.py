"""Encoder of the ALL_ALLOCATIONS file: allocations and frees in the order of time.

    header, then any number of: thread switch, thread name, frame push, frame pop,
    allocation, free, memory record; then the trailer

Laws
 1. A stack belongs to its thread and survives switches; only differences are written.
    Popping more frames than were pushed crashes the reader.
 2. A switch comes before the first push, pop or allocation, and a thread's name right
    after the first switch to it.
 3. A free names the address only. An address is freed before it is allocated again.
"""

from fastalloc.export.records import (
    FREED_BY,
    Allocator,
    CodeObjects,
    allocator_number,
    place,
    switch_to,
    thread_name,
)
from fastalloc.export.stacks import FrameKey
from fastalloc.export.wire import Delta, cstring, u8, uvarint

MAX_POP = 16
SIMPLE_FREES = (Allocator.PYMALLOC_FREE, Allocator.FREE)

# formats 12 and 13
ALLOCATION = 0x80
POINTER_FOLLOWS = 0x78  # no slot of the pointer cache: the address is written
PUSH = b"\x41"  # of an entry frame
POP = 0x10
MEMORY_RECORD = b"\x02"
TRAILER = b"\x01"

# formats 10 and 11: type in the low half of a token, flags in the high half
OLDER_ALLOCATION = 0x01
OLDER_FRAME = b"\x03"
OLDER_PUSH = b"\x04"
OLDER_POP = 0x09
OLDER_MEMORY_RECORD = b"\x0b"
OLDER_TRAILER = b"\x10"


class AllAllocations:
    """Writes the body of a file, record by record, into `body`."""

    def __init__(self, format: int, frames: list[FrameKey]) -> None:
        self.body = bytearray()
        self.allocations = 0
        self._format = format
        self._frames = frames
        self._code_objects = CodeObjects()
        self._pushes: dict[int, bytes] = {}
        self._address = Delta()
        self._frame = Delta()
        self._line = Delta()
        self._thread = 0
        self._stacks: dict[int, tuple[int, ...]] = {}

    def thread(self, number: int, name: str) -> None:
        """Make `number` the thread of the records that follow."""
        if number != self._thread:
            self._thread = number
            self.body += switch_to(number)
        if number not in self._stacks:
            self._stacks[number] = ()
            self.body += thread_name(name)

    def stack(self, path: tuple[int, ...]) -> None:
        """Make `path` (frame numbers, root-most first) the stack of the present thread."""
        before = self._stacks[self._thread]
        if path == before:
            return
        shared = 0
        for old, new in zip(before, path, strict=False):
            if old != new:
                break
            shared += 1
        self._pop(len(before) - shared)
        for number in path[shared:]:
            self._push(number)
        self._stacks[self._thread] = path

    def allocate(self, allocator: Allocator, address: int, size: int) -> None:
        """Write an allocation of the present thread at its present stack."""
        self._allocation(allocator, address, uvarint(size))

    def free(self, allocator: Allocator, address: int, size: int) -> None:
        """Write the free of a block, by the present thread."""
        freed_by = FREED_BY[allocator]
        self._allocation(freed_by, address, b"" if freed_by in SIMPLE_FREES else uvarint(size))

    def memory(self, ms_since_start: int, rss: int) -> None:
        """Write a point of the memory plot, which is a boundary in time for --temporal."""
        self.body += MEMORY_RECORD if self._format >= 12 else OLDER_MEMORY_RECORD
        self.body += uvarint(rss) + uvarint(max(0, ms_since_start))

    def close(self) -> None:
        """Write the trailer."""
        self.body += TRAILER if self._format >= 12 else OLDER_TRAILER

    def _allocation(self, allocator: Allocator, address: int, size: bytes) -> None:
        self.allocations += 1
        number = allocator_number(self._format, allocator)
        if self._format < 12:
            self.body += u8(OLDER_ALLOCATION | number << 4) + self._address(address) + size
            return
        in_token = number if number < 8 else 0
        self.body += u8(ALLOCATION | POINTER_FOLLOWS | in_token) + self._address(address >> 3)
        if not in_token:
            self.body += u8(number)
        self.body += size

    def _push(self, number: int) -> None:
        if self._format < 12:
            self._push_by_name(number)
            return
        push = self._pushes.get(number)
        if push is None:
            definition, code, offset = self._code_objects.locate(*self._frames[number])
            self.body += definition
            push = self._pushes[number] = PUSH + place(code, offset)
        self.body += push

    def _push_by_name(self, number: int) -> None:
        if number not in self._pushes:
            frame = self._frames[number]
            self._pushes[number] = b""
            self.body += (
                OLDER_FRAME + self._frame(number) + cstring(frame.function) + cstring(frame.file)
            )
            self.body += self._line(frame.line)
        self.body += OLDER_PUSH + self._frame(number)

    def _pop(self, count: int) -> None:
        while count > 0:
            now = min(count, MAX_POP)
            self.body += u8(POP | now - 1 if self._format >= 12 else OLDER_POP | now - 1 << 4)
            count -= now
