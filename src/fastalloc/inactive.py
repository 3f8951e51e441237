"""Scopes that record nothing: where the compiled core cannot be loaded, the app runs all the same."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Scope:
    """Does nothing, at the cost of an empty `with`."""

    name: str

    def __new__(cls, name: object, /, *args: object, **kwargs: object) -> Any:
        scope = super().__new__(cls)
        scope.name = str(name)
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
        self.name = str(name)


class Phase(Scope):
    """See fastalloc.phase."""


class Meter:
    """Measures nothing."""

    count = bytes = times = 0

    def begin(self) -> None:
        """Count from here."""

    def end(self) -> None:
        """Up to here."""
