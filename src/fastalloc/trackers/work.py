"""What the trackers find out in one request that is looked at in detail, and how they look.

    work = current()                      # None: this request is not looked at
    section = apart(_breaker, begin, work)
    section.enter()                       # what is allocated from here on is the query's
    ...
    section.leave()
    apart(_breaker, end, section)         # what this allocates counts for nobody

Laws: what a tracker does in a request is run by `apart`: under the tracker's breaker, and counted for the
process's phase "fastalloc", not for the request. Every table has an end, and counts what it left out.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar

from fastalloc._core import Detour, Phase, current_work, set_works
from fastalloc.tracebacks import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from fastalloc.breaker import Breaker
    from fastalloc.requests import Request

    Function = TypeVar("Function", bound=Callable[..., Any])

OWN_PHASE = "fastalloc"
MAX_LABELS = 256
MAX_NESTED = 100
OTHER_LABEL = "query (other)"

_works: set[Work] = set()  # of the requests that are looked at just now: each has its own
_labels: set[str] = set()
_open: ContextVar[Section | None] = ContextVar("fastalloc_section", default=None)
set_works(_works)

current: Callable[[], Work | None] = current_work
"""The work of the request that runs in this context, None where it is not looked at: see _core."""


class Work:
    """What is known of one request. notes: dict from a tracker's name to what it keeps of its own.
    sections: those that are open. readings: of results that are read by a call for each row."""

    __slots__ = ("notes", "readings", "request", "sections")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.notes: dict[str, Any] = {}
        self.sections: list[Section] = []
        self.readings: list[Any] = []


def began(request: Request) -> None:
    """The request is looked at from here on."""
    work = request.work = Work(request)
    _works.add(work)


def ended(request: Request) -> Work | None:
    """The request is over; its work, to be put into a digest."""
    work: Work | None = request.work
    request.work = None
    if work is not None:
        _works.discard(work)
    return work


def running() -> list[Work]:
    """The works of all requests that are looked at just now."""
    return list(_works)


def forget() -> None:
    """A forked child begins with none of its parent's requests."""
    while _works:
        _works.pop().request.work = None


def apart(breaker: Breaker, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) for a tracker: None where that raises or the tracker is switched off. Adds about
    2 us to what the function takes."""
    own = Phase(OWN_PHASE, quiet=True, apart=True)
    own.__enter__()
    try:
        return breaker.call(function, *args)
    finally:
        own.__exit__(None, None, None)


def detour(
    original: Function,
    detailed: Callable[..., Any],
    *,
    anywhere: bool = False,
    like: Callable[..., Any] | None = None,
) -> Function:
    """`original`, or while the request of the running context is looked at `detailed`, which stands for it; with
    `anywhere` while any request is. Passed in 0.1 us, without a frame of ours. like: whose name it has, if not the
    original's. TypeError for what is no function, but a descriptor of another kind.
    """
    if isinstance(original, (staticmethod, classmethod, property)):
        raise TypeError(f"{original!r} is no function")
    made: Any = functools.wraps(like or original)(Detour(original, detailed, anywhere))
    return made  # type: ignore[no-any-return]


def around(
    original: Callable[..., Any],
    breaker: Breaker,
    begin: Callable[[Work, tuple[Any, ...]], Section | None],
    end: Callable[[Section, Any], object],
) -> Callable[..., Any]:
    """`original`, in a section of its own while a request is looked at: begin(work, arguments) makes it,
    or None for none; end(section, result) is told of it afterwards, with None where `original` raised."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            work = current()
            section = None if work is None else apart(breaker, begin, work, args)
            if section is None:
                return original(*args, **kwargs)
            section.enter()
            result = None
            try:
                result = original(*args, **kwargs)
            finally:
                section.leave()
                apart(breaker, end, section, result)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return wrapper


def around_coroutine(
    original: Callable[..., Any],
    breaker: Breaker,
    begin: Callable[[Work, tuple[Any, ...]], Section | None],
    end: Callable[[Section, Any], object],
) -> Callable[..., Any]:
    """Likewise of a coroutine function."""

    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            work = current()
            section = None if work is None else apart(breaker, begin, work, args)
            if section is None:
                return await original(*args, **kwargs)
            section.enter()
            result = None
            try:
                result = await original(*args, **kwargs)
            finally:
                section.leave()
                apart(breaker, end, section, result)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return wrapper


