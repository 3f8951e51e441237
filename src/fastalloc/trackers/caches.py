"""Caches: what grows in a process from sweep to sweep and belongs to no request.

Looked at: containers that modules, their classes and their module-level objects hold by name (dict, list, set,
deque and their kin), and functools.lru_cache. In aggressive mode only, in the watcher's thread: a sweep of all modules
every ten seconds, in steps of 3 ms at most, one a second.

Laws: no code of the program runs: lengths and sizes are asked of exact types that are C's own. No key and no value is
told, or kept.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from itertools import islice
from time import monotonic, perf_counter
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from fastalloc import _core, background
from fastalloc.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fastalloc.trackers.work import Work

NAME = "caches"
SWEEP_SECONDS, STEP_EVERY_SECONDS, STEP_SECONDS = 10.0, 1.0, 0.003
KEPT_FROM = 64  # entries: what is smaller is no cache worth a name
GROWN_BY = 64  # entries since it was first seen
MAX_KEPT = 2000
LOOK_AT_CLOCK = 64  # names between two looks at the clock
SAMPLED = 16  # entries whose size is looked at
LRU_LOOKED_INTO = 50_000  # entries of an lru_cache, of which a list must be made
TOLD = 30

breaker = Breaker("tracker caches")
enabled = True

CONTAINERS = (dict, list, set, deque, OrderedDict, defaultdict, Counter, bytearray)
_WEAK = (WeakKeyDictionary, WeakSet, WeakValueDictionary)
_KINDS = frozenset((*CONTAINERS, *_WEAK))
_LRU = type(functools.lru_cache(maxsize=1)(lambda: None))
_SIZED = frozenset(
    (*CONTAINERS, tuple, frozenset, str, bytes, int, float, complex, bool, type(None))
)


class Grown:
    """What is known of one container: its length when first seen and now."""

    __slots__ = ("bytes", "first", "in_a_row", "kind", "length", "limit", "since")

    def __init__(self, kind: str, length: int, limit: int | None) -> None:
        self.kind, self.first, self.length, self.limit = kind, length, length, limit
        self.in_a_row = 0  # sweeps, the last one included, in which it grew
        self.bytes = 0  # estimated, of all its entries
        self.since = monotonic()

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "kind": self.kind,
            "length": self.length,
            "grown_by": self.length - self.first,
            "grew_in_last_sweeps": self.in_a_row,
            "estimated_bytes": self.bytes,
            "seconds": round(monotonic() - self.since, 1),
            "limit": self.limit,
        }


class Sweeps:
    """The sweeps of one process; the present one goes on at each step."""

    def __init__(self) -> None:
        self.by_name: dict[str, Grown] = {}
        self.finished = 0
        self.seconds = 0.0  # that all steps took
        self.longest_step = 0.0
        self.not_kept = 0
        self._steps: Iterator[None] | None = None
        self._due = 0.0

    def step(self) -> None:
        """Go on with the sweep for a short while; begin one when it is time."""
        began = perf_counter()
        if self._steps is None:
            if monotonic() < self._due:
                return
            self._due = monotonic() + SWEEP_SECONDS
            self._steps = self._sweep()
        try:
            for _ in self._steps:
                if perf_counter() - began > STEP_SECONDS:
                    break
            else:
                self._steps = None
                self.finished += 1
        except Exception:
            self._steps = None  # else the next step would find it at its end, and call that a sweep
            raise
        took = perf_counter() - began
        self.seconds += took
        self.longest_step = max(self.longest_step, took)

    def _sweep(self) -> Iterator[None]:
        """One look at everything, with a rest every so many names."""
        seen: set[int] = set()
        count = 0
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in _NOT_LOOKED_AT and not name.startswith("fastalloc.demo"):
                continue
            for place, value in _named(name, module):
                count += 1
                if count % LOOK_AT_CLOCK == 0:
                    yield
                if id(value) not in seen and (type(value) in _KINDS or type(value) is _LRU):
                    seen.add(id(value))
                    if self._look(place, value):
                        yield

    def _look(self, place: str, value: Any) -> bool:
        """Note the container's length. True: that took a while."""
        limit = None
        if type(value) is _LRU:
            info = value.cache_info()
            length, limit = info.currsize, info.maxsize
        else:
            length = len(value)
        known = self.by_name.get(place)
        if known is None:
            if length < KEPT_FROM:
                return False
            if len(self.by_name) >= MAX_KEPT:
                self.not_kept += 1
                return False
            self.by_name[place] = Grown(type(value).__name__.strip("_"), length, limit)
            return False
        known.in_a_row = known.in_a_row + 1 if length > known.length else 0
        known.length = length
        if length - known.first < GROWN_BY or not known.in_a_row:
            return False
        known.bytes = estimated_bytes(value, length)
        return True

    def to_dict(self) -> dict[str, Any] | None:
        """Fit for JSON: what has grown, by bytes; None before the first sweep."""
        if not self.finished and self._steps is None:
            return None
        grown = [
            (name, known)
            for name, known in tuple(self.by_name.items())
            if known.length - known.first >= GROWN_BY
        ]
        grown.sort(key=lambda item: (-item[1].bytes, -(item[1].length - item[1].first)))
        return {
            "growing": {name: known.to_dict() for name, known in grown[:TOLD]},
            "sweeps": self.finished,
            "seconds": round(self.seconds, 6),
            "longest_step_seconds": round(self.longest_step, 6),
            "watched": len(self.by_name),
            "not_kept": self.not_kept,
        }


