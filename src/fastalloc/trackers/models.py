"""Models: how many instances of each a request fetched, made, changed, removed, and left alive.

Fetched counts are exact. Bytes are what making objects of the rows allocated, related objects of the same
rows among them: they count for the model that was asked for. Alive is counted over weak references
to some of the instances: exact up to 255 of a model in a request; beyond, an estimate from 128 to 255 of them,
drawn by lot, whose standard error is at most 4.5 % of the instances fetched.
"""

from __future__ import annotations

import _random  # the class behind `random`, without the 3 ms that importing `random` takes
import sys
import weakref
from collections import deque

from fastalloc.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fastalloc.trackers.work import Work

NAME = "models"
MAX_PER_REQUEST = 60
MAX_PER_PROCESS = 300
MAX_KEPT = 256  # weak references to instances of a model
MAX_FINISHED = 16  # requests that are over whose instances are still looked after
DIGEST_MODELS, DUMP_MODELS = 12, 60

breaker = Breaker("tracker models")
enabled = True

_lot = _random.Random()


class Model:
    """What a request, or the process, did to instances of one model."""

    __slots__ = ("bytes", "created", "deleted", "fetched", "requests", "some", "updated")

    def __init__(self) -> None:
        self.fetched = self.created = self.updated = self.deleted = self.bytes = self.requests = 0
        self.some = Some()

    def counts(self) -> dict[str, int]:
        """Fit for JSON."""
        names = ("fetched", "created", "updated", "deleted", "bytes")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Likewise, with what is alive now."""
        alive, is_exact = self.some.alive()
        return {**self.counts(), "alive": alive, "alive_is_exact": is_exact}


class Some:
    """Weak references to some of a stream of instances: one of each block of so many, drawn by lot. Blocks
    grow twice as long each time that there are too many references, and of two, one stays."""

    __slots__ = ("_block", "_next", "_references", "_seen")

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []
        self._seen = self._next = 0
        self._block = 1

    def add(self, instance: object) -> None:
        """The next instance of the stream."""
        if self._seen == self._next:
            self._keep(instance)
        self._seen += 1

    def extend(self, instances: list[Any]) -> None:
        """The next ones: no step per instance."""
        end = self._seen + len(instances)
        while self._next < end:
            self._keep(instances[self._next - self._seen])
        self._seen = end

    def _keep(self, instance: object) -> None:
        try:
            self._references.append(weakref.ref(instance))
        except TypeError:  # of a class without room for weak references: none of it is ever kept
            self._next = sys.maxsize
            return
        if len(self._references) >= MAX_KEPT:
            pairs = zip(self._references[::2], self._references[1::2], strict=True)
            self._references = [pair[_lot.getrandbits(1)] for pair in pairs]
            self._block *= 2
        self._next = len(self._references) * self._block + int(_lot.random() * self._block)

    def alive(self) -> tuple[int, bool]:
        """(how many of the stream are alive, whether that is exact)."""
        if not self._references:
            return 0, self._seen == 0
        alive = sum(reference() is not None for reference in tuple(self._references))
        if self._block == 1:
            return alive, True
        return round(self._seen * alive / len(self._references)), False


class Models:
    """A table of models with an end."""

    __slots__ = ("_capacity", "by_label", "not_kept")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.by_label: dict[str, Model] = {}
        self.not_kept = 0  # instances of models that found the table full

    def get(self, label: str, instances: int = 1) -> Model | None:
        """The entry, made where there is room."""
        found = self.by_label.get(label)
        if found is None:
            if len(self.by_label) >= self._capacity:
                self.not_kept += instances
            else:
                found = self.by_label[label] = Model()
        return found

    def largest(self, count: int) -> list[tuple[str, Model]]:
        """The entries of most bytes, then of most instances."""
        entries = list(self.by_label.items())
        entries.sort(key=lambda item: (-item[1].bytes, -item[1].fetched, item[0]))
        return entries[:count]


def of(current: Work) -> Models:
    """The request's table."""
    found = current.notes.get(NAME)
    if found is None:
        found = current.notes[NAME] = Models(MAX_PER_REQUEST)
    return found


def fetched(current: Work, label: str, instances: list[Any], size: int) -> None:
    """A query has made `instances` of a model, and allocated `size` bytes for that."""
    model = of(current).get(label, len(instances))
    if model is not None:
        model.fetched += len(instances)
        model.bytes += size
        model.some.extend(instances)


def some_of(current: Work, label: str) -> Some | None:
    """Where a query that makes instances one by one leaves some of them."""
    model = of(current).get(label)
    return model.some if model is not None else None


def streamed(current: Work, label: str, count: int, size: int) -> None:
    """A query has made `count` instances one by one."""
    model = of(current).get(label, count)
    if model is not None:
        model.fetched += count
        model.bytes += size


def fetched_with(current: Work, label: str, instances: Iterable[Any]) -> None:
    """Likewise of a related model, with the rows of another."""
    model = of(current).get(label)
    if model is not None:
        for instance in instances:
            model.fetched += 1
            model.some.add(instance)


def changed(current: Work, label: str, verb: str, rows: int) -> None:
    """A statement has written `rows` rows of a model's table."""
    model = of(current).get(label, rows)
    if model is not None:
        if verb in ("INSERT", "REPLACE"):
            model.created += rows
        elif verb == "UPDATE":
            model.updated += rows
        elif verb == "DELETE":
            model.deleted += rows


_process = Models(MAX_PER_PROCESS)
_finished: deque[tuple[str, Models]] = deque(maxlen=MAX_FINISHED)


def finish(current: Work) -> dict[str, Any] | None:
    """The request is over: into the process's table, and a digest for the request."""
    table: Models | None = current.notes.get(NAME)
    if table is None:
        return None
    for label, model in table.by_label.items():
        whole = _process.get(label, model.fetched)
        if whole is not None:
            whole.requests += 1
            for name, count in model.counts().items():
                setattr(whole, name, getattr(whole, name) + count)
    _finished.append((current.request.route, table))
    models = {label: model.to_dict() for label, model in table.largest(DIGEST_MODELS)}
    return {"models": models, "not_kept": table.not_kept}


def section() -> dict[str, Any]:
    """The dump's part: all requests that were looked at; and of the last ones, what is alive now, long
    after their end: instances that something keeps."""
    return {
        "models": {
            label: {**model.counts(), "requests": model.requests}
            for label, model in _process.largest(DUMP_MODELS)
        },
        "finished_requests": [
            {"route": route, "models": {label: m.to_dict() for label, m in table.largest(5)}}
            for route, table in tuple(_finished)
        ],
        "not_kept": _process.not_kept,
    }


def reset() -> None:
    """Forget all: a forked child's table is its own."""
    _process.by_label.clear()
    _process.not_kept = 0
    _finished.clear()
