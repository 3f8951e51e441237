"""Scopes that record nothing: where the compiled core cannot be loaded, the app runs all the same."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def name_of(name: object) -> str:
    """As in _core."""
    try:
        text = getattr(name, "__qualname__", None)
        return text if isinstance(text, str) else str(name)
    except Exception:
        return "(name could not be shown)"


class Scope:
    """Does nothing, at the cost of an empty `with`."""

    name: str
    named_by_function = False

    def __new__(cls, name: object, /, *args: object, **kwargs: object) -> Any:
        scope = super().__new__(cls)
        scope.name, scope.named_by_function = name_of(name), callable(name)
        return scope

    def __init__(self, name: object, /, **attributes: object) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def totals(self) -> tuple[int, int, int, int, int, int]:
        """Nothing was counted."""
        return (0, 0, 0, 0, 0, 0)

    def record_closely(self, interval_bytes: int) -> None:
        """Nothing is recorded, however closely."""

    def suspend(self) -> None:
        """Nothing to leave."""

    def resume(self) -> None:
        """Nothing to go on in."""


class Span(Scope):
    """See fastalloc.span."""

    attributes: dict[str, object]
    id = 0

    def __init__(self, name: object, /, **attributes: object) -> None:
        self.attributes = attributes

    def gather(self) -> dict[str, Any]:
        """Nothing will be gathered."""
        return {}

    def rename(self, name: object) -> None:
        """Keep the name; nobody reads it."""
        self.name = name_of(name)


class RequestSpan(Span):
    """A request of which nothing is known but what it is told. See fastalloc.requests.Request."""

    kind = error = chosen = phase = ""
    status: object = 0
    ended = False
    detailed = _recorded = _named = False
    _forced_route = ""
    _route_of: object = None

    def open(self, kind: str, named: bool, route_of: object, token: object) -> None:
        """It is not recorded."""
        self.kind = kind
        self.phases: dict[str, Any] = {}
        self.digests: dict[str, Any] = {}
        self.checkpoints: list[Any] = []

    def enter(self, name: str) -> None:
        """There are no phases."""

    def leave(self) -> None:
        """There are no phases."""

    def end(self, error: BaseException | None = None) -> None:
        """Nothing is told."""
        self.ended = True
        self.error = type(error).__name__ if error is not None else self.error


class Opener:
    """Of requests that are not recorded."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def know(self, known: dict[Any, Any], routes: list[Any]) -> None:
        """Nothing will be named."""

    def begin(self, scope: object, send: object) -> None:
        """None: it is not recorded."""


class Sending:
    """What stands in for a request's `send`: of these, none is made."""


class RouteTotals:
    """Sums nothing."""

    count = errors = 0

    def add(self, request: object) -> int:
        """Nothing was measured."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Nothing was summed."""
        return {}


class Phase(Scope):
    """See fastalloc.phase."""


def active() -> bool:
    """Nothing is recorded."""
    return False


def set_route_totals(totals: dict[str, RouteTotals], all_are_told: bool) -> None:
    """There is nobody to tell."""


def takes_tokens() -> bool:
    """Nothing can be forced."""
    return False


def context_number() -> int:
    """They are not told apart."""
    return 0
