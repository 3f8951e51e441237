"""The biggest holders: live samples summed by what they have in common.

Everything is counted by number; names are only made for the rows that are returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import Domain
from fastalloc.recording.modules import module_of
from fastalloc.recording.stacks import number_distinct

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastalloc.recording.snapshot import Snapshot
    from fastalloc.recording.views import Table

NO_STACK = "<no Python stack>"
NO_NATIVE = "<no native frames>"
NO_SPAN = "<no span>"
NO_PHASE = "<no phase>"
NO_THREAD = "<no thread name>"
ABOVE = " <- "
"""In a site's key, between a frame and its caller."""


class Row(NamedTuple):
    """What one holder holds. Estimated from samples, except `samples` itself."""

    key: str
    """Its name; see `GROUPS`."""
    live_bytes: int
    live_count: float
    """Blocks."""
    high_water_bytes: int
    """What it held when the process's live heap was at its high-water mark; 0 if only some
    samples were asked for."""
    error_bytes: float
    """One standard error of `live_bytes` at most: the truth is within twice of it 19 times in 20, or more."""
    samples: int
    """Live samples: the estimate rests on these."""
    oldest_seconds: float
    """Age of the oldest live sample; 0 if there is none."""
    site: int
    """The site that holds most of it, an index for `Snapshot.stack`; 0 if none is known."""


class _Groups(NamedTuple):
    """A way to divide the samples."""

    of_samples: npt.NDArray[np.int64]
    """Per sample the number of its group."""
    high_water: npt.NDArray[Any]
    """Per group its bytes at the high-water mark; as long as there are groups."""
    name: Callable[[int], str]


def top(
    snapshot: Snapshot,
    by: str,
    group: str,
    limit: int | None,
    where: npt.NDArray[np.bool_] | None = None,
) -> list[Row]:
    """The rows of `Snapshot.top`. ValueError if `by` or `group` is no such thing, or `limit` below 0.

    Arenas are what object blocks lie in. In standby mode, where object blocks are not sampled,
    they count as heap growth; blocks that were sampled before, in another mode, lie elsewhere and
    count beside them. In all other modes arenas would count the same memory twice, and are left out.
    """
    if by not in ORDERS:
        raise ValueError(f"cannot order by {by!r}; choose from {', '.join(ORDERS)}")
    if group not in GROUPS:
        raise ValueError(f"cannot group by {group!r}; choose from {', '.join(GROUPS)}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; give how many rows at most, or None for all")
    shown = np.ones(len(Domain), bool)
    shown[Domain.ARENA] = snapshot.mode == "standby"
    counted = shown[snapshot.live["domain"]]
    live = snapshot.live[counted if where is None else counted & where]
    groups = GROUPS[group](snapshot, live, shown)
    if where is not None:
        groups = groups._replace(high_water=np.zeros(len(groups.high_water)))
    sums = _sums(live, groups)
    order = np.lexsort((np.arange(len(sums["samples"])), -sums[by]))
    order = order[(sums["samples"] > 0)[order] | (sums["high_water_bytes"] > 0)[order]][:limit]
    sites = _heaviest_sites(live, groups.of_samples, order)
    return [
        Row(
            groups.name(number),
            int(sums["live_bytes"][number]),
            float(sums["live_count"][number]),
            int(sums["high_water_bytes"][number]),
            float(sums["error_bytes"][number]),
            int(sums["samples"][number]),
            float(sums["oldest_seconds"][number]),
            sites[number],
        )
        for number in order.tolist()
    ]


def _sums(live: Table, groups: _Groups) -> dict[str, npt.NDArray[Any]]:
    """Per group the numbers of a row."""
    of, size = groups.of_samples, len(groups.high_water)
    weight = live["weight"].astype(np.float64)
    excess = np.maximum(weight - live["size"], 0.0)
    oldest = np.zeros(size)
    np.maximum.at(oldest, of, live["age_seconds"])
    return {
        "live_bytes": np.bincount(of, weight, size),  # exact: below 2**53
        "live_count": np.bincount(of, live["count"], size),
        "high_water_bytes": groups.high_water,
        "error_bytes": np.sqrt(np.bincount(of, weight * excess, size)),  # Horvitz-Thompson
        "samples": np.bincount(of, minlength=size),
        "oldest_seconds": oldest,
    }


