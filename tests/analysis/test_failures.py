"""Which of many failed allocations is the one to blame."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastalloc.analysis.events import happened
from fastalloc.analysis.failures import Failure, guilty_failure
from fastalloc.recording.layout import Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SECOND, SyntheticRecording

OWN = [("load", "/app/load.py", 7), ("main", "/app/main.py", 1)]
LIBRARY = [("decode", "/usr/lib/python3.11/json/decoder.py", 3), *OWN]
PRINTING = [("print_tb", "/usr/lib/python3.11/traceback.py", 9)]


class Failed:
    """A recording whose allocations failed, one a second."""

    def __init__(self, path: Path) -> None:
        self.path = path / "recording"
        self.recording = SyntheticRecording(state="exited", exit_ns=50 * SECOND)
        self.seconds = 0

    def fail(self, size: int, stack: list[tuple[str, str, int]] | None = None, b: int = 0) -> None:
        self.seconds += 1
        node = 0
        if stack:
            site = self.recording.site(stack)
            node = int(self.recording.tables[Region.SITES][site]["node"])
        self.recording.event(
            "failed_allocation", time_ns=self.seconds * SECOND, a=size, b=b, node=node
        )

    def guilty(self) -> Failure | None:
        return guilty_failure(read(self.recording.write(self.path)))


@pytest.fixture
def failed(tmp_path: Path) -> Failed:
    return Failed(tmp_path)


def test_without_a_failure_there_is_none(failed: Failed) -> None:
    assert failed.guilty() is None


def test_what_fails_at_the_exit_without_a_stack_is_not_to_blame(failed: Failed) -> None:
    failed.fail(5033, OWN)
    for size in (8192, 8225):
        failed.fail(size)
    assert failed.guilty() == Failure(5033, 1, 1.0, "/app/load.py:7", "load")


def test_nor_is_what_fails_while_the_exception_is_printed(failed: Failed) -> None:
    failed.fail(5033, LIBRARY)
    failed.fail(100, PRINTING)
    assert failed.guilty() == Failure(5033, 1, 1.0, "/app/load.py:7", "load")


def test_the_last_before_the_end_was_noted_counts(failed: Failed) -> None:
    failed.fail(1, [("early", "/app/early.py", 1)])
    failed.fail(2, OWN)
    failed.seconds = 50
    failed.fail(3, [("at_exit", "/app/exit.py", 1)])
    guilty = failed.guilty()
    assert guilty is not None and guilty.size == 2


def test_without_any_stack_the_last_is_told(failed: Failed) -> None:
    failed.fail(1)
    failed.fail(2)
    assert failed.guilty() == Failure(2, 1, 2.0, "", "")


def test_repeats_are_counted_apart_from_the_domain(failed: Failed) -> None:
    failed.fail(4096, OWN, b=6 << 32 | 2)
    guilty = failed.guilty()
    assert guilty is not None and guilty.times == 7
    (event,) = happened(read(failed.path))
    assert event.text == "tried to allocate 4096 bytes (obj), and there was no memory, 7 times"
