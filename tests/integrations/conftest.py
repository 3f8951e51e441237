"""A stand-in for the recorder: it writes down what a middleware does with spans and phases."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import fastalloc


class Scope:
    def __init__(self, log: list[str], kind: str, name: str) -> None:
        self._log, self._kind, self.name = log, kind, name

    def __enter__(self) -> Scope:
        self._log.append(f"+{self._kind} {self.name}")
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._log.append(f"-{self._kind} {self.name}{f' {kind.__name__}' if kind else ''}")

    def rename(self, name: str) -> None:
        self.name = name


@pytest.fixture
def scopes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was entered (+) and left (-), in order."""
    log: list[str] = []
    monkeypatch.setattr(fastalloc, "span", lambda name: Scope(log, "span", name), raising=False)
    monkeypatch.setattr(fastalloc, "phase", lambda name: Scope(log, "phase", name), raising=False)
    serving = SimpleNamespace(
        serving=lambda: log.append("serving"), follow=lambda awaitable: awaitable
    )
    monkeypatch.setattr(fastalloc, "profiler", serving, raising=False)
    return log
