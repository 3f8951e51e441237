"""What a tracker has put in the places of a framework's functions, until it is taken away again."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Replaced:
    """Functions of classes and modules, and what was there before. True while any is replaced."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._before)

    def put(self, owner: Any, name: str, function: Any) -> None:
        """`function` in the place of the owner's `name`, be it its own or inherited."""
        self._before.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, function)

    def restore(self) -> None:
        """Everything as it was, the last first."""
        while self._before:
            owner, name, before = self._before.pop()
            if before is None:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, before)
