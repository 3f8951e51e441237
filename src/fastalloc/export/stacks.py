"""Frames and stacks, numbered in the order in which they are first seen.

Both kinds of file name a frame by number. A stack is a path in a tree, root-most frame
first, so stacks that begin alike share their beginning.
"""

from collections.abc import Iterable
from typing import NamedTuple

MAX_LINE = (1 << 31) - 1


class FrameKey(NamedTuple):
    """A frame as a reader of the file sees it, and which of its aliases this one is."""

    function: str
    file: str
    line: int
    alias: int = 0


def frame_key(function: str, file: str, line: int) -> FrameKey:
    """Return the key of a frame, its line kept within what the format can hold."""
    return FrameKey(function, file, line if 0 <= line <= MAX_LINE else 0)


class StackTree:
    """Every distinct stack, as nodes 1, 2, 3...; 0 is the root above all stacks."""

    def __init__(self) -> None:
        self.frames: list[FrameKey] = []
        self.parents: list[int] = [0]
        self.leaf_frames: list[int] = [0]  # node -> number of its frame
        self._frame_numbers: dict[FrameKey, int] = {}
        self._nodes: dict[tuple[int, int], int] = {}

    def frame_number(self, key: FrameKey) -> int:
        """Return the number of a frame: 0, 1, 2..."""
        number = self._frame_numbers.setdefault(key, len(self.frames))
        if number == len(self.frames):
            self.frames.append(key)
        return number

    def child(self, parent: int, frame: int) -> int:
        """Return the node of the stack that is `parent` with one frame more."""
        number = self._nodes.get((parent, frame))
        if number is None:
            number = self._nodes[parent, frame] = len(self.parents)
            self.parents.append(parent)
            self.leaf_frames.append(frame)
        return number

    def add(self, root_first: Iterable[FrameKey], parent: int = 0) -> int:
        """Return the node of a stack that continues `parent`."""
        node = parent
        for key in root_first:
            node = self.child(node, self.frame_number(key))
        return node

    def alias(self, node: int, alias: int) -> int:
        """Return a node that reads as the same stack, but is another one."""
        if alias == 0:
            return node
        leaf = self.frames[self.leaf_frames[node]]._replace(alias=alias)
        return self.child(self.parents[node], self.frame_number(leaf))

    def path(self, node: int) -> tuple[int, ...]:
        """Return the numbers of a stack's frames, root-most first."""
        numbers = []
        while node:
            numbers.append(self.leaf_frames[node])
            node = self.parents[node]
        return tuple(reversed(numbers))
