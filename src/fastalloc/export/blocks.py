"""What both kinds of file are made from: the samples of a snapshot, told in memray's terms.

A block is a sample, still live or known to have been freed, with its thread, stack and
allocator as they will stand in the file.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from fastalloc.export.errors import ExportError
from fastalloc.export.records import Allocator
from fastalloc.export.stacks import FrameKey, StackTree, frame_key
from fastalloc.recording.layout import Domain
from fastalloc.recording.stacks import STACK_CUT, UNKNOWN_FUNCTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastalloc.recording.reader import Frame, Snapshot

PSEUDO_FRAMES = ("span", "phase", "thread")

# Made-up names are in angle brackets: `memray tree` takes square ones for markup.
UNKNOWN = "<not recorded>"
NO_SPAN = "<no span>"
NO_PHASE = "<no phase>"
NO_NAME = "<no name>"
NO_STACK = FrameKey("<no Python stack>", "", 0)
READERS_NAMES = {STACK_CUT: "<stack cut>", UNKNOWN_FUNCTION: "<unknown function>"}

# Above every thread id of Linux. 0 and 2^64-1 mean something else to memray's reader.
FIRST_MADE_UP_THREAD = 1 << 32


class Block(NamedTuple):
    """A sample."""

    time_ns: int
    freed_ns: int | None
    address: int
    weight: int
    allocations: float  # that it stands for
    site: int
    thread: int
    node: int
    allocator: Allocator
    is_arena: bool  # memory that other blocks may lie in, no part of the live heap


class Threads:
    """Numbers of threads: the system's id, unless two names share one."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._numbers: dict[tuple[int, str], int] = {}

    def number(self, tid: int, name: str) -> int:
        """Return the number in the file of the thread that had this id and name."""
        known = self._numbers.get((tid, name))
        if known is None:
            known = tid if tid and tid not in self.names else FIRST_MADE_UP_THREAD + len(self.names)
            self._numbers[tid, name] = known
            self.names[known] = name
        return known


class Translator:
    """Turns what a snapshot knows into threads, stacks and blocks of one file."""

    def __init__(
        self,
        snapshot: Snapshot,
        frames: Sequence[str] = (),
        pymalloc: Allocator = Allocator.PYMALLOC_MALLOC,
    ) -> None:
        """frames: what to show above every stack. pymalloc: how to call what it serves."""
        for name in frames:
            if name not in PSEUDO_FRAMES:
                raise ExportError(
                    f"'{name}' cannot be shown as a frame; choose from {', '.join(PSEUDO_FRAMES)}."
                )
        self.tree = StackTree()
        self.threads = Threads()
        # Arenas are what small objects live in: beside samples of the objects they would
        # count the same memory twice. In standby mode there are only arenas.
        self.with_arenas = snapshot.mode == "standby"
        self._allocators = {
            Domain.RAW: Allocator.MALLOC,
            Domain.MEM: pymalloc,
            Domain.OBJ: pymalloc,
            Domain.ARENA: Allocator.MMAP,
            Domain.MALLOC: Allocator.MALLOC,
            Domain.MMAP: Allocator.MMAP,
        }
        self._snapshot = snapshot
        self._frames = tuple(frames)
        self._nodes: dict[tuple[object, ...], int] = {}
        self._frame_numbers: dict[Frame, int] = {}
        self._site_domains = [Domain(domain) for domain in snapshot.sites["domain"].tolist()]
        self._phase_names: list[str] = snapshot.phases["name"].tolist()
        self._span_names = _span_names(snapshot)

    def blocks(self) -> Iterator[Block]:
        """Yield every sample: those of the live heap, then those of the ring of the freed."""
        live, freed = self._snapshot.live, self._snapshot.freed
        yield from self._blocks(live, repeat(None), map(Domain, live["domain"].tolist()))
        domains = [self._site_domains[site] for site in freed["site"].tolist()]
        yield from self._blocks(freed, freed["freed_ns"].tolist(), domains)

    def unknown_node(self, site: int) -> int:
        """Return the stack of a site for bytes whose span, phase and thread are not recorded."""
        return self._node(site, UNKNOWN, UNKNOWN, UNKNOWN)

    def unknown_thread(self) -> int:
        """Return the thread of bytes whose thread is not recorded."""
        return self.threads.number(0, UNKNOWN)

    def site_allocator(self, site: int) -> Allocator:
        """Return the allocator of all blocks of a site."""
        return self._allocators[self._site_domains[site]]

    def exports(self, site: int) -> bool:
        """Tell whether the blocks of a site go into the file."""
        return self.with_arenas or self._site_domains[site] is not Domain.ARENA

    def _blocks(
        self, samples: Any, freed: Iterable[int | None], domains: Iterable[Domain]
    ) -> Iterator[Block]:
        times = _columns(samples, "time_ns", "address", "weight", "size")
        origins = _columns(samples, "site", "span_id", "phase", "tid", "thread_name")
        for (time_ns, address, weight, size), origin, freed_ns, domain in zip(
            times, origins, freed, domains, strict=False
        ):
            if domain is Domain.ARENA and not self.with_arenas:
                continue
            site, span_id, phase, tid, thread = origin
            yield Block(
                time_ns,
                freed_ns,
                address,
                weight,
                weight / size if size else 1.0,
                site,
                self.threads.number(tid, thread),
                self._node(site, self._span(span_id), self._phase(phase), thread),
                self._allocators[domain],
                domain is Domain.ARENA,
            )

    def _span(self, span_id: int) -> str:
        return self._span_names.get(span_id, UNKNOWN)

    def _phase(self, phase: int) -> str:
        return (self._phase_names[phase] if phase else "") or NO_PHASE

    def _node(self, site: int, span: str, phase: str, thread: str) -> int:
        shown = {"span": span, "phase": phase, "thread": thread or NO_NAME}
        roots = tuple(FrameKey(shown[name], f"<{name}>", 0) for name in self._frames)
        node = self._nodes.get((site, roots))
        if node is None:
            stack = self._snapshot.stack(site)
            node = self.tree.add(roots if stack else [*roots, NO_STACK])
            for frame in reversed(stack):
                node = self.tree.child(node, self._frame_number(frame))
            self._nodes[site, roots] = node
        return node

    def _frame_number(self, frame: Frame) -> int:
        number = self._frame_numbers.get(frame)
        if number is None:
            name = READERS_NAMES.get(frame.function, frame.function)
            number = self.tree.frame_number(frame_key(name, frame.file, frame.line))
            self._frame_numbers[frame] = number
        return number


def _span_names(snapshot: Snapshot) -> dict[int, str]:
    """Return the names of all spans that the recording still knows, by id."""
    names = {0: NO_SPAN}
    for records in (snapshot.records, snapshot.checkpoints):
        for kind, span_id, name, span_name in _columns(
            records, "kind", "span_id", "name", "span_name"
        ):
            if span_name or kind == "span":
                names.setdefault(span_id, span_name or name)
    for span_id, name in _columns(snapshot.spans, "id", "name"):
        names.setdefault(span_id, name)
    return names


def _columns(table: Any, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a structured array as tuples of Python values."""
    return zip(*(table[name].tolist() for name in names), strict=True)
