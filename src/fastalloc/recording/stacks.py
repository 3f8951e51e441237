"""The tree of stacks, as a reader sees it: nodes that read alike are one.

The recorder tells nodes apart by instruction, and functions by their line tables. A reader
cannot see either, so nodes of the same parent, function, file and line are merged here; the
first of them stands for all (its index is the canonical one).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import MODULE_LINE
from fastalloc.recording.modules import is_own
from fastalloc.recording.symbols import module

if TYPE_CHECKING:
    from fastalloc.recording.strings import Strings

STACK_CUT = "[stack cut]"
UNKNOWN_FUNCTION = "[unknown function]"
"""A frame whose function could not be stored: the table of functions was full."""


class Frame(NamedTuple):
    """One call on a stack."""

    function: str
    """Qualified name. `[stack cut]` stands for all callers beyond `max_frames`."""
    file: str
    line: int
    """0: not known."""

    @property
    def is_native(self) -> bool:
        """Whether it is a C function: see NativeFrame."""
        return False

    @property
    def place(self) -> str:
        """`path:line`; of a C function `module:function`."""
        if self.is_native:
            return f"{self.file.rpartition('/')[2]}:{self.function}"
        return f"{self.file}:{self.line}" if self.file else self.function

    @property
    def text(self) -> str:
        """`function (path:line)`, or `function (module)`."""
        where = self.file.rpartition("/")[2] if self.is_native else f"{self.file}:{self.line}"
        return f"{self.function} ({where})"

    @property
    def full_name(self) -> str:
        """`path:function`; of a C function `module:function`."""
        if self.is_native:
            return self.place
        return f"{self.file}:{self.function}" if self.file else self.function


class NativeFrame(Frame):
    """A C function: `function` is its name or `module+0x...`, `file` its module (an ELF file)."""

    __slots__ = ()

    @property
    def is_native(self) -> bool:
        """True."""
        return True


class Stacks:
    """All stacks of a recording. Cost: nothing until asked, then one pass over the nodes."""

    def __init__(
        self, nodes: npt.NDArray[np.void], functions: npt.NDArray[np.void], strings: Strings
    ) -> None:
        """`nodes`, `functions`: checked tables, as layout.NODE and layout.FUNCTION."""
        self._nodes = nodes
        self._functions = functions
        self._strings = strings
        self._frames: dict[int, Frame] = {}

    @cached_property
    def function_names(self) -> npt.NDArray[np.uint32]:
        """Per node, the string id of its function's name, shape (nodes,)."""
        names: npt.NDArray[np.uint32] = self._functions["name"][self._nodes["function"]]
        return names

    @cached_property
    def files(self) -> npt.NDArray[np.uint32]:
        """Per node, the string id of its file, shape (nodes,)."""
        files: npt.NDArray[np.uint32] = self._functions["file"][self._nodes["function"]]
        return files

    @cached_property
    def lines(self) -> npt.NDArray[np.int32]:
        """Per node, its line, shape (nodes,)."""
        lines: npt.NDArray[np.int32] = self._nodes["line"]
        return lines

    @cached_property
    def native(self) -> npt.NDArray[np.bool_]:
        """Per node, whether it is a C function, shape (nodes,)."""
        functions = self._nodes["function"]
        native: npt.NDArray[np.bool_] = (
            self._functions["first_line"][functions] == MODULE_LINE
        ) & (functions != 0)
        return native

    @cached_property
    def symbols(self) -> npt.NDArray[np.uint32]:
        """Per node the number of its C function's name, 0 for Python's. Shape (nodes,).

        Opens the files of the modules, which may be large: milliseconds each.
        """
        numbers = np.zeros(len(self._nodes), np.uint32)
        names: dict[str, int] = {}
        for node in np.flatnonzero(self.native).tolist():
            numbers[node] = names.setdefault(self._symbol(node), len(names) + 1)
        return numbers

    def _symbol(self, node: int) -> str:
        identity, path = (
            self._strings[int(ids[node])] for ids in (self.function_names, self.files)
        )
        return module(path, identity).function(int(self._nodes["lasti"][node]) & 0xFFFF_FFFF)

    @cached_property
    def python(self) -> npt.NDArray[np.int64]:
        """Per node, the nearest one towards the root that is Python's; itself where there is none.
        Shape (nodes,)."""
        nearest = np.arange(len(self._nodes))
        parents, native = self._nodes["parent"], self.native
        for node in np.flatnonzero(native).tolist():  # a parent comes before its children
            parent = int(parents[node])
            if parent and not native[nearest[parent]]:
                nearest[node] = nearest[parent]
        return nearest

    @cached_property
    def canonical(self) -> npt.NDArray[np.int64]:
        """Per node, the index of the first node that reads as the same stack, shape (nodes,)."""
        frames = number_distinct(
            self.function_names, self.files, self.lines.view(np.uint32), self.symbols
        )
        parents = self._nodes["parent"].tolist()
        first: dict[tuple[int, int], int] = {}
        canonical = [0] * len(parents)
        for node, (parent, frame) in enumerate(zip(parents, frames.tolist(), strict=True)):
            if node:  # a parent comes before its children, so it has its canonical index
                canonical[node] = first.setdefault((canonical[parent], frame), node)
        return np.array(canonical, np.int64)

    @cached_property
    def own(self) -> npt.NDArray[np.int64]:
        """Per node, the nearest one towards the root that is the program's own code (itself, a
        caller, a caller's caller...); itself where there is none. Shape (nodes,)."""
        files, file_of = np.unique(self.files, return_inverse=True)
        are_own = [is_own(self._strings[file]) for file in files.tolist()]
        is_own_node = (np.array(are_own, bool)[file_of.reshape(-1)] & ~self.native).tolist()
        nearest = [0] * len(is_own_node)
        for node, parent in enumerate(self._nodes["parent"].tolist()):
            nearest[node] = node if is_own_node[node] else nearest[parent]
        found = np.array(nearest, np.int64)
        return np.where(found == 0, self.python, found)

    def frame(self, node: int) -> Frame:
        """The frame of a node other than 0."""
        frame = self._frames.get(node)
        if frame is None:
            line = int(self.lines[node])
            if self.native[node]:
                file = self._strings[int(self.files[node])]
                frame = NativeFrame(self._symbol(node), file, 0)
            elif self._nodes["function"][node]:
                names = self.function_names[node], self.files[node]
                frame = Frame(self._strings[int(names[0])], self._strings[int(names[1])], line)
            else:
                frame = Frame(UNKNOWN_FUNCTION if line else STACK_CUT, "", line)
            self._frames[node] = frame
        return frame

    def stack(self, node: int) -> list[Frame]:
        """The frames from a node to the root, leaf first; none for node 0."""
        parents, stack = self._nodes["parent"], []
        while node:
            stack.append(self.frame(node))
            node = int(parents[node])
        return stack


def depth_of(parents: npt.NDArray[np.uint32]) -> int:
    """The depth of the deepest node, by doubling: log2(depth) passes. Node 0 has depth 0."""
    up = parents.astype(np.int64)
    depth = np.ones(len(up), np.int64)
    depth[:1] = 0
    while up.any():
        depth += depth[up]
        up = up[up]
    return int(depth.max(initial=0))


def number_distinct(*columns: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Number the distinct rows of some columns of 32 bits: 0, 1, 2... per row, shape (n,)."""
    numbers = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        keys = numbers << np.uint64(32) | column.astype(np.uint64)
        numbers = np.unique(keys, return_inverse=True)[1].astype(np.uint64)
    return numbers.astype(np.int64)