class Section:
    """A stretch of a request whose allocations count for one query; in the recording a phase.

    Sections nest: what is allocated in an inner one is not the outer one's. subject: whatever opened
    it knows it again by. query: what it counts for, once that is known. nested_*: of the inner ones.
    """

    __slots__ = (
        *("_outer", "_phase", "allocations", "bytes", "fetched_bytes", "label"),
        *("is_executing", "nested_allocations", "nested_bytes", "nested_count", "query"),
        *("query_set", "reading"),
        *("rows_asked_for", "seconds", "subject", "within", "work"),
    )

    def __init__(self, work: Work, label: str, subject: object = None) -> None:
        self.work = work
        self.subject = subject
        self.query: Any = None
        self.allocations = self.bytes = 0
        self.nested_allocations = self.nested_bytes = self.nested_count = 0
        self.fetched_bytes: int | None = None  # its bytes when the rows had been read, not hydrated
        self.seconds = 0.0
        self.is_executing = False  # its statement, just now
        self.query_set: object = None  # whose rows are read just now
        self.reading: Any = None  # its rows, while they are read one by one
        self.rows_asked_for = 0  # by calls for one row each
        self.label = label
        self._outer: Section | None = None
        self.within: Section | None = None  # the outer one, once this one was left
        self._phase: Any = None

    def enter(self) -> None:
        """From here on, this context allocates for it."""
        self._outer = _open.get()
        _open.set(self)
        self.work.sections.append(self)
        self._phase = Phase(self.label, quiet=True)
        self._phase.__enter__()

    def leave(self) -> None:
        """It is over: `bytes`, `allocations` and `seconds` are its own, without inner sections'."""
        phase, self._phase = self._phase, None
        if phase is None:
            return
        phase.__exit__(None, None, None)
        if _is_inside(_open.get(), self):
            _open.set(self._outer)
        if self in self.work.sections:
            self.work.sections.remove(self)
        duration_ns, allocations, size = phase.totals()[:3]
        self.seconds = duration_ns / 1e9
        self.allocations = max(allocations - self.nested_allocations, 0)
        self.bytes = max(size - self.nested_bytes, 0)
        if self._outer is not None:
            self._outer.nested_allocations += allocations
            self._outer.nested_bytes += size
            executions = getattr(self.query, "executions", 0)
            self._outer.nested_count += executions + self.nested_count
            self.within, self._outer = self._outer, None

    def suspend(self) -> None:
        """Leave it for a while, as a generator does that yields."""
        if self._phase is not None:
            self._phase.suspend()
        _open.set(self._outer)

    def resume(self) -> None:
        """Go on in it."""
        self._outer = _open.get()
        _open.set(self)
        if self._phase is not None:
            self._phase.resume()

    def own_totals(self) -> tuple[int, int]:
        """(allocations, bytes) so far, while it is open."""
        if self._phase is None:
            return 0, 0
        _, allocations, size = self._phase.totals()[:3]
        return allocations - self.nested_allocations, size - self.nested_bytes

    def own_bytes(self) -> int:
        """So far, while it is open."""
        return int(self._phase.totals()[2]) - self.nested_bytes if self._phase is not None else 0


def _is_inside(inner: Section | None, outer: Section) -> bool:
    """Whether `inner` is `outer` or one that was opened in it (and perhaps never left)."""
    for _ in range(MAX_NESTED):
        if inner is None or inner is outer:
            break
        inner = inner._outer
    return inner is outer


def innermost() -> Section | None:
    """The section that is open in this context."""
    return _open.get()


def open_sections() -> Iterator[Section]:
    """Those that are open in this context, from the innermost to the outermost."""
    section = _open.get()
    for _ in range(MAX_NESTED):
        if section is None:
            break
        yield section
        section = section._outer


def bounded_label(label: str) -> str:
    """The label, while there are no more than `MAX_LABELS` in this process: the recording's names are
    few. "query (other)" beyond."""
    if label in _labels:
        return label
    if len(_labels) >= MAX_LABELS:
        return OTHER_LABEL
    _labels.add(label)
    return label