def _heaviest_sites(
    live: Table, of_samples: npt.NDArray[np.int64], order: npt.NDArray[np.int64]
) -> dict[int, int]:
    """For each group in `order` the site with most live bytes."""
    heaviest = dict.fromkeys(order.tolist(), 0)
    pairs, inverse = np.unique(of_samples << 32 | live["site"], return_inverse=True)
    held = np.bincount(inverse.ravel(), live["weight"].astype(np.float64), len(pairs))
    for pair in pairs[np.argsort(held, kind="stable")].tolist():  # the heaviest last: it stays
        if pair >> 32 in heaviest:
            heaviest[pair >> 32] = pair & 0xFFFF_FFFF
    return heaviest


# --- groups ------------------------------------------------------------------------------


def _by_leaf(
    snapshot: Snapshot,
    live: Table,
    shown: npt.NDArray[np.bool_],
    of_nodes: npt.NDArray[np.int64],
    name: Callable[[int], str],
    no_stack: str = NO_STACK,
) -> _Groups:
    """Groups of sites by their leaf node: `of_nodes` gives each node's group, `name` gets a node.

    Node 0 is a group of its own, whatever `of_nodes` says, named `no_stack`.
    """
    numbers = of_nodes + 1
    numbers[0] = 0
    size = int(numbers.max()) + 1
    nodes = np.zeros(size, np.int64)
    nodes[numbers[::-1]] = np.arange(len(numbers))[::-1]  # the first node of each group
    sites = snapshot.sites
    of_sites = numbers[sites["node"]]
    counted = shown[sites["domain"]]
    high_water = np.bincount(of_sites[counted], sites["high_water_bytes"][counted], size)
    return _Groups(
        of_sites[live["site"]],
        high_water,
        lambda number: name(int(nodes[number])) if number else no_stack,
    )