_NOT_LOOKED_AT = frozenset((*sys.stdlib_module_names, "fastalloc", "__mp_main__")) - {"__main__"}


def _named(name: str, module: Any) -> Iterator[tuple[str, Any]]:
    """(place, object) of what a module holds by name, what its classes do, and the attributes of its
    module-level objects of classes in Python."""
    if type(module) is not _MODULE:
        return
    for key, value in list(module.__dict__.items()):
        if key.startswith("__"):
            continue
        place = f"{name}.{key}"
        yield place, value
        kind = type(value)
        if kind in _KINDS or kind in _SIZED or kind is _LRU or kind is _MODULE:
            continue
        if isinstance(value, type):
            if type.__getattribute__(value, "__module__") == name:
                for attribute, inner in list(type.__getattribute__(value, "__dict__").items()):
                    if not attribute.startswith("__"):
                        yield (
                            f"{place}.{attribute}",
                            getattr(inner, "__func__", inner)
                            if type(inner) in (staticmethod, classmethod)
                            else inner,
                        )
        elif kind.__flags__ & _HEAP_TYPE and kind.__module__ not in sys.stdlib_module_names:
            attributes = _attributes_of(value)
            for attribute, inner in list(attributes.items()) if attributes else ():
                if type(attribute) is str and not attribute.startswith("__"):
                    yield f"{place}.{attribute}", inner


_MODULE = type(sys)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class, rather than C's own type


def _attributes_of(instance: object) -> dict[Any, Any] | None:
    """The instance's own dict, without a call of its class's code."""
    try:
        found = object.__getattribute__(instance, "__dict__")
    except AttributeError:
        return None
    return found if type(found) is dict else None


def estimated_bytes(container: Any, length: int) -> int:
    """The container's own size, and its entries' by a few of them, two levels deep; estimated, since
    entries may share what they hold."""
    if type(container) is _LRU:
        some = _some_of_lru(container)
        own = 100 * length  # a dict's slot and a link of the list
    elif type(container) in CONTAINERS:
        own = sys.getsizeof(container)
        try:
            entries = container.items() if isinstance(container, dict) else container
            some = [] if type(container) is bytearray else list(islice(entries, SAMPLED))
        except RuntimeError:  # it changes just now
            some = []
    else:
        own, some = 100 * length, []
    if not some:
        return own
    return own + length * sum(_size(entry, 2) for entry in some) // len(some)


def _some_of_lru(cache: Any) -> list[Any]:
    """Some (key, result). What the collector sees of a bounded cache are its keys and results themselves,
    of one without a bound the dict that holds them."""
    info = cache.cache_info()
    if info.currsize > LRU_LOOKED_INTO:
        return []
    held = gc.get_referents(cache)
    if info.maxsize is None:
        entries = next((one for one in held if type(one) is dict and len(one)), {})
        try:
            return list(islice(entries.items(), SAMPLED))
        except RuntimeError:
            return []
    plain = [one for one in held if type(one) is not dict and not callable(one)]
    return list(islice(zip(plain[::2], plain[1::2], strict=False), SAMPLED))


def _size(value: Any, depth: int) -> int:
    kind = type(value)
    if kind not in _SIZED:
        size = int(object.__sizeof__(value))
        attributes = _attributes_of(value) if depth else None
        return size + (_size(attributes, depth) if attributes else 0)
    # A pair of key and value is a tuple that we have made, and counts as nothing itself.
    size = 0 if kind is tuple and depth == 2 else sys.getsizeof(value)
    if depth and kind not in (str, bytes, bytearray) and hasattr(value, "__len__"):
        try:
            inner = list(islice(value.items() if isinstance(value, dict) else value, SAMPLED))
        except RuntimeError:
            inner = []
        if inner:
            entries = (
                _size(entry[0], depth - 1) + _size(entry[1], depth - 1)
                if isinstance(value, dict)
                else _size(entry, depth - 1)
                for entry in inner
            )
            size += len(value) * sum(entries) // len(inner)
    return size


_sweeps = Sweeps()


def start() -> None:
    """Sweep from now on, while the mode is aggressive."""
    background.every(STEP_EVERY_SECONDS, _step, "tracker caches")


def _step() -> None:
    if _core.mode() in ("aggressive", "targeted"):
        _sweeps.step()


def finish(work: Work) -> None:
    """A request is over: nothing of it is told here."""


def section() -> dict[str, Any] | None:
    """The dump's part: what has grown since it was first seen."""
    return _sweeps.to_dict()


def reset() -> None:
    """Forget all: a forked child sweeps for itself."""
    global _sweeps
    _sweeps = Sweeps()
