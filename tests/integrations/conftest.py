"""What a middleware does with requests: written down by a stand-in for them, or told by real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fastalloc
from fastalloc import _core, profiler, requests
from fastalloc.requests import endings


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

    monkeypatch.setattr(requests, "begin", begin)
    monkeypatch.setattr(requests, "active", lambda: True)
    monkeypatch.setattr(profiler, "serving", lambda: log.append("serving"))
    return log


class Recorded:
    """What was entered (+) and left (-), in order, as the recording and the requests tell it."""

    def __init__(self) -> None:
        self.serving: list[str] = []
        self.ended: list[requests.Request] = []

    def list(self) -> list[str]:
        records = [r for r in fastalloc.snapshot().records if r["kind"] in ("span", "phase")]
        errors = {request.id: request.error for request in self.ended}
        phases = [r for r in records if r["kind"] == "phase"]
        told = []
        for record in records:
            begin, end = int(record["start_ns"]), int(record["time_ns"])
            kind, left = str(record["kind"]), ""
            if kind == "span":
                left = f" {errors[int(record['span_id'])]}".rstrip()
            elif any(begin > r["start_ns"] and end < r["time_ns"] for r in phases):
                kind = "inner"
            told += [(begin, f"+{kind} {record['name']}"), (end, f"-{kind} {record['name']}{left}")]
        return [*self.serving, *(text for _, text in sorted(told))]

    def __eq__(self, other: object) -> bool:
        return self.list() == other

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: int) -> str:
        return self.list()[index]

    def __contains__(self, text: str) -> bool:
        return text in self.list()

    def __repr__(self) -> str:
        return repr(self.list())


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorded]:
    """The same of real requests, in a recording of this process."""
    told = Recorded()
    monkeypatch.delenv("FASTALLOC_MODE", raising=False)
    monkeypatch.setattr(profiler, "serving", lambda: told.serving.append("serving"))
    monkeypatch.setattr(requests.Request, "_finish", lambda self: told.ended.append(self))
    fastalloc.start(mode="light", dir=tmp_path / "recordings", request_percent=0, trackers="none")
    _core.set_route_totals({}, True)  # each request that ends is told
    yield told
    fastalloc.stop()
    endings.forget()