def _by_site(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    def name(node: int) -> str:
        stack = snapshot.stacks.stack(node)
        return ABOVE.join(frame.text for frame in stack)

    return _by_leaf(snapshot, live, shown, snapshot.stacks.canonical, name)


def _by_line(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    stacks = snapshot.stacks
    numbers = number_distinct(stacks.files, stacks.lines.view(np.uint32), stacks.symbols)
    return _by_leaf(
        snapshot,
        live,
        shown,
        numbers[stacks.python],
        lambda node: stacks.frame(int(stacks.python[node])).place,
    )


def _by_own_line(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    stacks = snapshot.stacks
    own = stacks.own
    numbers = number_distinct(stacks.files, stacks.lines.view(np.uint32), stacks.symbols)[own]
    return _by_leaf(snapshot, live, shown, numbers, lambda node: stacks.frame(int(own[node])).place)


def _by_function(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    stacks = snapshot.stacks
    numbers = number_distinct(stacks.files, stacks.function_names, stacks.symbols)
    return _by_leaf(
        snapshot,
        live,
        shown,
        numbers[stacks.python],
        lambda node: stacks.frame(int(stacks.python[node])).full_name,
    )


def _by_native_function(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    stacks = snapshot.stacks
    numbers = number_distinct(stacks.files, stacks.symbols)
    numbers = np.where(stacks.native, numbers + 1, 0)

    def name(node: int) -> str:
        return stacks.frame(node).place if stacks.native[node] else NO_NATIVE

    return _by_leaf(snapshot, live, shown, numbers, name, no_stack=NO_NATIVE)


def _by_module(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    stacks = snapshot.stacks
    first_nodes = np.unique(stacks.files, return_index=True)[1].tolist()
    files = number_distinct(stacks.files)
    modules: dict[str, int] = {}
    names = [_module(snapshot, node) for node in first_nodes]
    of_files = np.array([modules.setdefault(name, len(modules)) for name in names], np.int64)
    return _by_leaf(
        snapshot,
        live,
        shown,
        of_files[files][stacks.python],
        lambda node: _module(snapshot, int(stacks.python[node])),
    )


def _module(snapshot: Snapshot, node: int) -> str:
    frame = snapshot.stacks.frame(node)
    if frame.is_native:
        return frame.file.rpartition("/")[2]
    return module_of(frame.file) if frame.file else frame.function


def _by_names(
    names: list[str], numbers: npt.NDArray[np.int64], high_water: npt.NDArray[np.int64]
) -> _Groups:
    """Groups by name: entries of one name are one group. `numbers` are of samples."""
    distinct: dict[str, int] = {}
    of_entries = np.array([distinct.setdefault(name, len(distinct)) for name in names], np.int64)
    texts = list(distinct)
    return _Groups(
        of_entries[numbers],
        np.bincount(of_entries, high_water, len(texts)),
        lambda number: texts[number],
    )


def _by_span(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    names = [name or NO_SPAN for name in snapshot.spans["name"].tolist()]
    return _by_names(names, live["span"], snapshot.spans["high_water_bytes"])


def _by_phase(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    phases = snapshot.phases
    names = [
        phase_key(name, span_name)
        for name, span_name in zip(
            phases["name"].tolist(), phases["span_name"].tolist(), strict=True
        )
    ]
    return _by_names(names, live["phase"], phases["high_water_bytes"])


def phase_key(name: str, span_name: str) -> str:
    """How a phase is named in one string: with the span it is part of, if any."""
    if not span_name or name == span_name:
        return name or NO_PHASE
    return f"{span_name} > {name or NO_PHASE}"


def _by_thread(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    thread_names = snapshot.thread_names
    names = [name or NO_THREAD for name in thread_names["name"].tolist()]
    return _by_names(names, live["thread"], thread_names["high_water_bytes"])


def _by_domain(snapshot: Snapshot, live: Table, shown: npt.NDArray[np.bool_]) -> _Groups:
    sites = snapshot.sites
    counted = shown[sites["domain"]]
    high_water = np.bincount(
        sites["domain"][counted], sites["high_water_bytes"][counted], len(Domain)
    )
    return _Groups(live["domain"], high_water, lambda number: Domain(number).name)


GROUPS: dict[str, Callable[[Snapshot, Table, npt.NDArray[np.bool_]], _Groups]] = {
    "site": _by_site,
    "line": _by_line,
    "own_line": _by_own_line,
    "function": _by_function,
    "native_function": _by_native_function,
    "span": _by_span,
    "phase": _by_phase,
    "thread": _by_thread,
    "module": _by_module,
    "domain": _by_domain,
}
"""What a row can be, and its key:

- site: the stack, leaf first, `function (path:line) <- ...`; domains together
C functions are shown by site and native_function alone; by the others they count for the Python frame that called
them, and for themselves (`module:function`) in threads that Python does not know.

- line: `path:line` of the leaf frame
- own_line: `path:line` of the leaf-most frame that is the program's own code (`modules.is_own`)
- function: `path:function` of the leaf frame
- module: of the leaf frame; see `modules.module_of`
- native_function: `module:function` of the innermost C function, where the option `native_frames` had it kept
- span: the span's name (its route), all spans of the name together
- phase: `phase`, or `span > phase` inside a span; the span alone: outside its phases
- thread: the thread's name
- domain: RAW, MEM, OBJ, ARENA, MALLOC, MMAP

By span, phase and thread `high_water_bytes` is without arenas, and a span's without what
finished spans held that hold nothing any more.
"""

ORDERS = tuple(name for name in Row._fields if name not in ("key", "site"))
"""What rows can be ordered by: any of their numbers."""
