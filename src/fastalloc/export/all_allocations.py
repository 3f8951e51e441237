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
    OLDER_NUMBERS,
    Allocator,
    CodeObjects,
    place,
    switch_to,
    thread_name,
)
from fastalloc.export.stacks import FrameKey
from fastalloc.export.wire import Delta, cstring, u8, uvarint

MAX_POP = 16


class AllAllocations:
    """Writes the body of a file of format 12 or 13, record by record, into `body`.

    The token's highest bits tell the record, the others belong to it.
    """

    def __init__(self, frames: list[FrameKey]) -> None:
        self.body = bytearray()
        self.allocations = 0
        self._frames = frames
        self._code_objects = CodeObjects()
        self._pushes: dict[int, bytes] = {}
        self._address = Delta()
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
        surplus = len(before) - shared
        while surplus:
            now = min(surplus, MAX_POP)
            self.body += self._pop(now)
            surplus -= now
        self._push(path[shared:])
        self._stacks[self._thread] = path

    def allocate(self, allocator: Allocator, address: int, size: int) -> None:
        """Write an allocation of the present thread at its present stack."""
        self.allocations += 1
        self.body += self._allocation(allocator, address) + uvarint(size)

    def free(self, allocator: Allocator, address: int, size: int) -> None:
        """Write the free of a block, by the present thread."""
        freed_by = FREED_BY[allocator]
        self.allocations += 1
        self.body += self._allocation(freed_by, address)
        if freed_by is Allocator.MUNMAP:
            self.body += uvarint(size)

    def memory(self, ms_since_start: int, rss: int) -> None:
        """Write a point of the memory plot, which is a boundary in time for --temporal."""
        self.body += self.memory_token + uvarint(rss) + uvarint(ms_since_start)

    def close(self) -> None:
        """Write the trailer."""
        self.body += self.trailer

    memory_token = b"\x02"
    trailer = b"\x01"

    def _allocation(self, allocator: Allocator, address: int) -> bytes:
        """Encode 1ppppaaa: pppp = 15 means that the address follows, aaa = 0 the allocator."""
        if allocator < 8:
            return u8(0xF8 | allocator) + self._address(address >> 3)
        return b"\xf8" + self._address(address >> 3) + u8(allocator)

    def _push(self, numbers: tuple[int, ...]) -> None:
        """Write 0100000e, e = 1 for an entry frame, after the code objects that are new."""
        for number in numbers:
            if number not in self._pushes:
                definition, code, offset = self._code_objects.locate(*self._frames[number])
                self._pushes[number] = b"\x41" + place(code, offset)
                self.body += definition
        self.body += b"".join([self._pushes[number] for number in numbers])

    def _pop(self, count: int) -> bytes:
        """Encode 0001nnnn, which pops nnnn + 1 frames."""
        return u8(0x10 | count - 1)


class OlderAllAllocations(AllAllocations):
    """The same in format 10 or 11: the token's low half tells the record, the high half flags."""

    memory_token = b"\x0b"
    trailer = b"\x10"

    def __init__(self, frames: list[FrameKey]) -> None:
        super().__init__(frames)
        self._frame = Delta()
        self._line = Delta()
        self._defined: set[int] = set()

    def _allocation(self, allocator: Allocator, address: int) -> bytes:
        return u8(0x01 | OLDER_NUMBERS[allocator] << 4) + self._address(address)

    def _push(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            if number not in self._defined:
                self._defined.add(number)
                frame = self._frames[number]
                self.body += b"\x03" + self._frame(number)
                self.body += cstring(frame.function) + cstring(frame.file) + self._line(frame.line)
            self.body += b"\x04" + self._frame(number)

    def _pop(self, count: int) -> bytes:
        return u8(0x09 | count - 1 << 4)


def new_body(format: int, frames: list[FrameKey]) -> AllAllocations:
    """Return an empty body. `frames` may grow while it is written."""
    return (AllAllocations if format >= 12 else OlderAllAllocations)(frames)
