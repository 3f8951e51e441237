"""A stand-in for requests: it writes down what a middleware does with them."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

import fastalloc
from fastalloc import profiler, requests


class Request:
    """Writes into a log what was entered (+) and left (-), in order."""

    def __init__(self, log: list[str], name: str, kind: str) -> None:
        self._log, self.name, self.kind = log, name, kind
        self.phase = ""
        self.status: int | str = 0
        log.append(f"+span {name}")

    def enter(self, name: str) -> None:
        self.leave()
        self.phase = name
        self._log.append(f"+phase {name}")

    def leave(self) -> None:
        if self.phase:
            self._log.append(f"-phase {self.phase}")
        self.phase = ""

    def end(self, error: BaseException | None = None) -> None:
        self.leave()
        self._log.append(f"-span {self.name}{f' {type(error).__name__}' if error else ''}")

    def rename(self, name: str) -> None:
        self.name = name


@pytest.fixture
def scopes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was entered (+) and left (-), in order."""
    log: list[str] = []

    def begin(name, *, kind="http", token=None, named=True, route_of=None):
        return Request(log, name, kind)

    @contextmanager
    def phase(name):
        log.append(f"+inner {name}")
        yield
        log.append(f"-inner {name}")

    monkeypatch.setattr(fastalloc, "phase", phase)
    monkeypatch.setattr(requests, "begin", begin)
    monkeypatch.setattr(requests, "active", lambda: True)
    monkeypatch.setattr(profiler, "serving", lambda: log.append("serving"))
    return log
