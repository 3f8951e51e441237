"""A folder of recordings, and the command line run inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastalloc.cli import main
from tests.recording.synthetic import SyntheticRecording

ORDERS_LINE = "/app/site-packages/shop/orders.py:10"
MIB = 1 << 20


@dataclass
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def fastalloc(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `fastalloc ARGUMENTS...`."""

    def command(*arguments: object) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command


def shop_recording(pid: int = 4242, state: str = "exited") -> SyntheticRecording:
    """A shop whose request /orders/ holds most of its memory."""
    recording = SyntheticRecording(pid=pid, state=state)
    orders = recording.site([("load_orders", "/app/site-packages/shop/orders.py", 10)])
    start = recording.site([("main", "/app/main.py", 3)])
    span = recording.span("GET /orders/", attributes="method=GET", count=5, bytes=9 * MIB)
    phase = recording.phase("render", "GET /orders/")
    recording.live(size=1000, weight=8 * MIB, site=orders, span=span, phase=phase)
    recording.live(size=MIB, weight=MIB, site=start)
    recording.thread(count=1234, bytes=20 * MIB)
    recording.lose("deep_stack", 7)
    recording.options(
        {
            "options": {"mode": "light", "interval_bytes": 524288},
            "sources": {"mode": "environment", "interval_bytes": "default"},
            "program": "manage.py",
        }
    )
    return recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds two recordings of process 4242 and a newer one of process 5151."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    small = SyntheticRecording(pid=4242)
    small.live(size=10)
    small.write(folder / "fastalloc-4242-1700000000000.recording")
    shop_recording().write(folder / "fastalloc-4242-1700000060000.recording")
    other = SyntheticRecording(pid=5151)
    other.live(size=3 * MIB)
    other.write(folder / "fastalloc-5151-1700000090000.recording")
    return folder


@pytest.fixture
def recording(folder: Path) -> Path:
    """The shop's recording."""
    return folder / "fastalloc-4242-1700000060000.recording"
