"""Circuit breakers: a layer of ours that keeps failing is switched off, and tried again later.

    closed --10 failures in a row--> open --60 s--> half-open: one trial
      ^                               ^                        |
      +------- it succeeded ----------+------- it failed ------+

Law: no lock is held while the layer runs. The one lock there is may be entered again by its own
thread (a signal handler, a finalizer), and is made anew in a forked child.
"""

from __future__ import annotations

import os
from _thread import RLock
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPENS_AT = 10
RETRY_SECONDS = 60.0

_breakers: dict[str, Breaker] = {}
_lock = RLock()
os.register_at_fork(after_in_child=lambda: _lock._at_fork_reinit())  # type: ignore[attr-defined]

# Called as listener(layer, is_open) when a breaker opens or closes; errors in it are dropped.
listener: Callable[[str, bool], object] | None = None


class Breaker:
    """The breaker of one layer. `Breaker(layer)` gives the same object for the same layer.

    layer: a name from our own code ("dump section modules"), never one from traffic: a breaker is
    kept for good. Attributes: failures: int, in a row. last_error: the class of the last exception,
    by name alone (its text might hold a secret), "" if there was none. state: see below.
    """

    __slots__ = ("_is_open", "_retry_at", "failures", "last_error", "layer")

    layer: str
    failures: int
    last_error: str
    _is_open: bool
    _retry_at: float

    def __new__(cls, layer: str) -> Breaker:
        with _lock:
            known = _breakers.get(layer)
            if known is None:
                known = _breakers[layer] = super().__new__(cls)
                known.layer, known.failures, known.last_error = layer, 0, ""
                known._is_open, known._retry_at = False, 0.0
            return known

    @property
    def state(self) -> str:
        """ "closed": calls go through. "open": they do not. "half-open": the next one is a trial."""
        if not self._is_open:
            return "closed"
        return "half-open" if monotonic() >= self._retry_at else "open"

    def call(self, function: Callable[..., Any], *args: Any, default: Any = None) -> Any:
        """function(*args), or `default` where that raises or the breaker is open.

        Exceptions are counted and never passed on, but for those that are no Exception and
        belong to the program: KeyboardInterrupt, SystemExit, the cancelling of a task. Costs about
        0.3 us. Any thread.
        """
        is_trial = self._is_open
        if is_trial and not self._take_trial():
            return default
        try:
            result = function(*args)
        except Exception as error:
            self._failed(type(error).__name__, is_trial)
            return default
        if self.failures:
            self._succeeded(is_trial)
        return result

    def to_dict(self) -> dict[str, object]:
        """Attributes and state, fit for JSON."""
        return {
            "layer": self.layer,
            "state": self.state,
            "failures": self.failures,
            "last_error": self.last_error,
        }

    def __repr__(self) -> str:
        return f"<breaker of {self.layer}: {self.state}>"

    def _take_trial(self) -> bool:
        """Whether this call is the one that tries again. One that never returns is replaced by
        another as much later."""
        with _lock:
            now = monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + RETRY_SECONDS
            return True

    def _failed(self, error: str, is_trial: bool) -> None:
        with _lock:
            self.failures += 1
            self.last_error = error
            opens = not self._is_open and self.failures >= OPENS_AT
            if opens or is_trial:
                self._is_open = True
                self._retry_at = monotonic() + RETRY_SECONDS
        if opens:
            _tell(self.layer, True)

    def _succeeded(self, is_trial: bool) -> None:
        """A call that began before the breaker opened does not close it."""
        with _lock:
            if self._is_open and not is_trial:
                return
            closes = self._is_open
            self._is_open = False
            self.failures = 0
        if closes:
            _tell(self.layer, False)


def breakers() -> list[Breaker]:
    """All breakers, in the order in which their layers were first named."""
    with _lock:
        return list(_breakers.values())


def _tell(layer: str, is_open: bool) -> None:
    if listener is not None:
        try:
            listener(layer, is_open)
        except Exception:  # telling is not worth a failure of what was asked for
            pass
