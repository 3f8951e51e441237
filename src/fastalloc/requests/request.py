"""A request: a span with phases of its own, and what the integration and the trackers know of it."""

from __future__ import annotations

import os

from fastalloc import profiler, spans, tokens
from fastalloc.breaker import Breaker
from fastalloc.requests import endings
from fastalloc.requests.choice import GROWING_BYTES, LARGEST_BYTES, Choice

try:
    from fastalloc import _core
    from fastalloc._core import Opener, RequestSpan, Sending, takes_tokens
    from fastalloc._core import is_active as active

    _core.set_sizes(GROWING_BYTES, LARGEST_BYTES)
except ImportError:
    from fastalloc.inactive import Opener, RequestSpan, Sending, active, takes_tokens  # type: ignore[assignment]

    _core = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc._core import Part

__all__ = [
    "Opener",
    "Request",
    "Sending",
    "active",
    "begin",
    "choice",
    "current",
    "observe",
    "prepare",
    "takes_tokens",
]

MAX_DIGESTS = 16
MAX_CHECKPOINTS = 32
# Between samples of a forced request: nearly each block of a page or more, and of small ones those that
# are many. To take every allocation would slow the request down by ten.
FORCED_INTERVAL_BYTES = 4096
DRAW_FAILED = 1000  # requests until it is tried again


class Request(RequestSpan, spans.span):
    """One unit of work of a framework. Made by `begin`. Its methods never raise.

    name: the method and the route's template, or a task's name; `rename` sets it. kind: "http",
    "websocket", "task" or "job". status: int or str, how it ended, 0 while unknown. error: the class
    of the exception that ended it, by name alone, or "". chosen: why it is looked at in detail: "", or
    "lot", "mode", "route", "growing", "forced". ended: bool. phases: dict from a
    phase's name to what phases of that name came to (entered, duration_ns, count, bytes,
    own_bytes, live_change_bytes). checkpoints: list of (name, totals) in order. digests: dict from a tracker's
    name to what it has to say.
    """

    __slots__ = ()

    phases: dict[str, Part]
    checkpoints: list[tuple[str, tuple[int, ...]]]
    digests: dict[str, dict[str, Any]]

    @property
    def route(self) -> str:
        """What the request is called: its span's name."""
        return self.name

    def digest(self, name: str, content: dict[str, Any]) -> None:
        """Keep what a tracker has found, for the log. One per name: the last. JSON-able, numbers and
        names only, a few KiB: what is longer is left out of the log."""
        if name in self.digests or len(self.digests) < MAX_DIGESTS:
            self.digests[name] = content

    def passed(self, checkpoint: str) -> None:
        """A checkpoint was recorded inside."""
        if len(self.checkpoints) < MAX_CHECKPOINTS:
            self.checkpoints.append((checkpoint, self.totals()))

    def _mark(self, name: str) -> None:
        spans.checkpoint(name)

    def _finish(self) -> None:
        """It has ended, and is recorded."""
        _ending.call(self._tell)

    def _keep(self) -> None:
        """It was large, and else like most."""
        _ending.call(endings.keep, self, choice().for_its_size)

    # --- what is chosen ---

    def _draw(self) -> int:
        """How many requests pass before one is chosen by lot."""
        return int(_choosing.call(_draw, default=DRAW_FAILED))

    def _begin(self, token: str | None, drawn: bool) -> None:
        """It may be chosen at its begin. drawn: by lot."""
        _choosing.call(self._choose_at_begin, token, drawn)

    def _choose_at_begin(self, token: str | None, drawn: bool) -> None:
        if token:
            route = tokens.check(token, profiler.option("token_secret"))
            if route == "":
                self._choose("forced")
                return
            self._forced_route = route or ""
        if drawn:
            self._choose("lot")
            return
        if _core.mode() in ("aggressive", "targeted"):
            self._choose("mode")
            return
        if self._named:
            self._choose_route()

    def _look(self) -> bool:
        """Whether it is to be looked at after all: asked while its route is not known, and once it is large."""
        return bool(_choosing.call(self._look_again, default=False))

    def _look_again(self) -> bool:
        route = self._route()
        if route:
            self.rename(route)
        if not self.chosen and choice().for_growing(self.name, self.totals()[4]):
            self._choose("growing")
        return bool(self.chosen)

    def force(self) -> None:
        """Look at this request closely, whatever it is."""
        if self._recorded and not self.chosen:
            _choosing.call(self._choose, "forced")

    def _choose_for_route(self) -> None:
        """Its route is known now, and one is to be looked at, or a token has named one."""
        _choosing.call(self._choose_route)

    def _choose_route(self) -> None:
        if self._forced_route and self._forced_route in (self.name, self.name.partition(" ")[2]):
            self._choose("forced")
        elif choice().for_its_route(self.name):
            self._choose("route")

    def _choose(self, reason: str) -> None:
        self.chosen = reason
        if reason == "forced":
            self.record_closely(FORCED_INTERVAL_BYTES)
        for observer in _observers:
            observer.begin(self)

    def _tell(self) -> None:
        if self.chosen:
            choice().looked_at(self.name)
            for observer in _observers:
                observer.end(self)
        endings.ended(self, choice().for_its_size)


class _Observer:
    """What a tracker wants to be told of requests in detail."""

    __slots__ = ("_began", "_breaker", "_ended")

    def __init__(
        self,
        name: str,
        began: Callable[[Request], object] | None,
        ended: Callable[[Request], object] | None,
    ) -> None:
        self._breaker = Breaker(name)
        self._began = began
        self._ended = ended

    def begin(self, request: Request) -> None:
        if self._began is not None:
            self._breaker.call(self._began, request)

    def end(self, request: Request) -> None:
        if self._ended is not None:
            self._breaker.call(self._ended, request)


_observers: list[_Observer] = []
_prepared = False


def prepare() -> None:
    """Load what a closer look needs, outside all requests: at the latest before the first one begins.
    Integrations call it when the program sets them up. Never raises; tens of milliseconds, once."""
    global _prepared
    if not _prepared and _core is not None and _core.is_active():
        _prepared = True
        _choosing.call(_load_trackers)


def _load_trackers() -> None:
    from fastalloc import trackers

    trackers.install(str(profiler.option("trackers")))


_choosing = Breaker("choice of requests")
_ending = Breaker("end of requests")
_choice: Choice | None = None


def choice() -> Choice:
    """This process's choices, under the seed in force."""
    global _choice
    if _choice is None:
        _choice = Choice(int(profiler.option("seed")))
        if _core is not None:
            _core.set_looks_due(_choice.looks_due)
    return _choice


def _draw() -> int:
    return choice().draw(profiler.option("request_percent"))


def _forget() -> None:
    global _choice
    _choice = None
    endings.forget()
    if _core is not None:
        _core.options_changed(_core.takes_tokens())
        _core.set_looks_due({})


os.register_at_fork(after_in_child=_forget)


def begin(
    name: str,
    *,
    kind: str = "http",
    token: str | None = None,
    named: bool = True,
    route_of: Callable[[], str | None] | None = None,
) -> Request:
    """Begin a request and enter its span. Never raises; nothing is recorded while recording is off.

    name: a template and never a raw path. named: whether that is its name; else it is called so until
    `rename`, and not chosen for it. route_of: gives the name once the framework knows the route, None
    before: asked when a tracker wants to know whether to look. token: the header that may force a closer
    look. Costs about 1 us.
    """
    if not _prepared:
        prepare()
    request = Request(name)
    request.open(kind, named, route_of, token)
    return request


def current() -> Request | None:
    """The request that runs in this context (thread, task, greenlet), or None. About 0.1 us."""
    found: Any = _core.current_request() if _core is not None else None
    return None if found is None or found.ended else found


def observe(
    name: str,
    began: Callable[[Request], object] | None = None,
    ended: Callable[[Request], object] | None = None,
) -> None:
    """Be told of requests that are looked at in detail, each call under the breaker `name`.

    began(request): detail begins, with the request or later. ended(request): the request's span is
    closed; the last chance for `request.digest`. Both run on the request's path: be quick.
    """
    _observers.append(_Observer(name, began, ended))
